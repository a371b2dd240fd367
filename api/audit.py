"""Noting requests that write, and forgetting what has expired: the audit log, sessions, when keys were used.

Belongs here: gathering lines, and one task that writes them. Does not belong here: statements
(`analytics_pipeline.storage`), which requests count as writes (`edge`).

A write that succeeded is in the log before its answer leaves, as far as Postgres takes it; posted events and refused
requests are many and alike, so those of a second share a line.
"""

import asyncio
import time
from datetime import timedelta

import structlog

from analytics_pipeline import telemetry
from analytics_pipeline.storage import api_keys, audit_log
from analytics_pipeline.storage.audit_log import Line
from api.clock import Clock
from api.database import Database
from api.errors import BadRequest, Problem
from api.keyring import Keyring

SUBJECT = "b25.subject"
"""Key in a request's scope: what a write is about, set by its endpoint."""

MOST_LINES = 10_000
"""Lines that wait for Postgres; above it, new ones are lost, and counted."""

_PAUSE = 1.0
_TIDY = 60.0
_AT_ONCE = 1_000

_log = structlog.get_logger()

_Alike = tuple[str | None, str, str, int, str]


class AuditTrail:
    """Gathers lines and writes them."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock, keep: timedelta) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._keep = keep
        self._lines: dict[_Alike, Line] = {}
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is waiting, then stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._tidy()
        await self.flush()

    def note(
        self,
        key_id: str | None,
        method: str,
        route: str,
        status: int,
        request_id: str,
        subject: str | None = None,
        *,
        shares_line: bool,
    ) -> None:
        """Remember a request; `flush` writes it."""
        alike = (key_id, method, route, status, "" if shares_line else request_id)
        known = self._lines.get(alike)
        if known is not None:
            self._lines[alike] = known._replace(requests=known.requests + 1)
        elif len(self._lines) >= MOST_LINES:
            telemetry.AUDIT_LINES_LOST.inc()
        else:
            self._lines[alike] = Line(self._clock(), key_id, method, route, status, request_id, subject)

    async def flush(self) -> None:
        """Write what was noted; what Postgres does not take waits for the next time."""
        async with self._lock:
            taken, self._lines = self._lines, {}
            if not taken:
                return
            is_written = False
            try:
                async with (
                    self._database.write() as connection,
                    connection.transaction(),
                    connection.cursor() as cursor,
                ):
                    await cursor.executemany(audit_log.WRITE, list(taken.values()))
                is_written = True
            except BadRequest:  # a line that Postgres will never take must not hold up the others
                is_written = True
                telemetry.AUDIT_LINES_LOST.inc(len(taken))
            except Problem:
                pass  # once more in a second; if only the answer was lost, a line is there twice, never not at all
            except Exception:  # noqa: BLE001 - what was written is answered, whether or not it could be noted
                _log.exception("audit_log_failed", lines=len(taken))
            finally:
                if not is_written:
                    self._put_back(taken)

    def _put_back(self, lines: dict[_Alike, Line]) -> None:
        for alike, line in self._lines.items():
            known = lines.get(alike)
            lines[alike] = line if known is None else known._replace(requests=known.requests + line.requests)
        self._lines = lines

    async def _run(self) -> None:
        tidied_at = time.monotonic()
        while True:
            await asyncio.sleep(_PAUSE)
            await self.flush()
            if time.monotonic() - tidied_at >= _TIDY:
                tidied_at = time.monotonic()
                await self._tidy()

    async def _tidy(self) -> None:
        try:
            await self._forget()
        except Problem:
            pass  # once more in a minute
        except Exception:  # noqa: BLE001 - the edge of this task, which has lines to write yet
            _log.exception("audit_tidying_failed")

    async def _forget(self) -> None:
        now, used = self._clock(), self._keyring.take_used()
        async with self._database.write() as connection:
            if used:
                await connection.execute(api_keys.USED, (now, sorted(used)))
            await connection.execute(api_keys.FORGET_SESSIONS, (now,))
            while (
                await connection.execute(audit_log.FORGET, (now - self._keep, _AT_ONCE))
            ).rowcount == _AT_ONCE:
                pass
