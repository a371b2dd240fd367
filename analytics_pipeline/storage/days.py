"""Comparing 1d: with the hours of its day, and what a backfill of some of them changes of it.

A day's 1d rows are its 1h rows added up, whoever writes them: a merge adds to both, a recompute of an hour puts the day
together anew. Belongs here: holding them to that, hour by hour, so that memory does not grow with the day.
Does not belong here: days without hours (`storage.recompute_day`), comparing hours with raw events
(`storage.recompute`).
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.storage import predecessors, rollups
from analytics_pipeline.storage.archived_events import kept
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.recompute import RecomputeResult, buckets_in, settled_rows, snapshot_of

_LEVEL = "1d"
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def compare_day(
    conninfo: str, day: datetime, *, catalog: Catalog, metric_ids: Sequence[str]
) -> RecomputeResult:
    """Compare what is settled of a UTC day at 1d with its hours at 1h added up, of one moment.

    Pending deltas are the same on both sides, so nothing has to wait. A day of which retention has let the hours go
    has nothing to be compared with.

    Raises:
        EnvironmentFault: Postgres cannot be reached or stopped answering.
    """
    began = time.monotonic()
    rows, differences = levels.LEVEL_SCHEMA.empty_table(), []
    with connection(conninfo, name="recompute", autocommit=True) as main, snapshot_of(main):
        if kept(main, day).has_hours:
            rows = _settled(main, hours_of(day), metric_ids)
            stored = settled_rows(main, _LEVEL, day, day + _DAY, metric_ids)
            differences = compare_rows(stored, rows, _LEVEL, catalog)
    return RecomputeResult(
        day,
        events=0,
        late=0,
        rows={_LEVEL: rows.num_rows},
        buckets={_LEVEL: buckets_in(rows)},
        differences=differences,
        is_written=False,
        seconds=time.monotonic() - began,
        hours=0,
    )


class BackfilledDay:
    """What a backfill of some hours of a day changes of its 1d rows.

    Each hour is compared in a snapshot of its own, while events land: so the old value of a series is what was served
    of each hour in the moment when it was compared, and the new one what raw events gave in the same. Hours that are
    not asked for count as they are. A series whose 1d row is not the sum of its hours, which a backfill mends too, has
    that row as its old value.
    """

    def __init__(
        self,
        conninfo: str,
        day: datetime,
        hours: Collection[datetime],
        *,
        catalog: Catalog,
        metric_ids: Sequence[str],
    ) -> None:
        self._catalog = catalog
        ids = list(metric_ids)
        others = [hour for hour in hours_of(day) if hour not in hours]
        with connection(conninfo, name="recompute", autocommit=True) as main, snapshot_of(main):
            self._after = _added([_settled(main, others, ids), _pending(main, others, ids)])
            self._before = self._after
            if before := predecessors.predecessors(main, day, catalog, ids):
                instead = [_settled(main, others, list(before)), _pending(main, others, list(before))]
                self._before = predecessors.served(self._after, pa.concat_tables(instead), before, _LEVEL)
            stored = settled_rows(main, _LEVEL, day, day + _DAY, ids)
            wrong = compare_rows(stored, _settled(main, hours_of(day), ids), _LEVEL, catalog)
            self._wrong = pa.array(
                [_SEPARATOR.join((one.metric_name, one.dimensions)) for one in wrong], pa.string()
            )
            self._stored = levels.LEVEL_SCHEMA.empty_table()
            if wrong:
                stored = _added([stored, _pending(main, hours_of(day), ids)])
                self._stored = stored.filter(self._is_wrong(stored))

    def add(self, served: pa.Table, computed: pa.Table) -> None:
        """Take one hour at 1h: as it was served, and as raw events give it."""
        self._before = _added([self._before, served])
        self._after = _added([self._after, computed])

    def completed(self, result: RecomputeResult) -> RecomputeResult:
        """The result of its last hour, with 1d beside the other levels."""
        right = self._before.filter(pc.invert(self._is_wrong(self._before)))
        before = pa.concat_tables([right, self._stored])
        return replace(
            result,
            rows={**result.rows, _LEVEL: self._after.num_rows},
            buckets={**result.buckets, _LEVEL: buckets_in(self._after)},
            differences=[*result.differences, *compare_rows(before, self._after, _LEVEL, self._catalog)],
        )

    def _is_wrong(self, rows: pa.Table) -> pa.ChunkedArray:
        names = (rows.column("metric_name"), rows.column("dimensions"))
        return pc.is_in(pc.binary_join_element_wise(*names, _SEPARATOR), self._wrong)


_SEPARATOR = "\n"


def hours_of(day: datetime) -> list[datetime]:
    """The starts of the 24 hours of a UTC day."""
    return [day + number * _HOUR for number in range(24)]


def _settled(main: Connection, hours: Iterable[datetime], ids: Sequence[str]) -> pa.Table:
    """What is settled of some hours at 1h, added up at 1d."""
    rows = levels.LEVEL_SCHEMA.empty_table()
    for hour in hours:
        rows = _added([rows, settled_rows(main, "1h", hour, hour + _HOUR, ids)])
    return rows


def _pending(main: Connection, hours: Iterable[datetime], ids: Sequence[str]) -> pa.Table:
    """What is pending of some hours of a day, added up at 1d."""
    return _added([rollups.pending_minutes(main, hour, ids) for hour in hours])


def _added(rows: Sequence[pa.Table]) -> pa.Table:
    return levels.roll_up(pa.concat_tables([levels.LEVEL_SCHEMA.empty_table(), *rows]), _LEVEL)
