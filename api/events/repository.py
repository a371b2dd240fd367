"""How many events there are, by type and bucket.

Belongs here: SQL of counts. Does not belong here: lists of events (`pages`).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.sql import SQL, Composed, Placeholder

from analytics_pipeline.rollups.catalog import BUILT_IN
from api.database import Reader
from api.events.statistics import Statistics, tiles
from api.metrics.service import Served, cut
from api.reach_sql import events_in

# A minute that is cut may hold a million events: they are counted before anything is sorted.
_COUNTS = SQL("""
SELECT bucket, event_type, sum(count)::bigint
FROM (
    {whole}
    SELECT {event_bucket} AS bucket, event_type, count(*) AS count
    FROM events
    WHERE timestamp >= %(start)s::timestamptz AND timestamp < %(first_cut_end)s::timestamptz
    GROUP BY 1, 2
    UNION ALL
    SELECT {event_bucket}, event_type, count(*)
    FROM events
    WHERE timestamp >= %(last_cut_start)s::timestamptz AND timestamp < %(end)s::timestamptz
    GROUP BY 1, 2
) AS parts
WHERE {seen}
GROUP BY bucket, event_type
ORDER BY bucket
LIMIT %(limit)s
""")
_TILE = SQL("""
    SELECT {bucket} AS bucket, dimensions ->> 'event_type' AS event_type, count
    FROM metric_aggregations
    WHERE metric_id = {metric_id} AND dimension_set = 'event_type' AND interval = {interval}
        AND time_bucket >= {start}::timestamptz AND time_bucket < {end}::timestamptz
    UNION ALL
""")
_PENDING = SQL("""
    SELECT {bucket} AS bucket, dimensions ->> 'event_type' AS event_type, count
    FROM rollup_deltas
    WHERE metric_id = {metric_id} AND dimension_set = 'event_type'
        AND hour >= date_trunc('hour', {start}::timestamptz) AND hour < {end}::timestamptz
        AND minute >= {start}::timestamptz AND minute < {end}::timestamptz
    UNION ALL
""")
_ONE_BUCKET = SQL("%(start)s::timestamptz")
_BUCKET = SQL("bucket_start(%(interval)s::text, {time})")
COUNTED = BUILT_IN.by_name["events.count"]
"""The metric that answers for whole minutes."""


class Count(NamedTuple):
    """Events of one type in one bucket; without an interval, the bucket starts with the range."""

    bucket: datetime
    event_type: str
    events: int


async def count_events(database: Reader, wanted: Statistics, served: Iterable[Served]) -> dict[str, int]:
    """Events by type, most frequent first, of the whole range; otherwise as `count_per_bucket`."""
    return by_type(await count_per_bucket(database, wanted, served, limit=None))


async def count_per_bucket(
    database: Reader, wanted: Statistics, served: Iterable[Served], *, limit: int | None
) -> list[Count]:
    """Events by bucket and type, oldest first: whole minutes from rollups (settled + pending), cut ones from raw.

    Only types that may be seen. One statement, so one snapshot: an event is in the raw table and in the deltas by the
    same COMMIT.

    Args:
        database: read from.
        wanted: the range.
        served: the versions of `COUNTED`; each answers for its own minutes.
        limit: the most counts to be read.
    """
    (start, first_cut_end), (last_cut_start, end) = wanted.cuts
    conditions, parameters = events_in(wanted.reach, has_type=True)
    parameters |= {
        "start": start,
        "first_cut_end": first_cut_end,
        "last_cut_start": last_cut_start,
        "end": end,
        "interval": wanted.interval,
        "limit": limit,
    }
    statement = _COUNTS.format(
        whole=_whole(wanted, served, parameters),
        event_bucket=_bucket(wanted, SQL("timestamp")),
        seen=SQL(" AND ").join(conditions) if conditions else SQL("true"),
    )
    async with database.read("stats") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(statement, parameters)
        return [Count(*row) for row in await cursor.fetchall()]


def by_type(counts: Iterable[Count]) -> dict[str, int]:
    """Counts added up over buckets, the most frequent type first."""
    found: dict[str, int] = {}
    for count in counts:
        found[count.event_type] = found.get(count.event_type, 0) + count.events
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _bucket(wanted: Statistics, time: SQL) -> SQL | Composed:
    return _ONE_BUCKET if wanted.interval is None else _BUCKET.format(time=time)


def _whole(wanted: Statistics, served: Iterable[Served], parameters: dict[str, Any]) -> Composed:
    """Arms of the whole minutes: one per tile, with constant intervals, so that the planner prunes partitions."""
    arms = []

    def bound(**values: object) -> dict[str, Placeholder]:
        place = len(parameters)
        parameters.update({f"{name}_{place}": value for name, value in values.items()})
        return {name: Placeholder(f"{name}_{place}") for name in values}

    for part in cut(served, *wanted.whole, 60):
        values = bound(metric_id=part.metric_id, start=part.first, end=part.end)
        arms.append(_PENDING.format(bucket=_bucket(wanted, SQL("minute")), **values))
        for tile in tiles(part.first, part.end, wanted.levels):
            values = bound(metric_id=part.metric_id, start=tile.start, end=tile.end)
            bucket = _bucket(wanted, SQL("time_bucket"))
            arms.append(_TILE.format(interval=tile.interval, bucket=bucket, **values))
    return SQL("").join(arms)
