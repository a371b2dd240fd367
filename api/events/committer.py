"""What posting events is given: an inbox that says no in time.

Belongs here: the two lanes of group commit (with and without an Idempotency-Key), the limit on the inbox's length, and
forgetting answers that have expired. Does not belong here: the queue (`group_commit`), the statements
(`storage.inbox`, `storage.idempotency`), validation (`events.posted`).
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from analytics_pipeline.storage import idempotency, inbox
from analytics_pipeline.storage.idempotency import Keyed, Settled
from analytics_pipeline.storage.inbox import Entry, Landing
from api.clock import Clock
from api.database import Connection, Database
from api.errors import Problem, Unavailable
from api.events.group_commit import GroupCommit, Weight

LOOK = 0.25
"""Seconds between two looks at the inbox's length."""

_FORGET = 60.0
_FULL_RETRY = 2.0

_log = structlog.get_logger()


class InboxCommitter:
    """Appends to the durable inbox; returns only after COMMIT."""

    def __init__(
        self,
        database: Database,
        process_id: UUID,
        clock: Clock,
        *,
        most_events: int,
        keep_answers: timedelta,
        keep_duplicates: timedelta,
    ) -> None:
        """Take the services, and the settings.

        Args:
            database: write connections.
            process_id: of this process, for the count of accepted events.
            clock: arrival times.
            most_events: that may wait in the inbox.
            keep_answers: how long an Idempotency-Key is remembered.
            keep_duplicates: how long landing tokens tell duplicates.
        """
        self._database = database
        self._process_id = process_id
        self._clock = clock
        self._most_events = most_events
        self._keep_answers = keep_answers
        self._keep_duplicates = keep_duplicates
        self._plain = GroupCommit[Entry, Landing](database, self._append)
        self._keyed = GroupCommit[Keyed, Settled](database, self._append_keyed)
        self._waiting = 0
        self._woke_at = -inbox.QUIET
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the tasks."""
        self._plain.start()
        self._keyed.start()
        self._task = asyncio.create_task(self._look_after())

    async def close(self) -> None:
        """Commit what is waiting, then stop."""
        await asyncio.gather(self._plain.close(), self._keyed.close())
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def append(self, entry: Entry) -> Landing:
        """Make the events of one request durable.

        Raises:
            Unavailable: Postgres is down, or too much waits already.
        """
        self._refuse_if_full()
        landing = await self._plain.submit(entry, Weight(entry.events, len(entry.payload)))
        self._waiting += entry.events
        return landing

    async def append_once(self, request: Keyed) -> Settled:
        """Make the events of one request durable, unless its key is known: then nothing is stored.

        Raises:
            Unavailable: as `append`.
        """
        self._refuse_if_full()
        entry = request.entry
        settled = await self._keyed.submit(request, Weight(entry.events, len(entry.payload)))
        if not settled.is_replay:
            self._waiting += entry.events
        return settled

    async def find(self, key: bytes, fingerprint: bytes) -> Settled | None:
        """What a request with this key was answered, if one came before.

        Raises:
            Unavailable: Postgres is down.
        """
        async with self._database.write() as connection:
            return await idempotency.find(
                connection, key, fingerprint, expired=self._clock() - self._keep_answers
            )

    def _refuse_if_full(self) -> None:
        if self._waiting >= self._most_events:
            raise Unavailable(
                f"More than {self._most_events} events wait to be landed (analytics.ingestion.inbox_limit); try again "
                "later.",
                kind="inbox-full",
                retry_after=_FULL_RETRY,
            )

    async def _append(self, connection: Connection, entries: Sequence[Entry]) -> list[Landing]:
        return await inbox.append(
            connection, entries, process_id=self._process_id, now=self._clock(), wake=self._is_time_to_wake()
        )

    async def _append_keyed(self, connection: Connection, requests: Sequence[Keyed]) -> list[Settled]:
        now = self._clock()
        return await idempotency.append(
            connection,
            requests,
            process_id=self._process_id,
            now=now,
            expired=now - self._keep_answers,
            wake=self._is_time_to_wake(),
        )

    def _is_time_to_wake(self) -> bool:
        now = time.monotonic()
        if now - self._woke_at < inbox.QUIET:
            return False
        self._woke_at = now
        return True

    async def _look_after(self) -> None:
        forgot_at = -_FORGET
        while True:
            await asyncio.sleep(LOOK)
            try:
                if self._waiting:
                    await self._look()
                if time.monotonic() - forgot_at >= _FORGET:
                    forgot_at = time.monotonic()
                    await self._forget()
            except Problem:
                pass  # once more at the next look
            except Exception:  # noqa: BLE001 - the edge of this task, without which the inbox would count as full
                _log.exception("inbox_look_failed")

    async def _look(self) -> None:
        """Replace the count of what this process added by the truth; what is added meanwhile comes on top."""
        before = self._waiting
        async with self._database.write() as connection:
            length = await inbox.backlog(connection, self._most_events)
        self._waiting = length + self._waiting - before

    async def _forget(self) -> None:
        now = self._clock()
        async with self._database.write() as connection:
            await idempotency.forget(connection, now - self._keep_answers)
            await inbox.forget_duplicates(connection, now - self._keep_duplicates)
