"""How many events there are, by type.

Belongs here: SQL of counts. Does not belong here: lists of events (`pages`).
"""

from typing import Any

from psycopg.sql import SQL, Composed, Placeholder

from analytics_pipeline.rollups.catalog import BUILT_IN
from api.database import Database
from api.events.schemas import Statistics

_COUNTS = SQL("""
SELECT event_type, sum(count)::bigint
FROM (
    {settled}
    SELECT dimensions ->> 'event_type' AS event_type, count
    FROM rollup_deltas
    WHERE metric_id = %(metric_id)s AND dimension_set = 'event_type'
        AND hour >= date_trunc('hour', %(first)s::timestamptz) AND hour < %(last)s::timestamptz
        AND minute >= %(first)s::timestamptz AND minute < %(last)s::timestamptz
    UNION ALL
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
    WHERE metric_id = %(metric_id)s AND dimension_set = 'event_type' AND interval = {interval}
        AND time_bucket >= {start}::timestamptz AND time_bucket < {end}::timestamptz
    UNION ALL
""")


async def count_events(database: Database, wanted: Statistics) -> dict[str, int]:
    """Events by type, most frequent first: whole minutes from rollups (settled + pending), the cut ones from raw.

    Only types that may be seen. One statement, so one snapshot: an event is in the raw table and in the deltas by the
    same COMMIT.
    """
    first, last = wanted.whole
    (start, first_cut_end), (last_cut_start, end) = wanted.cuts
    parameters: dict[str, Any] = {
        "metric_id": BUILT_IN.by_name["events.count"].metric_id,
        "first": first,
        "last": last,
        "start": start,
        "first_cut_end": first_cut_end,
        "last_cut_start": last_cut_start,
        "end": end,
    }
    statement = _COUNTS.format(settled=_settled(wanted, parameters))
    async with database.read("stats") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(statement, parameters)
        counts = await cursor.fetchall()
    return {event_type: count for event_type, count in counts if wanted.reach.has_type(event_type)}


def _settled(wanted: Statistics, parameters: dict[str, Any]) -> Composed:
    """One arm per tile, with constant intervals, so that the planner prunes partitions."""
    arms = []
    for position, tile in enumerate(wanted.tiles):
        parameters[f"start_{position}"], parameters[f"end_{position}"] = tile.start, tile.end
        arms.append(
            _TILE.format(
                interval=tile.interval,
                start=Placeholder(f"start_{position}"),
                end=Placeholder(f"end_{position}"),
            )
        )
    return SQL("").join(arms)
