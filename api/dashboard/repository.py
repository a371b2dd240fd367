"""The dashboard in one statement: an hour of minutes of a few totals, six minutes of distinct states.

Belongs here: the SQL and the merging of states. Does not belong here: windows (`schemas`).
It costs the same whatever the rate of events: no raw event is read.
"""

from psycopg.sql import SQL

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Catalog
from api.dashboard.schemas import Dashboard, Windows
from api.database import Database

_EVENTS = "events.count"
_PLACED = "trading.orders_placed"
_FILLED = "trading.orders_filled"
_REJECTED = "trading.orders_rejected"
_VOLUME = "trading.total_volume"
_LATENCY = "trading.order_latency"
_USERS = "users.active"
_STRATEGIES = "strategies.active"
_SUMMED = (_EVENTS, _PLACED, _FILLED, _REJECTED, _VOLUME, _LATENCY)
_DISTINCT = (_USERS, _STRATEGIES)

_DASHBOARD = SQL("""
SELECT metric_id, sum(count)::bigint, sum(sum)::double precision,
    (sum(count) FILTER (WHERE minute >= %(rate)s))::bigint, NULL::bytea
FROM (
    SELECT metric_id, time_bucket AS minute, count, sum_exact AS sum
    FROM metric_aggregations
    WHERE metric_name = ANY(%(summed)s) AND dimension_set = '' AND interval = '1m'
        AND time_bucket >= %(hour)s AND time_bucket < %(end)s
    UNION ALL
    SELECT metric_id, minute, count, sum
    FROM rollup_deltas
    WHERE metric_name = ANY(%(summed)s) AND dimension_set = '' AND minute >= %(hour)s AND minute < %(end)s
) AS minutes
WHERE metric_id = ANY(%(summed_ids)s)
GROUP BY metric_id
UNION ALL
SELECT metric_id, NULL, NULL, NULL, state
FROM metric_states
WHERE metric_id = ANY(%(distinct_ids)s) AND dimension_set = '' AND interval = '1m'
    AND time_bucket >= %(active)s AND time_bucket < %(end)s
UNION ALL
SELECT metric_id, NULL, NULL, NULL, state
FROM rollup_deltas
WHERE metric_name = ANY(%(distinct)s) AND metric_id = ANY(%(distinct_ids)s) AND dimension_set = ''
    AND minute >= %(active)s AND minute < %(end)s AND state IS NOT NULL
""")


async def read_dashboard(database: Database, windows: Windows, catalog: Catalog) -> Dashboard:
    """All numbers of the dashboard, from one snapshot."""
    custom = [metric.name for metric in catalog.automatic]
    summed, distinct = [*_SUMMED, *custom], list(_DISTINCT)
    ids = {name: catalog.by_name[name].metric_id for name in (*summed, *distinct)}
    names = {metric_id: name for name, metric_id in ids.items()}
    parameters = {
        "summed": summed,
        "summed_ids": [ids[name] for name in summed],
        "distinct": distinct,
        "distinct_ids": [ids[name] for name in distinct],
        "hour": windows.hour,
        "active": windows.active,
        "rate": windows.rate,
        "end": windows.end,
    }
    counts = dict.fromkeys(summed, 0)
    recent = dict.fromkeys(summed, 0)
    sums = dict.fromkeys(summed, 0.0)
    sets: dict[str, list[bytes]] = {name: [] for name in _DISTINCT}
    async with database.read("dashboard") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(_DASHBOARD, parameters)
        rows = await cursor.fetchall()
    for metric_id, count, total, recent_count, state in rows:
        name = names[metric_id]
        if state is not None:
            sets[name].append(state)
        else:
            counts[name], sums[name], recent[name] = count, total or 0.0, recent_count or 0
    return Dashboard(
        active_users=_distinct(sets[_USERS]),
        events=recent[_EVENTS],
        orders_placed=counts[_PLACED],
        orders_filled=counts[_FILLED],
        orders_rejected=counts[_REJECTED],
        active_strategies=_distinct(sets[_STRATEGIES]),
        total_volume=sums[_VOLUME],
        average_latency=sums[_LATENCY] / counts[_LATENCY] if counts[_LATENCY] else 0.0,
        custom={name: sums[name] / counts[name] for name in custom if counts[name]},
    )


def _distinct(found: list[bytes]) -> int:
    return states.distinct_count(states.distinct_merge(found)) if found else 0
