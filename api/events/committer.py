"""Group commit of posted events: concurrent requests share one transaction on the inbox.

Belongs here: the bounded queue, the one committer task of a process, what a failure means to each request.
Does not belong here: the statements (`storage.inbox`), validation (`events.decode`).

While one transaction commits, the next requests gather; so the size of a batch follows the load by itself.
"""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from analytics_pipeline.storage import inbox
from api.database import Connection, Database
from api.dependencies import Clock
from api.errors import Problem, Unavailable

CAPACITY = 10_000
"""Requests that may wait; the next one is told to come back."""

MOST_ROWS = 1_000
MOST_BYTES = 4 * 1024 * 1024

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Waiting:
    payload: bytes
    done: asyncio.Future[int]


class InboxCommitter:
    """Appends payloads to the durable inbox; `append` returns only after COMMIT."""

    def __init__(
        self, database: Database, process_id: UUID, clock: Clock, *, capacity: int = CAPACITY
    ) -> None:
        self._database = database
        self._process_id = process_id
        self._clock = clock
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(capacity)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the committer task."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Commit what is waiting, then stop."""
        if self._task is None:
            return
        drained = asyncio.create_task(self._queue.join())
        await asyncio.wait([drained, self._task], timeout=5, return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, self._task):
            task.cancel()
        await asyncio.gather(drained, self._task, return_exceptions=True)
        self._refuse_rest()

    async def append(self, payload: bytes) -> int:
        """Make one payload durable and return its inbox id.

        Raises:
            Unavailable: Postgres is down, or the queue is full; nothing was accepted.
        """
        waiting = _Waiting(payload, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise Unavailable(
                "Too many events are waiting to be stored; try again shortly.", kind="overloaded"
            ) from None
        return await waiting.done

    async def _run(self) -> None:
        while True:
            batch = await self._gather()
            try:
                await self._commit(batch)
            finally:
                for waiting in batch:
                    if not waiting.done.done():
                        waiting.done.set_exception(Unavailable("The service is stopping."))
                    self._queue.task_done()

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        size = len(batch[0].payload)
        while len(batch) < MOST_ROWS and size < MOST_BYTES and not self._queue.empty():
            batch.append(self._queue.get_nowait())
            size += len(batch[-1].payload)
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Commit all together; if the rows are to blame, each alone; if Postgres is, none."""
        try:
            async with self._database.write() as connection:
                try:
                    self._settle(batch, await self._append(connection, batch))
                except (psycopg.DataError, psycopg.IntegrityError):
                    _log.warning("inbox_batch_retried_one_by_one", rows=len(batch))
                    for waiting in batch:
                        await self._commit_alone(connection, waiting)
        except Problem as problem:
            for waiting in batch:
                _fail(waiting, problem)

    async def _commit_alone(self, connection: Connection, waiting: _Waiting) -> None:
        try:
            self._settle([waiting], await self._append(connection, [waiting]))
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            _log.warning("inbox_row_refused", sqlstate=error.sqlstate)
            _fail(waiting, Unavailable("This event could not be stored."))

    async def _append(self, connection: Connection, batch: list[_Waiting]) -> list[int]:
        payloads = [waiting.payload for waiting in batch]
        return await inbox.append(connection, payloads, process_id=self._process_id, now=self._clock())

    def _settle(self, batch: list[_Waiting], ids: list[int]) -> None:
        for waiting, inbox_id in zip(batch, ids, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(inbox_id)

    def _refuse_rest(self) -> None:
        while not self._queue.empty():
            _fail(self._queue.get_nowait(), Unavailable("The service is stopping."))


def _fail(waiting: _Waiting, problem: Problem) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(problem)
