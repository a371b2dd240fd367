"""Partial states of a batch of events: what a landing writes beside the events, and what a recompute reads from raw.

Belongs here: running the catalog's statements (`plan`) over Arrow by DuckDB, and putting rows and states together.
Does not belong here: adding deltas up to levels (`levels`), encoding of states (`states`), Postgres.
"""

import json
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import (
    CATALOG,
    REGISTER_ID,
    REGISTER_NAME,
    Kind,
    Metric,
    dimension_set_name,
)
from analytics_pipeline.rollups.plan import Plan
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, canonical_dimensions

PLAN = Plan(CATALOG)
_local = threading.local()


def engine() -> duckdb.DuckDBPyConnection:
    """This thread's DuckDB: one thread, UTC, in memory."""
    if not hasattr(_local, "engine"):
        _local.engine = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
        _local.engine.execute("SET TimeZone = 'UTC'")
    return _local.engine  # type: ignore[no-any-return]


def compute_deltas(events: pa.Table) -> pa.Table:
    """Compute the partial states of every metric for the minutes a batch touches.

    Args:
        events: at least the columns id (fixed_size_binary(16)), event_type, user_id, session_id, properties
            (JSON text), timestamp (µs UTC) and is_late of the events schema; every row counts.

    Returns:
        `DELTAS_SCHEMA`, one row per minute and series; the same events in any order, or split over several
        calls and merged, give the same states to the byte.
    """
    if events.num_rows == 0:
        return DELTAS_SCHEMA.empty_table()
    db = engine()
    db.register("batch", _with_hashes(events))
    try:
        db.execute(PLAN.facts)
        db.execute(PLAN.base)
    finally:
        db.unregister("batch")
    found = [rows for group in PLAN.groups for rows in _value_rows(db, *group)]
    return _with_hours(pa.concat_tables([*found, _distinct_and_register_rows(db)]))


def _with_hashes(events: pa.Table) -> pa.Table:
    ids = events.column("id").combine_chunks()
    halves = np.frombuffer(ids.buffers()[1], dtype=">u8").reshape(-1, 2)[ids.offset : ids.offset + len(ids)]
    at = events.column("timestamp").cast(pa.int64()).to_numpy()
    high, low = states.event_hashes(halves.astype(np.uint64), np.ascontiguousarray(at))
    chosen = events.select(["event_type", "user_id", "session_id", "properties", "timestamp", "is_late"])
    return chosen.append_column("hash_high", pa.array(high)).append_column("hash_low", pa.array(low))


_Packed = dict[tuple[str, int, str], bytes]


def _packed(db: duckdb.DuckDBPyConnection, query: str, pack: Callable[..., bytes]) -> _Packed:
    """Run a query of (part, minute, dimensions, key[, count]) rows, sorted, and pack the arrays of each group."""
    rows = db.sql(query).to_arrow_table()
    if rows.num_rows == 0:
        return {}
    parts = rows.column("part").combine_chunks().dictionary_encode()
    names = rows.column("dimensions").combine_chunks().dictionary_encode()
    minutes = rows.column("minute").cast(pa.int64()).to_numpy()
    part_codes, name_codes = parts.indices.to_numpy(), names.indices.to_numpy()
    changes = (np.diff(minutes) != 0) | (np.diff(part_codes) != 0) | (np.diff(name_codes) != 0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), rows.num_rows]
    arrays = [rows.column(index).to_numpy() for index in range(3, rows.num_columns)]
    part_names, dimension_names = parts.dictionary.to_pylist(), names.dictionary.to_pylist()
    return {
        (part_names[part_codes[first]], int(minutes[first]), dimension_names[name_codes[first]]): pack(
            *(array[first:last] for array in arrays)
        )
        for first, last in pairwise(edges)
    }


def _value_rows(
    db: duckdb.DuckDBPyConnection, dimensions: tuple[str, ...], metrics: list[Metric], query: str
) -> Iterator[pa.Table]:
    """The rows of each metric for one dimension set, histograms included."""
    wide = db.sql(query).to_arrow_table()
    dimension_set = dimension_set_name(dimensions)
    for position, metric in enumerate(metrics):
        count, total = wide.column(f"count{position}"), wide.column(f"sum{position}")
        rows = wide.filter(pc.or_kleene(pc.greater(count, 0), pc.is_valid(total)))
        size = rows.num_rows
        if not size:
            continue
        texts = rows.column("dimensions")
        name = pa.repeat(metric.name, size)
        if metric.name_by_dimension and dimensions:
            values = [json.loads(text)[dimensions[0]] for text in texts.to_pylist()]
            name = pa.array([f"{metric.name}.{value}" for value in values])
        state: list[bytes] | pa.Array = pa.nulls(size, pa.binary())
        if metric.kind is Kind.QUANTILE:
            packed = _histogram_states(db, metric)
            minutes = rows.column("minute").cast(pa.int64()).to_pylist()
            state = pa.array(
                [packed[dimension_set, at, text] for at, text in zip(minutes, texts.to_pylist(), strict=True)]
            )
        yield pa.table(
            [
                rows.column("minute"),
                pa.repeat(metric.metric_id, size),
                name,
                pa.repeat(dimension_set, size),
                texts,
                pa.repeat(metric.kind.value, size),
                *(rows.column(f"{column}{position}") for column in ("count", "sum", "min", "max")),
                state,
            ],
            names=_WITHOUT_HOUR.names,
        ).cast(_WITHOUT_HOUR)


def _histogram_states(db: duckdb.DuckDBPyConnection, metric: Metric) -> _Packed:
    return _packed(db, PLAN.histograms[metric.metric_id], states.quantile_pack)


_WITHOUT_HOUR = pa.schema([field for field in DELTAS_SCHEMA if field.name != "hour"])


def _distinct_and_register_rows(db: duckdb.DuckDBPyConnection) -> pa.Table:
    """Per minute, one row of each distinct metric, and the register: late events in `sum`, the set hash in `state`."""
    packed = _packed(db, PLAN.hashes, states.distinct_pack)
    rows = []
    for minute, events, late, high, low, *counts in db.execute(PLAN.register).fetchall():
        set_hash = states.register_pack(((int(high) << 64) + int(low)) % states.MODULUS)
        rows.append(
            _row(minute, REGISTER_ID, REGISTER_NAME, Kind.REGISTER, count=events, total=late, state=set_hash)
        )
        for metric, count in zip(PLAN.distincts, counts, strict=True):
            if count:
                state = packed[metric.metric_id, minute, "{}"]
                rows.append(
                    _row(minute, metric.metric_id, metric.name, Kind.DISTINCT, count=count, state=state)
                )
    return pa.Table.from_pylist(rows, _WITHOUT_HOUR)


def _row(
    minute: int, metric_id: str, name: str, kind: Kind, *, count: int, state: bytes, total: int | None = None
) -> dict[str, Any]:
    return {
        "minute": minute,
        "metric_id": metric_id,
        "metric_name": name,
        "dimension_set": "",
        "dimensions": "{}",
        "kind": kind.value,
        "count": count,
        "sum": total,
        "state": state,
    }


def _with_hours(deltas: pa.Table) -> pa.Table:
    minutes = deltas.column("minute").cast(pa.int64()).to_numpy()
    hours = pa.array(minutes - minutes % 3_600_000_000).cast(DELTAS_SCHEMA.field("hour").type)
    position = deltas.column_names.index("dimensions")
    deltas = deltas.set_column(position, "dimensions", canonical_dimensions(deltas.column("dimensions")))
    return deltas.add_column(0, DELTAS_SCHEMA.field("hour"), hours).cast(DELTAS_SCHEMA)
