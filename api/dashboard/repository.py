"""The dashboard in one statement: an hour of minutes of a few totals, six minutes of distinct states.

Belongs here: the SQL and the merging of states. Does not belong here: windows (`schemas`).
No raw event is read: it costs what the batches of a few minutes do that are not merged yet, a row for each total.
States of distinct values, two a batch, are put one behind another by Postgres, so that they come as one value.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.sql import SQL

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Catalog, Kind
from api.dashboard.schemas import Dashboard, Windows
from api.database import Reader
from api.metrics.service import MetricService, Served, cut, has_state

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
    (sum(count) FILTER (WHERE minute >= %(rate)s))::bigint, NULL::bytea, NULL::boolean
FROM (
    SELECT metric_id, time_bucket AS minute, count, sum_exact AS sum
    FROM metric_aggregations
    WHERE metric_name = ANY(%(summed)s) AND dimension_set = '' AND interval = '1m'
        AND time_bucket >= %(hour)s AND time_bucket < %(end)s
    UNION ALL
    SELECT metric_id, minute, count, sum
    FROM rollup_deltas
    WHERE metric_id = ANY(%(summed_ids)s) AND dimension_set = '' AND minute >= %(hour)s AND minute < %(end)s
) AS minutes
INNER JOIN unnest(%(summed_ids)s::text[], %(summed_from)s::timestamptz[], %(summed_until)s::timestamptz[])
    AS served (metric_id, first, until) USING (metric_id)
WHERE minute >= served.first AND minute < served.until
GROUP BY metric_id
UNION ALL
SELECT metric_id, NULL, NULL, NULL, string_agg(substr(state, 3), ''::bytea), bool_or(get_byte(state, 1) = 1)
FROM (
    SELECT metric_id, time_bucket AS minute, state
    FROM metric_states
    WHERE metric_id = ANY(%(distinct_ids)s) AND dimension_set = '' AND interval = '1m'
        AND time_bucket >= %(active)s AND time_bucket < %(end)s
    UNION ALL
    SELECT metric_id, minute, state
    FROM rollup_deltas
    WHERE metric_id = ANY(%(distinct_ids)s) AND dimension_set = '' AND minute >= %(active)s AND minute < %(end)s
        AND state IS NOT NULL
) AS minutes
INNER JOIN unnest(%(distinct_ids)s::text[], %(distinct_from)s::timestamptz[], %(distinct_until)s::timestamptz[])
    AS served (metric_id, first, until) USING (metric_id)
WHERE minute >= served.first AND minute < served.until
GROUP BY metric_id
""")


class Parts(NamedTuple):
    """Which versions of which metrics the dashboard reads: `summed` in its hour, `distinct` in its five minutes."""

    custom: tuple[str, ...]
    summed: tuple[tuple[str, Served], ...]
    distinct: tuple[tuple[str, Served], ...]

    @classmethod
    def of(cls, catalog: Catalog, versions: MetricService, windows: Windows) -> "Parts":
        """Those of this moment."""

        def parts(names: Iterable[str], first: datetime) -> tuple[tuple[str, Served], ...]:
            return tuple(
                (name, part)
                for name in names
                for part in cut(versions.of(catalog.by_name[name]), first, windows.end, 60)
                if name not in _DISTINCT or has_state(part, Kind.DISTINCT)
            )

        custom = tuple(metric.name for metric in catalog.automatic)
        return cls(custom, parts((*_SUMMED, *custom), windows.hour), parts(_DISTINCT, windows.active))


async def read_dashboard(database: Reader, windows: Windows, read: Parts) -> Dashboard:
    """All numbers of the dashboard, from one snapshot."""
    names = {part.metric_id: name for name, part in (*read.summed, *read.distinct)}
    summed = [*_SUMMED, *read.custom]
    counts = dict.fromkeys(summed, 0)
    recent = dict.fromkeys(summed, 0)
    sums = dict.fromkeys(summed, 0.0)
    sets: dict[str, list[tuple[bytes, bool]]] = {name: [] for name in _DISTINCT}
    async with database.read("dashboard") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(_DASHBOARD, _parameters(windows, read))
        rows = await cursor.fetchall()
    for metric_id, count, total, recent_count, hashes, was_cut in rows:
        name = names[metric_id]
        if hashes is not None:
            sets[name].append((hashes, was_cut))
        else:
            counts[name] += count
            sums[name] += total or 0.0
            recent[name] += recent_count or 0
    return Dashboard(
        active_users=_distinct(sets[_USERS]),
        events=recent[_EVENTS],
        orders_placed=counts[_PLACED],
        orders_filled=counts[_FILLED],
        orders_rejected=counts[_REJECTED],
        active_strategies=_distinct(sets[_STRATEGIES]),
        total_volume=sums[_VOLUME],
        average_latency=sums[_LATENCY] / counts[_LATENCY] if counts[_LATENCY] else 0.0,
        custom={name: sums[name] / counts[name] for name in read.custom if counts[name]},
    )


def _parameters(windows: Windows, read: Parts) -> dict[str, Any]:
    return {
        "summed": [*_SUMMED, *read.custom],
        "summed_ids": [part.metric_id for _, part in read.summed],
        "summed_from": [part.first for _, part in read.summed],
        "summed_until": [part.end for _, part in read.summed],
        "distinct_ids": [part.metric_id for _, part in read.distinct],
        "distinct_from": [part.first for _, part in read.distinct],
        "distinct_until": [part.end for _, part in read.distinct],
        "hour": windows.hour,
        "active": windows.active,
        "rate": windows.rate,
        "end": windows.end,
    }


def _distinct(found: list[tuple[bytes, bool]]) -> int:
    if not found:
        return 0
    hashes = b"".join([part for part, _ in found])
    return states.distinct_count(states.distinct_join(hashes, was_cut=any(was_cut for _, was_cut in found)))
