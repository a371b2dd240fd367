"""Days: what a 1d bucket costs by the events behind it, and what 24 hours leave in Postgres.

Belongs here: making states of a size, and a day that lands and is merged minute by minute.
Does not belong here: what one minute or one late event costs (`merging`).
"""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID, Kind
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage import recompute, rollups
from analytics_pipeline.storage.connection import connection
from benchmarks import merging, stored
from benchmarks.servers import Servers

DAY = timedelta(days=1)
BEHIND = (1_000_000, 100_000_000)
_HOURS = 24
_SIGMA = 0.6
"""Of the logarithm of latencies."""
_SIZES = """
SELECT coalesce(parent.relname, own.relname), sum(pg_table_size(own.oid))::bigint, sum(pg_indexes_size(own.oid))::bigint
FROM pg_class AS own
LEFT JOIN pg_inherits AS level ON level.inhrelid = own.oid
LEFT JOIN pg_class AS parent ON parent.oid = level.inhparent
WHERE own.relkind = 'r' AND own.relnamespace = 'public'::regnamespace
GROUP BY 1 HAVING sum(pg_total_relation_size(own.oid)) > 1048576 ORDER BY sum(pg_total_relation_size(own.oid)) DESC
"""


def buckets_of_a_day(servers: Servers, day: datetime, *, seed: int, repeat: int) -> dict[str, Any]:
    """A 1d bucket of every series, made from its 24 hours, by the events behind it.

    The states are made directly: a histogram from as many log-normal values as the series has events, a set of
    distinct hashes as full as it can be. Everything else is one simulated hour, its counts multiplied.
    """
    each = BEHIND[0] // _HOURS
    hour = levels.roll_up(compute_deltas(stored.simulated(day, each, each / 3600, seed=seed), BUILT_IN), "1h")
    ids = [*BUILT_IN.by_id, REGISTER_ID]
    found: dict[str, Any] = {}
    for behind in BEHIND:
        with servers.database() as database, connection(database, name="bench", autocommit=True) as opened:
            random = np.random.default_rng(seed)
            for number in range(_HOURS):
                rows = _multiplied(hour, behind // BEHIND[0], day + timedelta(hours=number), random)
                with opened.transaction():
                    rollups.write_rows(opened, "1h", rows)
            meter = merging.Meter(opened)
            for _ in range(repeat):
                with meter.running(), opened.transaction(force_rollback=True):
                    table = levels.roll_up(recompute.settled_rows(opened, "1h", day, day + DAY, ids), "1d")
                    rollups.write_rows(opened, "1d", table)
        found[str(behind)] = meter.figures(repeat) | {"series": table.num_rows}
        print(f"  1d of {behind:,} events: {found[str(behind)]['cpu_seconds']:.3f} s of CPU", flush=True)
    return found


def _multiplied(hour: pa.Table, times: int, at: datetime, random: np.random.Generator) -> pa.Table:
    rows = [row | {"time_bucket": at} for row in hour.to_pylist() if row["kind"] != Kind.REGISTER]
    for row in rows:
        row["count"] *= times
        if row["sum"] is not None:
            row["sum"] *= times
        if row["kind"] == Kind.QUANTILE:
            values = random.lognormal(3.0, _SIGMA, row["count"])
            bins = np.ceil(np.log(values) / states.LN_GAMMA).astype(np.int16) + states.BIN_OFFSET
            row["state"] = states.quantile_pack(*np.unique(bins, return_counts=True))
        elif row["kind"] == Kind.DISTINCT:
            largest = 2**64 * states.DISTINCT_SIZE // max(row["count"], states.DISTINCT_SIZE + 1)
            hashes = random.integers(0, largest, states.DISTINCT_SIZE + 1, np.uint64)
            row["state"] = states.distinct_pack(np.unique(hashes))
    return pa.Table.from_pylist(rows, levels.LEVEL_SCHEMA)


def after_a_day(servers: Servers, day: datetime, *, hours: int, rate: float, seed: int) -> dict[str, Any]:
    """WAL and sizes after a simulated day: six landings and one merge a minute, at a steady rate.

    Rows, deltas, pending batches and merges are all written; the ledger and offsets, a line a landing each, are not.
    """
    events = stored.simulated_day(day, hours, rate, seed=seed)
    times = events["timestamp"].cast(pa.int64()).to_numpy()
    first = int(day.timestamp()) * 1_000_000
    edges = np.searchsorted(times, first + np.arange(hours * 360 + 1) * 10_000_000)
    wal = {"landings": 0, "merges": 0}
    with servers.database() as database, connection(database, name="bench", autocommit=True) as opened:
        meter = merging.Meter(opened)
        for number, (begin, end) in enumerate(pairwise(edges)):
            before = merging.wal_bytes(opened)
            if end > begin:
                merging.land(opened, events.slice(begin, end - begin), with_rows=True)
            landed = merging.wal_bytes(opened)
            wal["landings"] += landed - before
            if number % 6 == 5:
                with meter.running():
                    merging.merge(opened, day + timedelta(hours=number // 360))
                wal["merges"] += merging.wal_bytes(opened) - landed
            if number % 360 == 359:
                print(f"  {number // 360 + 1} of {hours} simulated hours", flush=True)
        opened.execute("VACUUM ANALYZE")
        sizes = _sizes(opened)
    return {
        "hours": hours,
        "events": events.num_rows,
        "events_per_second": rate,
        "wal_mb": {name: round(size / 2**20, 1) for name, size in wal.items()},
        "merge_of_a_minute": meter.figures(hours * 60),
        "tables_mb": sizes,
    }


def _sizes(opened: psycopg.Connection[Any]) -> dict[str, dict[str, float]]:
    return {
        name: {"table": round(table / 2**20, 1), "indexes": round(indexes / 2**20, 1)}
        for name, table, indexes in opened.execute(_SIZES)
    }
