"""What a recompute would change: the buckets of series whose served numbers differ from the recomputed ones."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import BUILT_IN, Aggregation, Catalog, Metric
from analytics_pipeline.rollups.engine import engine
from analytics_pipeline.rollups.schema import SERIES

_DIFFER = """
    SELECT
        coalesce(a.time_bucket, b.time_bucket) AS bucket, coalesce(a.metric_name, b.metric_name) AS name,
        coalesce(a.dimensions, b.dimensions) AS dimensions, coalesce(a.metric_id, b.metric_id),
        b.count, b.sum, b.state, a.count, a.sum, a.state
    FROM after AS a FULL JOIN before AS b
        ON a.time_bucket = b.time_bucket AND a.metric_id = b.metric_id AND a.metric_name = b.metric_name
        AND a.dimension_set = b.dimension_set AND a.dimensions = b.dimensions
    WHERE a.count IS DISTINCT FROM b.count OR a.sum IS DISTINCT FROM b.sum OR a.min IS DISTINCT FROM b.min
        OR a.max IS DISTINCT FROM b.max OR a.state IS DISTINCT FROM b.state
    ORDER BY bucket, name, dimensions, 4
"""


class Difference(NamedTuple):
    """One bucket of one series, before and after; None where it did not exist.

    `value_…` is the number in the metric's default aggregation; the register of buckets counts events. Both may be
    equal: then something else of the series differs, such as its minimum, or which values it counted.
    """

    interval: str
    time_bucket: datetime
    metric_name: str
    dimensions: str
    count_before: int | None
    count_after: int | None
    sum_before: float | None
    sum_after: float | None
    value_before: float | None
    value_after: float | None

    @property
    def change(self) -> float:
        """What is added to the value; one that does not exist counts as 0."""
        return (self.value_after or 0) - (self.value_before or 0)


def compare_rows(
    before: pa.Table, after: pa.Table, interval: str = "1m", catalog: Catalog = BUILT_IN
) -> list[Difference]:
    """Compare two tables of `LEVEL_SCHEMA` of one interval, states to the byte; in order of time and name.

    The catalog says what the value of a metric is; of one that it does not have, it is the count.
    """
    if _are_equal(before, after):
        return []
    db = engine()
    db.register("before", before)
    db.register("after", after)
    try:
        found = db.execute(_DIFFER).fetchall()
    finally:
        db.unregister("before")
        db.unregister("after")
    return [
        Difference(
            interval, bucket, name, dimensions, old_count, new_count, _number(old_sum), _number(new_sum),
            _value(catalog.by_id.get(metric_id), old_count, old_sum, old_state),
            _value(catalog.by_id.get(metric_id), new_count, new_sum, new_state),
        )
        for bucket, name, dimensions, metric_id, old_count, old_sum, old_state, new_count, new_sum, new_state in found
    ]  # fmt: skip


def _are_equal(before: pa.Table, after: pa.Table) -> bool:
    """Whether they hold the same rows, in any order: most often, and a statement takes milliseconds to find out."""
    if before.num_rows != after.num_rows:
        return False
    order = [(name, "ascending") for name in ("time_bucket", *SERIES)]
    return bool(before.sort_by(order).equals(after.sort_by(order)))


def _quotient(count: int, total: Decimal | None, _state: bytes | None) -> float | None:
    return float(total / count) if count and total is not None else None


_Point = Callable[[int, Decimal | None, bytes | None], float | None]
_POINTS: dict[Aggregation, _Point] = {
    Aggregation.COUNT: lambda count, _sum, _state: count,
    Aggregation.SUM: lambda _count, total, _state: _number(total),
    Aggregation.AVG: _quotient,
    Aggregation.RATIO: _quotient,
    Aggregation.LAST: lambda _count, _sum, state: states.ends_values(state)[1] if state else None,
    Aggregation.DISTINCT: lambda _count, _sum, state: states.distinct_count(state) if state else None,
}


def _value(
    metric: Metric | None, count: int | None, total: Decimal | None, state: bytes | None
) -> float | None:
    if count is None:
        return None
    return _POINTS[metric.default_aggregation if metric else Aggregation.COUNT](count, total, state)


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
