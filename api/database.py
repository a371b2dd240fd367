"""Connections of requests to Postgres: bounded, timed, and quick to say that it is down.

Belongs here: the pools, and what errors of Postgres mean to a caller.
Does not belong here: whose turn it is (`turns`), statements; those stand in the repository of their feature.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol

import psycopg
from anyio import CancelScope
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from analytics_pipeline import telemetry
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import session_options
from api.errors import BadRequest, Problem, Unavailable
from api.timing import spending
from api.turns import Turns
from api.versions import Listener, Watcher, cut

Connection = psycopg.AsyncConnection[Any]
Opened = psycopg.AsyncConnection[Any] | psycopg.Connection[Any]
Pool = AsyncConnectionPool[Connection]

_CONNECT_TIME = 2.0
_WRITERS = 4


class Reader(Protocol):
    """What reads are given: the `Database`, or one snapshot of it for several of them (`api.snapshot`)."""

    def read(self, query: str, /) -> AbstractAsyncContextManager[Connection]:
        """A read-only connection for the statements of one read; `query` names it in Prometheus."""


class Database:
    """Read and write connections of one process."""

    def __init__(self, settings: Settings, *, listeners: Mapping[str, Listener]) -> None:
        """Take the settings and who wants to hear of which notification (see `Watcher`)."""
        query = settings.analytics.query
        database = settings.database
        lifetime = database.connection_max_lifetime.total_seconds()
        readers = min(query.max_concurrent, database.max_connections)
        self._reads = _pool(database.conninfo(), "api-read", readers, lifetime, **read_settings(settings))
        self._writes = _pool(database.conninfo(), "api-write", _WRITERS, lifetime, statement_timeout="4s")
        self._turns = Turns(readers, query.of_one_key(readers))
        self._watcher = Watcher(
            database.conninfo(), on_connect=self._drop_broken, on_stall=self._cut_all, listeners=listeners
        )
        self._watching: asyncio.Task[None] | None = None
        self._active: set[Opened] = set()

    @property
    def watcher(self) -> Watcher:
        """What knows the versions of the data."""
        return self._watcher

    async def open(self) -> None:
        """Start connecting; Postgres may come later."""
        await self._reads.open(wait=False)
        await self._writes.open(wait=False)
        self._watching = asyncio.create_task(self._watcher.run())

    async def close(self) -> None:
        """Close all connections."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._reads.close(timeout=2)
        await self._writes.close(timeout=2)

    @asynccontextmanager
    async def read(self, query: str, /) -> AsyncIterator[Connection]:
        """A read-only connection, one transaction a snapshot; `query` names it in Prometheus.

        Raises:
            Unavailable: Postgres is down, does not answer in time, or too many reads wait already.
            TooManyRequests: too many of these are the caller's own.
        """
        self.refuse_if_down()
        with spending("db"):
            end_turn = await self._turns.take()
            started = time.perf_counter()
            try:
                async with guarded(), self._borrowed(self._reads) as opened:
                    yield opened
            finally:
                end_turn()
                telemetry.QUERY_DURATION.labels(query).observe(time.perf_counter() - started)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """A connection that may write; in autocommit, so open a transaction.

        Raises:
            Unavailable: Postgres is down or does not answer in time.
        """
        self.refuse_if_down()
        with spending("db"):
            async with guarded(), self._borrowed(self._writes) as opened:
                yield opened

    async def ping(self) -> None:
        """Ask Postgres for an answer.

        Raises:
            Unavailable: there was none.
        """
        self.refuse_if_down()
        async with guarded(), self._borrowed(self._reads) as opened:
            await opened.execute("SELECT 1")

    def refuse_if_down(self) -> None:
        """Answer at once while Postgres is known to be away.

        Raises:
            Unavailable: it is.
        """
        fault = self._watcher.fault
        if fault is not None:
            raise Unavailable(fault, kind="database-unavailable")

    async def _drop_broken(self) -> None:
        """Postgres is back: connections to the one that went away must not greet the first callers."""
        await self._reads.check()
        await self._writes.check()

    def _cut_all(self) -> None:
        """Postgres has stopped answering: nobody who waits for it shall wait longer."""
        for opened in list(self._active):
            cut(opened)

    @contextmanager
    def watched(self, opened: psycopg.Connection[Any]) -> Iterator[None]:
        """While somebody works with a connection of his own: cut it too when Postgres stops answering."""
        self._active.add(opened)
        try:
            yield
        finally:
            self._active.discard(opened)

    @asynccontextmanager
    async def _borrowed(self, pool: Pool) -> AsyncIterator[Connection]:
        # A client that leaves its stream cancels what is read for it, again and again: psycopg then cannot end the
        # statement in order, and throws the connection away. What was begun ends, within the timeout of statements.
        with CancelScope(shield=True):
            async with pool.connection() as opened:
                self._active.add(opened)
                try:
                    yield opened
                finally:
                    self._active.discard(opened)


def read_settings(settings: Settings) -> dict[str, str]:
    """Server settings of every session that answers questions, as they stand in connection options."""
    return {
        "default_transaction_read_only": "on",
        "statement_timeout": f"{int(settings.analytics.query.timeout.total_seconds() * 1000)}ms",
        "jit": "off",
        "plan_cache_mode": "force_custom_plan",
        "default_transaction_isolation": "repeatable\\ read",
    }


@asynccontextmanager
async def guarded() -> AsyncIterator[None]:
    """Raise errors of Postgres as what they mean to the caller."""
    try:
        yield
    except (psycopg.Error, OSError, TimeoutError) as error:
        raise problem_of(error) from error


def problem_of(error: Exception) -> Problem:
    """What an error of Postgres means to the caller."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return Unavailable(
            "The query took longer than analytics.query.timeout; ask for a shorter range or a longer interval.",
            kind="query-timeout",
        )
    if isinstance(error, psycopg.DataError):
        return BadRequest("A value is outside what the database can hold.")
    if isinstance(error, (PoolTimeout, TooManyRequests)):
        return Unavailable("No database connection became free in time.", kind="database-unavailable")
    if isinstance(
        error, psycopg.errors.ReadOnlySqlTransaction | psycopg.errors.DiskFull | psycopg.errors.OutOfMemory
    ):
        return Unavailable("Postgres cannot write at the moment.", kind="database-unavailable")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, OSError, TimeoutError)):
        return Unavailable("Postgres is not reachable.", kind="database-unavailable")
    raise error


def _pool(conninfo: str, name: str, size: int, lifetime: float, **server: str) -> Pool:
    return AsyncConnectionPool(
        make_conninfo(conninfo, application_name=f"analytics-{name}", options=session_options(**server)),
        connection_class=Connection,
        kwargs={"autocommit": True},
        min_size=1,
        max_size=size,
        open=False,
        name=name,
        timeout=_CONNECT_TIME,
        reconnect_timeout=_CONNECT_TIME,
        max_lifetime=lifetime,
    )
