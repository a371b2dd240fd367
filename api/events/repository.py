"""How many events there are, by type.

Belongs here: SQL of counts. Does not belong here: lists of events (`pages`).
"""

from collections.abc import Iterable
from typing import Any

from psycopg.sql import SQL, Composed, Placeholder

from analytics_pipeline.rollups.catalog import BUILT_IN
from api.database import Database
from api.events.schemas import Statistics, tiles
from api.metrics.service import Served, cut

_COUNTS = SQL("""
SELECT event_type, sum(count)::bigint
FROM (
    {whole}
    SELECT event_type, count(*) AS count
    FROM events
    WHERE timestamp >= %(start)s::timestamptz AND timestamp < %(first_cut_end)s::timestamptz
    GROUP BY event_type
    UNION ALL
    SELECT event_type, count(*) AS count
    FROM events
    WHERE timestamp >= %(last_cut_start)s::timestamptz AND timestamp < %(end)s::timestamptz
    GROUP BY event_type
) AS parts
GROUP BY event_type
ORDER BY sum(count) DESC, event_type
""")
_TILE = SQL("""
    SELECT dimensions ->> 'event_type' AS event_type, count
    FROM metric_aggregations
    WHERE metric_id = {metric_id} AND dimension_set = 'event_type' AND interval = {interval}
        AND time_bucket >= {start}::timestamptz AND time_bucket < {end}::timestamptz
    UNION ALL
""")
_PENDING = SQL("""
    SELECT dimensions ->> 'event_type' AS event_type, count
    FROM rollup_deltas
    WHERE metric_id = {metric_id} AND dimension_set = 'event_type'
        AND hour >= date_trunc('hour', {start}::timestamptz) AND hour < {end}::timestamptz
        AND minute >= {start}::timestamptz AND minute < {end}::timestamptz
    UNION ALL
""")
COUNTED = BUILT_IN.by_name["events.count"]
"""The metric that answers for whole minutes."""


async def count_events(database: Database, wanted: Statistics, served: Iterable[Served]) -> dict[str, int]:
    """Events by type, most frequent first: whole minutes from rollups (settled + pending), the cut ones from raw.

    Only types that may be seen. One statement, so one snapshot: an event is in the raw table and in the deltas by the
    same COMMIT.

    Args:
        database: read from.
        wanted: the range.
        served: the versions of `COUNTED`; each answers for its own minutes.
    """
    (start, first_cut_end), (last_cut_start, end) = wanted.cuts
    parameters: dict[str, Any] = {
        "start": start,
        "first_cut_end": first_cut_end,
        "last_cut_start": last_cut_start,
        "end": end,
    }
    statement = _COUNTS.format(whole=_whole(wanted, served, parameters))
    async with database.read("stats") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(statement, parameters)
        counts = await cursor.fetchall()
    return {event_type: count for event_type, count in counts if wanted.reach.has_type(event_type)}


def _whole(wanted: Statistics, served: Iterable[Served], parameters: dict[str, Any]) -> Composed:
    """Arms of the whole minutes: one per tile, with constant intervals, so that the planner prunes partitions."""
    arms = []

    def bound(**values: object) -> dict[str, Placeholder]:
        place = len(parameters)
        parameters.update({f"{name}_{place}": value for name, value in values.items()})
        return {name: Placeholder(f"{name}_{place}") for name in values}

    for part in cut(served, *wanted.whole, 60):
        arms.append(_PENDING.format(**bound(metric_id=part.metric_id, start=part.first, end=part.end)))
        for tile in tiles(part.first, part.end):
            values = bound(metric_id=part.metric_id, start=tile.start, end=tile.end)
            arms.append(_TILE.format(interval=tile.interval, **values))
    return SQL("").join(arms)
