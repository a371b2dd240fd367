"""Hours in which there is nothing at all: a recompute would read nothing and write nothing, so a backfill passes them.

Belongs here: which hours these are. Does not belong here: recomputing (`storage.recompute`), which hours a backfill
is of (`storage.backfill`).

All is asked of one moment, as a recompute reads its snapshot, and for the same reason nothing is lost that lands
afterwards: its deltas are those of the definition in force, or the hour is noted as a gap (`metric_versions`). Because
nothing is written, no lock of the hour is needed. What only an archive may hold is never taken for empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

from analytics_pipeline.rollups.schema import HOUR_LEVELS
from analytics_pipeline.storage.connection import connection

# Scalar questions, because Postgres would turn EXISTS into a join, for which it may read all events of the range.
_EMPTY = """
WITH asked AS MATERIALIZED (
    SELECT one.hour, one.hour + interval '1 hour' AS hour_end, date_trunc('day', one.hour, 'UTC') AS day
    FROM unnest(%(hours)s::timestamptz[]) AS one (hour), retention_state
    WHERE one.hour >= retention_state.raw_floor
        AND (one.hour AT TIME ZONE 'UTC')::date NOT IN (SELECT frozen_days.day FROM frozen_days)
        AND one.hour NOT IN (SELECT gap.hour FROM metric_gaps AS gap WHERE gap.metric_id = ANY(%(metric_ids)s))
)
SELECT asked.hour,
    (
        SELECT 1 FROM metric_buckets AS register
        WHERE register.interval = '1d' AND register.time_bucket = asked.day LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM metric_aggregations AS settled
        WHERE settled.interval = '1d' AND settled.time_bucket = asked.day LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM metric_states AS state
        WHERE state.interval = '1d' AND state.time_bucket = asked.day LIMIT 1
    ) IS NULL
FROM asked
WHERE (
        SELECT 1 FROM events AS raw
        WHERE raw.timestamp >= asked.hour AND raw.timestamp < asked.hour_end LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM pending_batches AS pending WHERE pending.hour = asked.hour LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM rollup_deltas AS delta WHERE delta.hour = asked.hour LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM metric_buckets AS register
        WHERE register.interval = ANY(%(levels)s)
            AND register.time_bucket >= asked.hour AND register.time_bucket < asked.hour_end LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM metric_aggregations AS settled
        WHERE settled.interval = ANY(%(levels)s)
            AND settled.time_bucket >= asked.hour AND settled.time_bucket < asked.hour_end LIMIT 1
    ) IS NULL AND (
        SELECT 1 FROM metric_states AS state
        WHERE state.interval = ANY(%(levels)s)
            AND state.time_bucket >= asked.hour AND state.time_bucket < asked.hour_end LIMIT 1
    ) IS NULL
"""
_AT_ONCE = 7 * 24


def empty_hours(
    conninfo: str, hours: Sequence[datetime], metric_ids: Sequence[str]
) -> Mapping[datetime, bool]:
    """Those of some hours in which nothing is: no raw event, no row of any metric or of the register, nothing pending.

    Args:
        conninfo: where the database is.
        hours: starts of UTC hours.
        metric_ids: whose gaps make an hour one that is not empty.

    Returns:
        For each such hour, whether its day has nothing at 1d either.
    """
    asked = {"hours": list(hours), "metric_ids": list(metric_ids), "levels": list(HOUR_LEVELS)}
    with connection(conninfo, name="recompute", autocommit=True) as opened:
        return dict(opened.execute(_EMPTY, asked).fetchall())


class EmptyHours:
    """Hours of a backfill that it passes, asked for a week of them at a time, when the first of the week is reached.

    The first hour of a day that has something at 1d is none: with it the day is put together anew from its hours.
    """

    def __init__(self, conninfo: str, hours: Sequence[datetime], metric_ids: Sequence[str]) -> None:
        self._conninfo, self._metric_ids = conninfo, metric_ids
        self._left: Iterator[datetime] = iter(hours)
        self._asked: set[datetime] = set()
        self._found: dict[datetime, bool] = {}

    def take(self, hour: datetime, *, is_first_of_day: bool) -> bool:
        """Whether an hour is passed. Once: if it is asked for again, something has landed for it meanwhile."""
        while hour not in self._asked and (week := list(islice(self._left, _AT_ONCE))):
            self._asked.update(week)
            self._found = {**self._found, **empty_hours(self._conninfo, week, self._metric_ids)}
        is_day_empty = self._found.pop(hour, None)
        return is_day_empty is not None and (is_day_empty or not is_first_of_day)
