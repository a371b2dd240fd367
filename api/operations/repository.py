"""Sums over the ledger of landings.

Belongs here: SQL of `/api/v1/internal`. Does not belong here: writing the ledger (`storage.landing`).

Closed UTC days of the ledger never change, so each process sums them once and then only reads the rest.
"""

import asyncio
from datetime import datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.events.times import EPOCH
from api.database import Connection, Database
from api.times import floor_time

_SUMS = """
SELECT
    coalesce(sum(stored), 0)::bigint,
    coalesce(sum(dead), 0)::bigint,
    count(DISTINCT batch_id) FILTER (WHERE note IS NULL),
    coalesce(sum(seconds) FILTER (WHERE is_first), 0)::double precision
FROM (
    SELECT batch_id, stored, dead, seconds, note, row_number() OVER (PARTITION BY batch_id) = 1 AS is_first
    FROM ingest_batches
    WHERE committed_at >= %s AND committed_at < %s
) AS ledger
"""
_FIRST = "SELECT min(committed_at) FROM ingest_batches"
# Lines with a note are no batches: an operator moved a partition, or older lines were added up.
_LAST = """
SELECT sum(read)::bigint, max(seconds)
FROM ingest_batches
WHERE batch_id = (SELECT batch_id FROM ingest_batches WHERE note IS NULL ORDER BY committed_at DESC LIMIT 1)
"""
_FAR = timedelta(days=36_500)
_OPEN = timedelta(hours=1)
"""How long after its end a day may still get rows: far longer than any transaction."""


class Totals(NamedTuple):
    """Sums over some of the ledger; seconds of batches, not of their partitions."""

    stored: int = 0
    dead: int = 0
    batches: int = 0
    seconds: float = 0.0

    def plus(self, other: "Totals") -> "Totals":
        """Both together."""
        return Totals(
            self.stored + other.stored,
            self.dead + other.dead,
            self.batches + other.batches,
            self.seconds + other.seconds,
        )


class LastBatch(NamedTuple):
    """The landing that committed last."""

    read: int = 0
    seconds: float = 0.0


class Ledger:
    """Reads the ledger; remembers the sums of closed days."""

    def __init__(self) -> None:
        self._closed_until: datetime = EPOCH
        self._closed = Totals()
        self._lock = asyncio.Lock()

    async def read(self, database: Database, now: datetime) -> tuple[Totals, LastBatch]:
        """All sums and the last batch."""
        async with self._lock, database.read("ledger") as connection:
            line = floor_time(now - _OPEN, 86_400)
            await self._close_days(connection, line)
            rest = await _sums(connection, self._closed_until, now + _FAR)
            last = await (await connection.execute(_LAST)).fetchone()
        known = LastBatch(*last) if last is not None and last[0] is not None else LastBatch()
        return self._closed.plus(rest), known

    async def _close_days(self, connection: Connection, line: datetime) -> None:
        """Day by day, so that a long ledger never meets the statement timeout and progress is kept."""
        if self._closed_until == EPOCH:
            row = await (await connection.execute(_FIRST)).fetchone()
            self._closed_until = (
                line if row is None or row[0] is None else min(line, floor_time(row[0], 86_400))
            )
        while self._closed_until < line:
            until = self._closed_until + timedelta(days=1)
            closed = self._closed.plus(await _sums(connection, self._closed_until, until))
            self._closed, self._closed_until = closed, until


async def _sums(connection: Connection, start: datetime, end: datetime) -> Totals:
    row = await (await connection.execute(_SUMS, (start, end))).fetchone()
    return Totals(*row) if row is not None else Totals()
