"""Partial states of a batch of events: what a landing writes beside the events, and what a recompute reads from raw.

Belongs here: the SQL that follows from the catalog, and its execution by DuckDB over Arrow.
Does not belong here: adding deltas up to levels (`levels`), encoding of states (`states`), Postgres.
"""

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import (
    CATALOG,
    NUMBER_FIELDS,
    REGISTER_ID,
    REGISTER_NAME,
    TEXT_FIELDS,
    Kind,
    Metric,
    dimension_set_name,
)
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, canonical_dimensions

_LIMIT = 1e18
"""Larger magnitudes are skipped: sums must fit DECIMAL(38, 9)."""

_MOST_DIMENSION_CHARACTERS = 255
_DECIMAL = "DECIMAL(38, 9)"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class _Plan:
    """The statements that follow from one catalog."""

    def __init__(self, catalog: tuple[Metric, ...]) -> None:
        self.values = sorted(
            {m.value for m in catalog if m.value is not None and m.kind is not Kind.DISTINCT}
        )
        self.weights = sorted({m.weight for m in catalog if m.weight != "1"})
        self.facts = self._facts()
        self.base = self._base()
        self.value_rows = " UNION ALL ".join(self._rows(m) for m in catalog if m.kind is not Kind.DISTINCT)
        self.quantiles = [m for m in catalog if m.kind is Kind.QUANTILE]
        self.distincts = [m for m in catalog if m.kind is Kind.DISTINCT]

    def _facts(self) -> str:
        """One row per event: the declared properties, typed; every value rounded once to 1e-9."""
        fields = [*TEXT_FIELDS, *NUMBER_FIELDS]
        paths = ", ".join(_literal(f"$.{field}") for field in fields)
        texts = ", ".join(
            f"left(json_extract_string(properties, '$.{field}'), {_MOST_DIMENSION_CHARACTERS}) AS {field}"
            for field in TEXT_FIELDS
        )
        # The JSON text of a string keeps its quotes, so that only a number casts to one.
        numbers = ", ".join(
            f"TRY_CAST(parts[{len(TEXT_FIELDS) + position + 1}]::VARCHAR AS DOUBLE) AS {field}"
            for position, field in enumerate(NUMBER_FIELDS)
        )
        rounded = ", ".join(
            f"CASE WHEN abs({value}) <= {_LIMIT} THEN ({value})::{_DECIMAL} END AS v{position}"
            for position, value in enumerate(self.values)
        )
        weighed = "".join(f", {weight} AS w{position}" for position, weight in enumerate(self.weights))
        return f"""
            CREATE OR REPLACE TEMP TABLE facts AS
            WITH parsed AS (
                SELECT *, json_extract(properties, [{paths}]) AS parts FROM batch
            ),
            typed AS (
                SELECT date_trunc('minute', timestamp) AS minute, event_type, user_id, session_id,
                    is_late, hash_high, hash_low, {texts}, {numbers}
                FROM parsed
            )
            SELECT minute, event_type, user_id, session_id, is_late, hash_high, hash_low,
                {", ".join(TEXT_FIELDS)}, {rounded}{weighed}
            FROM typed
        """

    def _base(self) -> str:
        """One row per minute, type and text properties: far fewer than events, and all that sums need."""
        values = "".join(
            f", count(v{i}) AS v{i}_count, sum(v{i}) AS v{i}_sum, min(v{i}) AS v{i}_min, max(v{i}) AS v{i}_max"
            for i in range(len(self.values))
        )
        weights = "".join(f", sum(w{i}) AS w{i}_sum" for i in range(len(self.weights)))
        return f"""
            CREATE OR REPLACE TEMP TABLE base AS
            SELECT minute, event_type, {", ".join(TEXT_FIELDS)}, count(*) AS events{values}{weights}
            FROM facts GROUP BY ALL
        """

    def _rows(self, metric: Metric) -> str:
        count, total, smallest, largest = "sum(events)", "NULL", "NULL", "NULL"
        if metric.value is not None:
            v = f"v{self.values.index(metric.value)}"
            count, total, smallest, largest = (
                f"sum({v}_count)",
                f"sum({v}_sum)",
                f"min({v}_min)",
                f"max({v}_max)",
            )
        if metric.weight != "1":
            # Of a ratio, the smallest and largest contribution mean nothing.
            count, smallest, largest = f"sum(w{self.weights.index(metric.weight)}_sum)", "NULL", "NULL"
        return " UNION ALL ".join(
            f"""
            SELECT minute, {_literal(metric.metric_id)} AS metric_id, {_name(metric, dimensions)} AS metric_name,
                {_literal(dimension_set_name(dimensions))} AS dimension_set, {_json(dimensions)} AS dimensions,
                {_literal(metric.kind.value)} AS kind, ({count})::BIGINT AS count,
                ({total})::{_DECIMAL} AS sum, ({smallest})::DOUBLE AS min, ({largest})::DOUBLE AS max
            FROM base {_where(metric)}
            GROUP BY minute{"".join(f", {dimension}" for dimension in dimensions)}
            HAVING ({count}) > 0 OR ({total}) IS NOT NULL
            """
            for dimensions in metric.dimension_sets
        )

    def bins(self, metric: Metric) -> Iterator[tuple[str, str]]:
        """Per dimension set, the bins of a quantile metric in the order `_states` wants."""
        v = f"v{self.values.index(metric.value or '')}"
        magnitude = f"ceil(ln(abs({v}::DOUBLE)) / {states.LN_GAMMA!r})::INTEGER + {states.BIN_OFFSET}"
        for dimensions in metric.dimension_sets:
            yield (
                dimension_set_name(dimensions),
                f"""
                SELECT minute, {_json(dimensions)} AS dimensions,
                    CASE WHEN {v} = 0 THEN 0 WHEN {v} > 0 THEN {magnitude} ELSE -({magnitude}) END::SMALLINT AS key,
                    count(*)::BIGINT AS count
                FROM facts {_where(metric, f"{v} IS NOT NULL")}
                GROUP BY ALL ORDER BY minute, dimensions, key
                """,
            )


