"""Shapes of rollup data in Arrow, and the five levels."""

import json

import pyarrow as pa

LEVELS: dict[str, int] = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400}
"""Interval name and width in seconds, finest first."""
HOUR_LEVELS = [level for level, seconds in LEVELS.items() if seconds <= 3600]
"""Those whose buckets lie within one hour."""

DECIMAL = pa.decimal128(38, 9)
TIMESTAMP = pa.timestamp("us", tz="UTC")

DELTAS_SCHEMA = pa.schema(
    [
        pa.field("hour", TIMESTAMP, nullable=False),
        pa.field("minute", TIMESTAMP, nullable=False),
        pa.field("metric_id", pa.string(), nullable=False),
        pa.field("metric_name", pa.string(), nullable=False),
        pa.field("dimension_set", pa.string(), nullable=False),
        pa.field("dimensions", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("sum", DECIMAL),
        pa.field("min", pa.float64()),
        pa.field("max", pa.float64()),
        pa.field("state", pa.binary()),
    ]
)
"""Partial states of one batch: one row per minute and series. `dimensions` is JSON text with sorted keys."""

SERIES = ("metric_id", "metric_name", "dimension_set", "dimensions", "kind")
"""Columns that name a series."""


def canonical_dimensions(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One text per set of dimensions: Postgres, DuckDB and Python each print JSON in a way of their own."""
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = encoded.dictionary_encode()
    texts = [
        json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        for text in encoded.dictionary.to_pylist()
    ]
    return pa.array(texts, pa.string()).take(encoded.indices)
