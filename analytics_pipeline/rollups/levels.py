"""Adding partial states up: minutes to 1m, 5m, 15m, 1h and 1d.

Belongs here: grouping and combining of rows of one series, and the values derived from a state.
Does not belong here: reading or writing Postgres (`storage.rollups`), computing states of events (`deltas`).
"""

from typing import NamedTuple

import pyarrow as pa

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Kind
from analytics_pipeline.rollups.engine import engine
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, LEVELS, SERIES, TIMESTAMP

LEVEL_SCHEMA = pa.schema(
    [pa.field("time_bucket", TIMESTAMP, nullable=False)]
    + [DELTAS_SCHEMA.field(name) for name in (*SERIES, "count", "sum", "min", "max", "state")]
)
"""Rows of one level: one per bucket and series."""

_COMBINE = f"""
    SELECT time_bucket, {", ".join(SERIES)},
        sum(count)::BIGINT AS count, sum(sum)::DECIMAL(38, 9) AS sum, min(min) AS min, max(max) AS max,
        list(state) FILTER (WHERE state IS NOT NULL) AS states
    FROM rows GROUP BY ALL
"""


def bucket_starts(times: pa.ChunkedArray, level: str) -> pa.Array:
    """The UTC start of the bucket of `level` that holds each time (half-open)."""
    at = times.cast(pa.int64()).to_numpy()
    width = LEVELS[level] * 1_000_000
    return pa.array(at - at % width).cast(TIMESTAMP)


def roll_up(rows: pa.Table, level: str) -> pa.Table:
    """Combine rows into the buckets of one level.

    Args:
        rows: `DELTAS_SCHEMA`, or `LEVEL_SCHEMA` of a finer level.
        level: a key of `LEVELS`.

    Returns:
        `LEVEL_SCHEMA`, one row per bucket and series; states are merged, sums are exact decimals.
    """
    times = rows.column("time_bucket" if "time_bucket" in rows.column_names else "minute")
    chosen = rows.select([*SERIES, "count", "sum", "min", "max", "state"])
    db = engine()
    db.register("rows", chosen.add_column(0, "time_bucket", bucket_starts(times, level)))
    try:
        combined = db.sql(_COMBINE).to_arrow_table()
    finally:
        db.unregister("rows")
    merged = [
        states.MERGE[kind](found) if found else None
        for kind, found in zip(
            combined.column("kind").to_pylist(), combined.column("states").to_pylist(), strict=True
        )
    ]
    return (
        combined.drop_columns(["states"])
        .append_column("state", pa.array(merged, pa.binary()))
        .cast(LEVEL_SCHEMA)
    )


def roll_up_all(deltas: pa.Table) -> dict[str, pa.Table]:
    """All five levels of a set of deltas, each from the finer one: these are sums, so the result is the same."""
    found: dict[str, pa.Table] = {}
    rows = deltas
    for level in LEVELS:
        rows = found[level] = roll_up(rows, level)
    return found


class Derived(NamedTuple):
    """What the table shows of a state."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    distinct_count: int | None = None
    first: float | None = None
    last: float | None = None


def derived(kind: str, state: bytes | None) -> Derived:
    """What the table shows of a state of this kind, if there is one."""
    if state is None or kind == Kind.REGISTER:
        return Derived()
    if kind == Kind.DISTINCT:
        return Derived(distinct_count=states.distinct_count(state))
    if kind == Kind.ENDS:
        first, last = states.ends_values(state)
        return Derived(first=first, last=last)
    p50, p95, p99 = (states.quantile_value(state, quantile) for quantile in (0.5, 0.95, 0.99))
    return Derived(p50, p95, p99)
