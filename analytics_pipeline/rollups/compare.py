"""What a recompute would change: the series whose served numbers differ from the recomputed ones."""

from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from analytics_pipeline.rollups.engine import engine

_DIFFER = """
    SELECT
        coalesce(a.time_bucket, b.time_bucket), coalesce(a.metric_name, b.metric_name),
        coalesce(a.dimensions, b.dimensions), b.count, a.count, b.sum::DOUBLE, a.sum::DOUBLE
    FROM after AS a FULL JOIN before AS b
        ON a.time_bucket = b.time_bucket AND a.metric_id = b.metric_id AND a.metric_name = b.metric_name
        AND a.dimension_set = b.dimension_set AND a.dimensions = b.dimensions
    WHERE a.count IS DISTINCT FROM b.count OR a.sum IS DISTINCT FROM b.sum OR a.min IS DISTINCT FROM b.min
        OR a.max IS DISTINCT FROM b.max OR a.state IS DISTINCT FROM b.state
    ORDER BY ALL
"""


class Difference(NamedTuple):
    """One bucket of one series, before and after; None where it did not exist."""

    time_bucket: datetime
    metric_name: str
    dimensions: str
    count_before: int | None
    count_after: int | None
    sum_before: float | None
    sum_after: float | None


def compare_rows(before: pa.Table, after: pa.Table) -> list[Difference]:
    """Compare two tables of `LEVEL_SCHEMA` of the same level, states to the byte; in order of time and name."""
    db = engine()
    db.register("before", before)
    db.register("after", after)
    try:
        return [Difference(*row) for row in db.execute(_DIFFER).fetchall()]
    finally:
        db.unregister("before")
        db.unregister("after")
