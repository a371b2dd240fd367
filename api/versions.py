"""Versions of the data, per UTC day: what makes a cached answer valid, and whether Postgres is there at all.

Belongs here: one connection that reads all versions every 50 ms in one query and listens for merges.
Does not belong here: cached answers (`cache`); reads and writes of requests (`database`).

A day's version is its settled revision and a fingerprint (count and sum of ids) of its pending batches. Landings
don't notify, because a NOTIFY in every commit serialises them; merges do, and end the wait early.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from hashlib import blake2b
from typing import Any

import psycopg
import structlog
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from analytics_pipeline.errors import EnvironmentFault, SchemaMismatch
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.migrations import check_schema
from analytics_pipeline.telemetry import POSTGRES_UP

POLL = 0.05
"""Seconds between two readings."""

MAX_AGE = 1.0
"""Seconds after which a reading no longer proves that a cached answer is valid."""

_MOST_DIGESTS = 1_000
"""Ranges of days whose version is kept: while nothing lands, one reading answers for long."""

_RECONNECT = 0.5
_LONGEST_START = 10.0
_GUARD = 0.5
_SILENT_TURNS = 6

_MERGED = "merged"
_FINGERPRINTS = """
SELECT NULL::date, count(*), coalesce(sum(hashint8extended(revision, day - date '1970-01-01')), 0)::text
FROM rollup_days
UNION ALL
SELECT (hour AT TIME ZONE 'UTC')::date, count(*), sum(batch_id)::text
FROM pending_batches
GROUP BY 1
"""
"""One row without a day that changes whenever a revision does, and one row per day with pending batches."""

_REVISIONS = "SELECT day, revision FROM rollup_days"

_log = structlog.get_logger()


class Versions:
    """One reading: immutable, so that all keys made from it belong together."""

    def __init__(
        self, revisions: dict[date, int], pending: dict[date, tuple[int, str]], read_at: float
    ) -> None:
        self.read_at = read_at
        self._pending = frozenset(pending)
        self._versions = sorted(
            (day, f"{day.toordinal()}:{revisions.get(day, 0)}:{pending.get(day, '')}")
            for day in revisions.keys() | pending.keys()
        )
        self._digests: dict[tuple[date, date], str] = {}

    def digest(self, first: date, last: date) -> str:
        """The version of the UTC days `first` to `last`, both included; the same in every process."""
        found = self._digests.get((first, last))
        if found is None:
            if len(self._digests) >= _MOST_DIGESTS:
                self._digests.clear()
            text = ";".join(version for day, version in self._versions if first <= day <= last)
            found = self._digests[first, last] = blake2b(text.encode(), digest_size=12).hexdigest()
        return found

    def is_quiet(self, first: date, last: date) -> bool:
        """Whether nothing is pending in these days, so that their version may last."""
        return not any(first <= day <= last for day in self._pending)

    def same_as(self, other: "Versions") -> bool:
        """Whether nothing changed between the two readings."""
        return self._versions == other._versions

    def read_again(self, read_at: float) -> None:
        """Note that a later reading was the same."""
        self.read_at = read_at


Listener = Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]


class Watcher:
    """Reads the versions for as long as it runs; reconnects by itself."""

    def __init__(
        self,
        conninfo: str,
        *,
        on_connect: Callable[[], Awaitable[None]],
        on_stall: Callable[[], None],
        listeners: Mapping[str, Listener],
    ) -> None:
        """Take a libpq connection string and callbacks.

        `on_connect` runs each time Postgres is back, before it counts as there; then every listener, and again
        at each notification on its channel. `on_stall` runs when Postgres has stopped answering.
        """
        self._conninfo = conninfo
        self._up = POSTGRES_UP.labels(
            "api"
        )  # not at import: a process that never asks would count as refused
        self._on_connect = on_connect
        self._on_stall = on_stall
        self._listeners = listeners
        self._versions: Versions | None = None
        self._fault: str | None = "Postgres has not been reached yet."
        self._is_asking = False
        self._answers = 0
        self._revisions: tuple[tuple[int, str], dict[date, int]] | None = None
        self._has_read = asyncio.Event()

    @property
    def fault(self) -> str | None:
        """Why Postgres cannot be used at the moment, as a sentence for callers; None when it can."""
        return self._fault

    def current(self) -> Versions | None:
        """The last reading, if it is fresh enough to prove anything."""
        versions = self._versions
        if versions is None or time.monotonic() - versions.read_at > MAX_AGE:
            return None
        return versions

    async def since(self, moment: float) -> None:
        """Wait for a reading that began at this `time.monotonic()` or later; however long that takes."""
        while self._versions is None or self._versions.read_at < moment:
            await self._has_read.wait()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch()
            except SchemaMismatch as error:
                self._down(f"The database cannot be used: {error}.")
            except (psycopg.Error, EnvironmentFault, OSError, TimeoutError) as error:
                self._down("Postgres is not reachable.", type(error).__name__)
            except Exception:  # noqa: BLE001 - without this task no answer could be told from an old one
                _log.exception("versions_failed")
                self._down("The versions of the data cannot be read, because of a defect of this service.")
            await asyncio.sleep(_RECONNECT)

    def _down(self, sentence: str, reason: str = "") -> None:
        if self._fault != sentence:
            _log.warning("postgres_unavailable", detail=sentence, reason=reason)
        self._fault = sentence
        self._up.set(0)
        self._versions = None
        self._is_asking = False

    async def _watch(self) -> None:
        await asyncio.wait_for(asyncio.to_thread(self._check_schema), _LONGEST_START)
        info = make_conninfo(
            self._conninfo,
            application_name="analytics-api-versions",
            options="-c timezone=UTC -c statement_timeout=5s",
        )
        async with await psycopg.AsyncConnection.connect(info, autocommit=True) as listening:
            guard = asyncio.create_task(self._guard(listening))
            try:
                await self._follow(listening)
            finally:
                guard.cancel()

    async def _follow(self, listening: psycopg.AsyncConnection[Any]) -> None:
        self._is_asking = True
        for channel in (_MERGED, *self._listeners):
            await listening.execute(SQL("LISTEN {}").format(Identifier(channel)))
        await self._read(listening)
        await asyncio.wait_for(self._on_connect(), _LONGEST_START)
        for listener in self._listeners.values():
            await listener(listening)
        if self._fault is not None:
            _log.info("postgres_available")
        self._fault = None
        self._up.set(1)
        while True:
            async with contextlib.aclosing(listening.notifies(timeout=POLL, stop_after=1)) as notifications:
                channels = {notification.channel async for notification in notifications}
            await self._read(listening)
            for channel in channels & self._listeners.keys():
                await self._listeners[channel](listening)

    async def _guard(self, listening: psycopg.AsyncConnection[Any]) -> None:
        """Notice that a question stays without an answer, and end it.

        Counts turns of this loop instead of seconds, so that a busy process does not blame Postgres.
        """
        silent, answers = 0, self._answers
        while True:
            await asyncio.sleep(_GUARD)
            is_silent = self._is_asking and self._answers == answers
            silent, answers = (silent + 1 if is_silent else 0), self._answers
            if silent >= _SILENT_TURNS:
                self._down("Postgres does not answer.", "stalled")
                cut(listening)
                self._on_stall()
                return

    def _check_schema(self) -> None:
        with connection(self._conninfo, name="api-schema") as opened:
            check_schema(opened)

    async def _read(self, listening: psycopg.AsyncConnection[Any]) -> None:
        asked_at = time.monotonic()
        self._is_asking = True
        rows = await (await listening.execute(_FINGERPRINTS)).fetchall()
        fingerprint = next((int(count), str(total)) for day, count, total in rows if day is None)
        if self._revisions is None or self._revisions[0] != fingerprint:
            # Read after the fingerprint: a change in between shows again in the next reading.
            found = await (await listening.execute(_REVISIONS)).fetchall()
            self._revisions = (fingerprint, dict(found))
        self._is_asking = False
        self._answers += 1
        pending = {day: (count, total) for day, count, total in rows if day is not None}
        versions = Versions(self._revisions[1], pending, asked_at)
        if self._versions is not None and versions.same_as(self._versions):
            self._versions.read_again(asked_at)
        else:
            self._versions = versions
        # Whoever waits wakes up once; the next reading has an event of its own.
        self._has_read.set()
        self._has_read = asyncio.Event()


def cut(opened: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """End the conversation with a server that has stopped answering: whoever waits gets an error at once.

    Cancelling would ask the server, and wait for it.
    """
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(opened.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
