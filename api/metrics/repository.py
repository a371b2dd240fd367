"""Points of a metric: settled + pending in one statement, at every level.

Belongs here: the statements and the merging of states. Does not belong here: parameters (`schemas`), JSON.

Every number is the settled row of its level plus the pending deltas whose minute lies in the same bucket; a merge
moves deltas to all levels in one transaction, so the sum is true in every snapshot.
"""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg.sql import SQL, Composed

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Aggregation, Kind
from analytics_pipeline.rollups.schema import LEVELS
from api.database import Database
from api.metrics.schemas import Series
from api.metrics.service import Served, has_state
from api.reach_sql import series_in

_BY_NAME = SQL("metric_name = %(metric_name)s::text AND metric_id = %(metric_id)s::text")
_BY_ID = SQL("metric_id = %(metric_id)s::text")
_ALL_DIMENSIONS = SQL("'{}'::jsonb")
_DIMENSIONS = SQL("dimensions")

_SETTLED_ROWS = SQL("""
    FROM metric_aggregations
    WHERE {which} AND interval = %(interval)s::text AND dimension_set = %(dimension_set)s::text {part}
        AND time_bucket >= %(first)s::timestamptz AND time_bucket < %(end)s::timestamptz
""")
_PENDING_ROWS = SQL("""
    FROM rollup_deltas
    WHERE {which} AND kind <> 'register' AND dimension_set = %(dimension_set)s::text {part}
        AND minute >= %(first)s::timestamptz AND minute < %(end)s::timestamptz
""")
_SUMS = SQL("""
SELECT time_bucket, dimensions::text, sum(count)::bigint, sum(sum)::double precision, min(min), max(max)
FROM (
    SELECT time_bucket, {dimensions} AS dimensions, count, coalesce(sum_exact, sum::numeric) AS sum, min, max
    {settled}
    UNION ALL
    SELECT bucket_start(%(interval)s::text, minute), {dimensions}, count, sum, min, max
    {pending}
) AS both_halves
GROUP BY time_bucket, dimensions
ORDER BY time_bucket, dimensions
LIMIT %(limit)s
""")
_STATES = SQL("""
WITH pending AS MATERIALIZED (
    SELECT bucket_start(%(interval)s::text, minute) AS time_bucket, dimensions, state
    {pending} AND state IS NOT NULL
)
SELECT time_bucket, dimensions::text, value, state
FROM (
    SELECT time_bucket, dimensions, {derived}::double precision AS value, NULL::bytea AS state
    {settled}
    UNION ALL
    SELECT time_bucket, dimensions, NULL, state FROM pending
    UNION ALL
    SELECT settled.time_bucket, settled.dimensions, NULL, settled.state
    FROM metric_states AS settled
    WHERE settled.metric_id = %(metric_id)s::text AND settled.interval = %(interval)s::text
        AND settled.dimension_set = %(dimension_set)s::text
        AND settled.time_bucket >= %(first)s::timestamptz AND settled.time_bucket < %(end)s::timestamptz
        AND (settled.time_bucket, settled.dimensions) IN (SELECT time_bucket, dimensions FROM pending)
) AS both_halves
ORDER BY time_bucket, dimensions
""")
_GAPS = """
SELECT hour FROM metric_gaps
WHERE metric_id = %(metric_id)s::text AND hour > %(first)s::timestamptz - interval '1 hour'
    AND hour < %(end)s::timestamptz
"""
_DERIVED = {
    Aggregation.P50: SQL("p50"),
    Aggregation.P95: SQL("p95"),
    Aggregation.P99: SQL("p99"),
    Aggregation.DISTINCT: SQL("distinct_count"),
}
_QUANTILE = {Aggregation.P50: 0.5, Aggregation.P95: 0.95, Aggregation.P99: 0.99}


class Point(NamedTuple):
    """One bucket; `dimensions` is JSON text."""

    timestamp: datetime
    dimensions: str
    value: float
    is_incomplete: bool = False
    is_predecessor: bool = False


