"""Group commit: concurrent requests share one transaction.

Belongs here: the bounded queue, the one task that commits, what a failure means to each request.
Does not belong here: what is committed (`committer`), the statements (`storage.inbox`, `storage.idempotency`).

While one transaction commits, the next requests gather; so the size of a batch follows the load by itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import psycopg
import structlog

from api.database import Connection, Database
from api.errors import Problem, Unavailable, internal_problem

Item = TypeVar("Item")
Result = TypeVar("Result")

CAPACITY = 10_000
"""Requests that may wait; the next one is told to come back."""

MOST_EVENTS = 5_000
MOST_BYTES = 4 * 1024 * 1024
"""What a transaction takes at most, unless a single request is larger."""

_log = structlog.get_logger()


class Weight(NamedTuple):
    """What a request counts in its transaction."""

    events: int
    bytes: int


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    weight: Weight
    done: "asyncio.Future[Result]"


class GroupCommit(Generic[Item, Result]):
    """Commits what is submitted, together with what others submit at the same time."""

    def __init__(
        self,
        database: Database,
        commit: Callable[[Connection, Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        capacity: int = CAPACITY,
    ) -> None:
        """Take the database and `commit`: one transaction for all items, results in their order."""
        self._database = database
        self._do_commit = commit
        self._capacity = capacity
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._batch: Sequence[_Waiting[Item, Result]] = ()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run())

    async def close(self, patience: float = 5.0) -> None:
        """Commit what is waiting, then stop."""
        self._is_closing = True
        self._woken.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for waiting in (*self._batch, *self._queue):
            _fail(waiting, Unavailable("The service is stopping.", kind="stopping"))
        self._queue.clear()

    async def submit(self, item: Item, weight: Weight) -> Result:
        """Commit one item; returns after COMMIT.

        Raises:
            Unavailable: Postgres is down, or too many wait; `detail` says whether anything may have been stored.
        """
        if len(self._queue) >= self._capacity:
            raise Unavailable(
                "Too many events are waiting to be stored; try again shortly.", kind="overloaded"
            )
        if self._is_closing:
            raise Unavailable("The service is stopping.", kind="stopping")
        # Not `_Waiting[Item, Result](…)`: the subscript costs more than the tuple.
        waiting: _Waiting[Item, Result] = _Waiting(item, weight, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._woken.set()
        return await waiting.done

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._is_closing:
                    return
                self._woken.clear()
                await self._woken.wait()
                continue
            self._batch = self._gather()
            await self._commit(self._batch)
            self._batch = ()

    def _gather(self) -> list[_Waiting[Item, Result]]:
        queue = self._queue
        batch = [queue.popleft()]
        events, size = batch[0].weight
        while queue:
            more_events, more_bytes = queue[0].weight
            events, size = events + more_events, size + more_bytes
            if events > MOST_EVENTS or size > MOST_BYTES:
                break
            batch.append(queue.popleft())
        return batch

    async def _commit(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        """Commit all together; if the rows are to blame, each alone; if Postgres is, or a defect, none."""
        try:
            async with self._database.write() as connection:
                try:
                    await self._settle(connection, batch)
                except (psycopg.DataError, psycopg.IntegrityError):
                    _log.warning("inbox_batch_retried_one_by_one", requests=len(batch))
                    for waiting in batch:
                        await self._commit_alone(connection, waiting)
        except Problem as problem:
            for waiting in batch:
                _fail(waiting, problem)
        except Exception:  # noqa: BLE001 - the edge of this task: log it, answer, go on with the next requests
            _log.exception("inbox_batch_failed", requests=len(batch))
            for waiting in batch:
                _fail(waiting, internal_problem())

    async def _commit_alone(self, connection: Connection, waiting: _Waiting[Item, Result]) -> None:
        try:
            await self._settle(connection, [waiting])
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            _log.warning("inbox_row_refused", sqlstate=error.sqlstate)
            _fail(waiting, Unavailable("This request could not be stored."))

    async def _settle(self, connection: Connection, batch: Sequence[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._do_commit(connection, [waiting.item for waiting in batch])
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError) as error:
            if connection.closed or connection.broken:
                raise _unknown() from error
            raise
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(result)


def _unknown() -> Unavailable:
    return Unavailable(
        "The connection to Postgres broke on the way: it is not known whether this was stored. Send it again with the "
        "same id, or with an Idempotency-Key, and it is stored once.",
        kind="outcome-unknown",
    )


def _fail(waiting: _Waiting[Item, Result], problem: Problem) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(problem)