def _name(metric: Metric, dimensions: tuple[str, ...]) -> str:
    if metric.name_by_dimension and dimensions:
        return f"{_literal(metric.name + '.')} || {dimensions[0]}"
    return _literal(metric.name)


def _json(dimensions: tuple[str, ...]) -> str:
    if not dimensions:
        return "'{}'"
    return "json_object(" + ", ".join(f"'{name}', {name}" for name in sorted(dimensions)) + ")::VARCHAR"


def _where(metric: Metric, *conditions: str) -> str:
    found = list(conditions)
    if metric.event_types:
        found.append("event_type IN (" + ", ".join(_literal(name) for name in metric.event_types) + ")")
    return "WHERE " + " AND ".join(found) if found else ""


_PLAN = _Plan(CATALOG)
_REGISTER = """
    SELECT epoch_us(minute) AS minute, count(*)::BIGINT AS events, count(*) FILTER (WHERE is_late)::BIGINT AS late,
        sum(hash_high)::VARCHAR AS high, sum(hash_low)::VARCHAR AS low
    FROM facts GROUP BY minute
"""
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
        db.execute(_PLAN.facts)
        db.execute(_PLAN.base)
    finally:
        db.unregister("batch")
    values = db.sql(_PLAN.value_rows).to_arrow_table()
    found = [
        _attach_states(db, values),
        *(_distinct_rows(db, metric) for metric in _PLAN.distincts),
        _register_rows(db),
    ]
    return _with_hours(pa.concat_tables(found))


def _with_hashes(events: pa.Table) -> pa.Table:
    ids = events.column("id").combine_chunks()
    halves = np.frombuffer(ids.buffers()[1], dtype=">u8").reshape(-1, 2)[ids.offset : ids.offset + len(ids)]
    at = events.column("timestamp").cast(pa.int64()).to_numpy()
    high, low = states.event_hashes(halves.astype(np.uint64), np.ascontiguousarray(at))
    chosen = events.select(["event_type", "user_id", "session_id", "properties", "timestamp", "is_late"])
    return chosen.append_column("hash_high", pa.array(high)).append_column("hash_low", pa.array(low))