async def read_points(database: Database, series: Series, *, limit: int) -> list[Point]:
    """The points of a series, oldest first; a bucket in which the value is undefined has none.

    At most `limit` points of a grouped series are returned: one more than may be shown tells of too many.
    """
    metric = series.metric
    if metric is None:
        return []
    aggregation = Aggregation(series.aggregation)
    derived = _DERIVED.get(aggregation)
    is_many_names = metric.name_by_dimension and series.dimension_set and series.metric_name == metric.name
    which = _BY_ID if is_many_names else _BY_NAME
    conditions, values = series_in(series.reach, series.dimension_set)
    own = Composed([SQL(" AND ") + condition for condition in conditions])
    halves = {
        "settled": _SETTLED_ROWS.format(which=which, part=own),
        "pending": _PENDING_ROWS.format(which=which, part=own),
    }
    statement: Composed
    if derived is None:
        statement = _SUMS.format(dimensions=_DIMENSIONS if series.is_grouped else _ALL_DIMENSIONS, **halves)
    else:
        statement = _STATES.format(derived=derived, **halves)
    found: list[Point] = []
    async with database.read("metrics") as connection, connection.transaction():
        # One snapshot: what is missing from the points is what is missing in the gaps.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        async with connection.cursor(binary=True) as cursor:
            for part in series.parts:
                if derived is not None and not has_state(part, metric.kind):
                    continue
                parameters = {
                    "metric_name": series.metric_name,
                    "metric_id": part.metric_id,
                    "interval": series.interval,
                    "dimension_set": series.dimension_set,
                    "first": part.first,
                    "end": part.end,
                    "limit": limit,
                    **values,
                }
                await cursor.execute(statement, parameters)
                rows = await cursor.fetchall()
                await cursor.execute(_GAPS, parameters)
                gaps = {hour for [hour] in await cursor.fetchall()}
                points = (
                    (_from_sums(aggregation, *row) for row in rows)
                    if derived is None
                    else _from_states(aggregation, metric.kind, rows)
                )
                found += [
                    _marked(point, part, gaps, LEVELS[series.interval])
                    for point in points
                    if point is not None and math.isfinite(point.value)
                ]
    return found[:limit]


def _marked(point: Point, part: Served, gaps: set[datetime], seconds: int) -> Point:
    """The point with what a reader should know of its version."""
    end = point.timestamp + timedelta(seconds=seconds)
    hour = timedelta(hours=1)
    is_incomplete = (
        point.timestamp < part.complete_from
        or end > part.complete_until
        or any(gap < end and gap + hour > point.timestamp for gap in gaps)
    )
    return point._replace(is_incomplete=is_incomplete, is_predecessor=part.is_predecessor)


def _from_sums(
    aggregation: Aggregation,
    at: datetime,
    dimensions: str,
    count: int,
    total: float | None,
    smallest: float | None,
    largest: float | None,
) -> Point | None:
    value: float | None
    if aggregation is Aggregation.COUNT:
        value = count
    elif aggregation is Aggregation.SUM:
        value = total
    elif aggregation is Aggregation.MIN:
        value = smallest
    elif aggregation is Aggregation.MAX:
        value = largest
    else:
        # avg, and a ratio: of its sums, over the bucket
        value = total / count if total is not None and count else None
    return None if value is None else Point(at, dimensions, value)


def _from_states(aggregation: Aggregation, kind: Kind, rows: list[Any]) -> Iterator[Point | None]:
    """Rows come ordered by series: the settled value counts unless something pending brought states along."""
    values: dict[tuple[datetime, str], float | None] = {}
    found: dict[tuple[datetime, str], list[bytes]] = {}
    for at, dimensions, value, state in rows:
        key = (at, dimensions)
        if state is not None:
            found.setdefault(key, []).append(state)
            values.setdefault(key, None)
        elif value is not None:
            values[key] = value
        else:
            values.setdefault(key, None)
    for key, settled in values.items():
        if key in found:
            merged = states.MERGE[kind](found[key])
            yield Point(*key, _value(aggregation, merged))
        elif settled is not None:
            yield Point(*key, int(settled) if aggregation is Aggregation.DISTINCT else settled)


def _value(aggregation: Aggregation, state: bytes) -> float:
    if aggregation is Aggregation.DISTINCT:
        return states.distinct_count(state)
    return states.quantile_value(state, _QUANTILE[aggregation])
