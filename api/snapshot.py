"""One snapshot of the database for several reads, within one time limit.

Belongs here: the transaction, and keeping the failure of one read from the others. Does not belong here: what is read.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from analytics_pipeline import telemetry
from api.database import Connection, Database, guarded
from api.errors import Unavailable

_LEAST = 0.001


class Snapshot:
    """A `Reader` whose reads all see the same moment, one after the other."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    @property
    def is_lost(self) -> bool:
        """Whether no further read can be answered."""
        return self._connection.closed

    @asynccontextmanager
    async def read(self, query: str, /) -> AsyncIterator[Connection]:
        """The connection; what fails in here is undone, and the snapshot stays.

        Raises:
            Unavailable: the time of all reads together is up, or Postgres is away.
        """
        left = self._deadline - time.monotonic()
        if left <= _LEAST:
            raise Unavailable(
                "What was asked before in this call took as long as a call may take (analytics.query.timeout); ask for "
                "less at once.",
                kind="query-timeout",
            )
        started = time.perf_counter()
        try:
            async with guarded(), self._connection.transaction():
                await self._connection.execute(
                    "SELECT set_config('statement_timeout', %s, true)", (f"{int(left * 1000)}ms",)
                )
                yield self._connection
        finally:
            telemetry.QUERY_DURATION.labels(query).observe(time.perf_counter() - started)


@asynccontextmanager
async def snapshot(database: Database, query: str, *, seconds: float) -> AsyncIterator[Snapshot]:
    """A snapshot of this moment, as every transaction of readers is one; its reads take so many seconds at most.

    Raises:
        Unavailable: as `Database.read`.
    """
    async with database.read(query) as connection, connection.transaction():
        yield Snapshot(connection, seconds)