def _packed(
    db: duckdb.DuckDBPyConnection, query: str, pack: Callable[..., bytes]
) -> dict[tuple[int, str], bytes]:
    """Run a query of (minute, dimensions, key[, count]) rows, sorted, and pack each group's arrays."""
    rows = db.sql(query).to_arrow_table()
    if rows.num_rows == 0:
        return {}
    names = rows.column("dimensions").combine_chunks().dictionary_encode()
    minutes = rows.column("minute").cast(pa.int64()).to_numpy()
    codes = names.indices.to_numpy()
    edges = np.flatnonzero((np.diff(minutes) != 0) | (np.diff(codes) != 0)) + 1
    starts = [0, *edges.tolist(), rows.num_rows]
    arrays = [rows.column(index).to_numpy() for index in range(2, rows.num_columns)]
    return {
        (int(minutes[first]), names.dictionary[int(codes[first])].as_py()): pack(
            *(a[first:last] for a in arrays)
        )
        for first, last in pairwise(starts)
    }


def _attach_states(db: duckdb.DuckDBPyConnection, values: pa.Table) -> pa.Table:
    """Add the `state` column: a histogram on the rows of quantile metrics, null elsewhere."""
    found: dict[tuple[str, str], dict[tuple[int, str], bytes]] = {}
    for metric in _PLAN.quantiles:
        for dimension_set, query in _PLAN.bins(metric):
            found[metric.metric_id, dimension_set] = _packed(db, query, states.quantile_pack)
    column = [
        found[metric_id, dimension_set][minute, dimensions] if kind == Kind.QUANTILE else None
        for minute, metric_id, dimension_set, dimensions, kind in zip(
            values.column("minute").cast(pa.int64()).to_pylist(),
            values.column("metric_id").to_pylist(),
            values.column("dimension_set").to_pylist(),
            values.column("dimensions").to_pylist(),
            values.column("kind").to_pylist(),
            strict=True,
        )
    ]
    return values.append_column("state", pa.array(column, pa.binary())).cast(_WITHOUT_HOUR)


_WITHOUT_HOUR = pa.schema([field for field in DELTAS_SCHEMA if field.name != "hour"])


def _distinct_rows(db: duckdb.DuckDBPyConnection, metric: Metric) -> pa.Table:
    counts = dict(
        db.execute(
            f"SELECT epoch_us(minute), count(*) FROM facts {_where(metric, f'{metric.value} IS NOT NULL')} GROUP BY 1"
        ).fetchall()
    )
    query = f"""
        SELECT minute, '{{}}' AS dimensions, md5_number_lower(value) AS key FROM (
            SELECT DISTINCT minute, {metric.value} AS value FROM facts {_where(metric, f"{metric.value} IS NOT NULL")}
        ) ORDER BY minute, key
    """
    return _table(
        [
            _row(minute, metric.metric_id, metric.name, Kind.DISTINCT, count=counts[minute], state=state)
            for (minute, _), state in _packed(db, query, states.distinct_pack).items()
        ]
    )


def _register_rows(db: duckdb.DuckDBPyConnection) -> pa.Table:
    """Events in `count`, late events in `sum`, the set hash in `state`."""
    rows = []
    for minute, events, late, high, low in db.execute(_REGISTER).fetchall():
        set_hash = states.register_pack(((int(high) << 64) + int(low)) % states.MODULUS)
        rows.append(
            _row(minute, REGISTER_ID, REGISTER_NAME, Kind.REGISTER, count=events, total=late, state=set_hash)
        )
    return _table(rows)


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


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, _WITHOUT_HOUR)


def _with_hours(deltas: pa.Table) -> pa.Table:
    minutes = deltas.column("minute").cast(pa.int64()).to_numpy()
    hours = pa.array(minutes - minutes % 3_600_000_000).cast(DELTAS_SCHEMA.field("hour").type)
    position = deltas.column_names.index("dimensions")
    deltas = deltas.set_column(position, "dimensions", canonical_dimensions(deltas.column("dimensions")))
    return deltas.add_column(0, DELTAS_SCHEMA.field("hour"), hours).cast(DELTAS_SCHEMA)
