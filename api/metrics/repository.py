"""Points of a metric: settled + pending in one statement, at every level.

Belongs here: the statements. Does not belong here: parameters (`schemas`), what rows mean (`points`), JSON.

Every number is the settled row of its level plus the pending deltas whose minute lies in the same bucket; a merge
moves deltas to all levels in one transaction, so the sum is true in every snapshot.
"""

import math
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from psycopg import AsyncCursor
from psycopg.sql import SQL, Composed

from analytics_pipeline.rollups.catalog import Aggregation, Metric
from analytics_pipeline.rollups.schema import LEVELS
from api.database import Reader
from api.metrics.points import ENDS, Point, carried, from_ends, from_states, from_sums
from api.metrics.schemas import Series
from api.metrics.service import Served, cut, has_state
from api.reach_sql import series_in
from api.times import EPOCH, floor_time

Cursor = AsyncCursor[Any]

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
_ENDS = SQL("""
WITH pending AS MATERIALIZED (
    SELECT bucket_start(%(interval)s::text, minute) AS time_bucket, dimensions, min, max, state
    {pending} AND state IS NOT NULL
)
SELECT time_bucket, dimensions::text, first, last, min, max, state
FROM (
    (SELECT {each} time_bucket, dimensions, first, last, min, max, NULL::bytea AS state {settled} {order})
    UNION ALL
    SELECT time_bucket, dimensions, NULL, NULL, min, max, state FROM pending
    UNION ALL
    SELECT settled.time_bucket, settled.dimensions, NULL, NULL, NULL, NULL, settled.state
    FROM metric_states AS settled
    WHERE settled.metric_id = %(metric_id)s::text AND settled.interval = %(interval)s::text
        AND settled.dimension_set = %(dimension_set)s::text
        AND settled.time_bucket >= %(first)s::timestamptz AND settled.time_bucket < %(end)s::timestamptz
        AND (settled.time_bucket, settled.dimensions) IN (SELECT time_bucket, dimensions FROM pending)
) AS both_halves
ORDER BY time_bucket, dimensions
""")
_EVERY, _NEWEST = SQL(""), SQL("DISTINCT ON (dimensions)")
_NEWEST_ORDER = SQL("ORDER BY dimensions, time_bucket DESC")
_DAY = "1d"
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


async def read_points(database: Reader, series: Series, *, limit: int) -> list[Point]:
    """The points of a series, oldest first; a bucket in which the value is undefined has none.

    At most `limit` points of a grouped series are returned: one more than may be shown tells of too many.
    """
    if series.metric is None:
        return []
    async with database.read("metrics") as connection, connection.transaction():
        # One snapshot: what is missing from the points is what is missing in the gaps.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        async with connection.cursor(binary=True) as cursor:
            if series.carried is not None:
                return await _carried(cursor, series, series.carried, limit)
            found: list[Point] = []
            for part in series.parts:
                points = await _points(cursor, series, series.metric, part, limit)
                gaps = await _gaps(cursor, part)
                found += _all_marked(points, part, gaps, LEVELS[series.interval])
    return found[:limit]


async def _points(
    cursor: Cursor, series: Series, metric: Metric, part: Served, limit: int, *, newest: bool = False
) -> list[Point]:
    """Those of one version; with `newest` only the newest settled and the pending ones of each series."""
    aggregation = Aggregation(series.aggregation)
    derived = _DERIVED.get(aggregation)
    if (derived is not None or aggregation in ENDS) and not has_state(part, metric.kind):
        return []
    is_many_names = metric.name_by_dimension and series.dimension_set and series.metric_name == metric.name
    which = _BY_ID if is_many_names else _BY_NAME
    conditions, values = series_in(series.reach, series.dimension_set)
    own = Composed([SQL(" AND ") + condition for condition in conditions])
    halves = {
        "settled": _SETTLED_ROWS.format(which=which, part=own),
        "pending": _PENDING_ROWS.format(which=which, part=own),
    }
    if derived is not None:
        statement = _STATES.format(derived=derived, **halves)
    elif aggregation in ENDS:
        statement = _ENDS.format(
            each=_NEWEST if newest else _EVERY, order=_NEWEST_ORDER if newest else SQL(""), **halves
        )
    else:
        statement = _SUMS.format(dimensions=_DIMENSIONS if series.is_grouped else _ALL_DIMENSIONS, **halves)
    parameters = {
        "metric_name": series.metric_name,
        "metric_id": part.metric_id,
        "interval": _DAY if newest else series.interval,
        "dimension_set": series.dimension_set,
        "first": part.first,
        "end": part.end,
        "limit": limit,
        **values,
    }
    rows = await (await cursor.execute(statement, parameters)).fetchall()
    if derived is not None:
        points = from_states(aggregation, metric.kind, rows)
    elif aggregation in ENDS:
        points = from_ends(aggregation, rows)
    else:
        points = from_sums(aggregation, rows)
    return [point for point in points if math.isfinite(point.value)]


async def _gaps(cursor: Cursor, part: Served) -> set[datetime]:
    parameters = {"metric_id": part.metric_id, "first": part.first, "end": part.end}
    return {hour for [hour] in await (await cursor.execute(_GAPS, parameters)).fetchall()}


async def _carried(cursor: Cursor, series: Series, kept: tuple[str, ...], limit: int) -> list[Point]:
    """Sums of last values: of each series the last one before the range, by days, and then its buckets."""
    metric, seconds = series.metric, LEVELS[series.interval]
    assert metric is not None
    day = floor_time(series.first_bucket, LEVELS[_DAY])
    gaps: set[datetime] = set()
    last: list[Point] = []
    parts = cut(series.served, day, series.end_bucket, seconds)
    for newest, those in ((True, cut(series.served, EPOCH, day, LEVELS[_DAY])), (False, parts)):
        for part in those:
            last += await _points(cursor, series, metric, part, limit, newest=newest)
            gaps |= await _gaps(cursor, part)
    last.sort(key=lambda point: point.timestamp)
    end = min(series.end_bucket, series.carried_until or series.end_bucket)
    width = timedelta(seconds=seconds)
    found = []
    for point in islice(carried(last, series.first_bucket, end, width, kept), limit):
        [part] = [one for one in parts if one.first <= point.timestamp < one.end]
        # What is missing before is missing in what is carried.
        lacking = {point.timestamp} if min(gaps, default=end) < point.timestamp + width else set()
        found.append(_marked(point, part, lacking, seconds))
    return found


def _all_marked(points: list[Point], part: Served, gaps: set[datetime], seconds: int) -> list[Point]:
    """As `_marked`; mostly there is nothing to be said, and saying it point by point would take most of the time."""
    is_complete = part.complete_from <= part.first and part.end <= part.complete_until
    if is_complete and not gaps and not part.is_predecessor:
        return points
    return [_marked(point, part, gaps, seconds) for point in points]


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
