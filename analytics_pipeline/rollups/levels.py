"""Adding partial states up: minutes to 1m, 5m, 15m, 1h and 1d.

Belongs here: grouping and combining of rows of one series, and the values derived from a state.
Does not belong here: reading or writing Postgres (`storage.rollups`), computing states of events (`deltas`).
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import gathered, states
from analytics_pipeline.rollups.catalog import Kind
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, LEVELS, SERIES, TIMESTAMP

LEVEL_SCHEMA = pa.schema(
    [pa.field("time_bucket", TIMESTAMP, nullable=False)]
    + [DELTAS_SCHEMA.field(name) for name in (*SERIES, "count", "sum", "min", "max", "state")]
)
"""Rows of one level: one per bucket and series."""

_DERIVED = {
    "p50": pa.float64(),
    "p95": pa.float64(),
    "p99": pa.float64(),
    "distinct_count": pa.int64(),
    "first": pa.float64(),
    "last": pa.float64(),
}
WRITTEN_SCHEMA = pa.schema([*LEVEL_SCHEMA, *(pa.field(name, kind) for name, kind in _DERIVED.items())])
"""Rows of one level, and what the table shows of their states."""

_Gather = Callable[[gathered.Integers], gathered.Gathered]

_OR_NULL = pc.ScalarAggregateOptions(min_count=1)
_COMBINE = [
    ("count", "sum"),
    ("sum", "sum", _OR_NULL),
    ("min", "min", _OR_NULL),
    ("max", "max", _OR_NULL),
    ("state", "list"),
]
"""What is combined, in the order of `LEVEL_SCHEMA`."""


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
    starts = chosen.add_column(0, "time_bucket", bucket_starts(times, level))
    # Not DuckDB, which takes 5 ms for the plan alone.
    combined = pa.TableGroupBy(starts, ["time_bucket", *SERIES], use_threads=False).aggregate(_COMBINE)
    states_of, has_states = _without_nulls(combined.column(combined.num_columns - 1).combine_chunks())
    merged = merged_states(
        combined.column("kind"), has_states, lambda places: gathered.of_lists(states_of.take(places))
    )
    columns = [*combined.columns[:-1], merged]
    return pa.table(columns, LEVEL_SCHEMA.names).cast(LEVEL_SCHEMA)


def _without_nulls(lists: pa.ListArray) -> tuple[pa.ListArray, pa.Array]:
    """The same lists without what is null in them; with it, which of them have something left."""
    values = lists.flatten()
    before = np.concatenate(([0], np.cumsum(values.is_valid().to_numpy(zero_copy_only=False))))
    ends = before[np.concatenate(([0], np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))))]
    left = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values.drop_null())
    return left, pa.array(np.diff(ends) > 0)


def merged_states(kinds: pa.ChunkedArray, has_states: pa.Array, gather: _Gather) -> pa.Array:
    """The states of each row merged into one; null where it has none.

    Args:
        kinds: of each row.
        has_states: of each row, whether there are any.
        gather: the states of some rows, all of one kind, by the places of the rows (int64).
    """
    merged = np.full(len(kinds), None, dtype=object)
    for kind in pc.unique(kinds).to_pylist():
        places = pc.indices_nonzero(pc.and_(pc.equal(kinds, kind), has_states)).to_numpy().astype(np.int64)
        if len(places):
            found = gathered.merge(kind, gather(places))
            merged[places] = np.fromiter(found, dtype=object, count=len(found))
    return pa.array(merged, pa.binary())


def roll_up_all(rows: pa.Table) -> dict[str, pa.Table]:
    """All five levels of deltas or 1m rows, each from the finer one: these are sums, so the result is the same."""
    found: dict[str, pa.Table] = {}
    for level in LEVELS:
        is_there = level == "1m" and rows.schema.equals(LEVEL_SCHEMA)
        rows = found[level] = rows if is_there else roll_up(rows, level)
    return found


def with_derived(rows: pa.Table) -> pa.Table:
    """Rows of one level with what the table shows of their states, as `WRITTEN_SCHEMA`."""
    shown = [
        _derived(kind, state)
        for kind, state in zip(rows.column("kind").to_pylist(), rows.column("state").to_pylist(), strict=True)
    ]
    columns = zip(*shown, strict=True) if shown else ([] for _ in _DERIVED)
    for (name, kind), column in zip(_DERIVED.items(), columns, strict=True):
        rows = rows.append_column(name, pa.array(column, kind))
    return rows


_NOTHING = (None,) * len(_DERIVED)


def _derived(kind: str, state: bytes | None) -> tuple[float | None, ...]:
    if state is None or kind == Kind.REGISTER:
        return _NOTHING
    if kind == Kind.DISTINCT:
        return (None, None, None, states.distinct_count(state), None, None)
    if kind == Kind.ENDS:
        return (None, None, None, None, *states.ends_values(state))
    return (*states.quantile_values(state, (0.5, 0.95, 0.99)), None, None, None)
