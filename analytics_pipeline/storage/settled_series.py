"""The settled hours of one metric's total, to show them.

Belongs here: reading them. Does not belong here: live reads, with what is pending (`api.metrics`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from analytics_pipeline.rollups.catalog import Aggregation, Metric
from analytics_pipeline.storage.connection import Connection

_HOURS = """
SELECT asked.hour, settled.count, settled.sum, settled.avg, settled.distinct_count
FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, interval '1 hour') AS asked (hour)
LEFT JOIN metric_aggregations AS settled
    ON settled.time_bucket = asked.hour AND settled.interval = '1h' AND settled.metric_name = %(name)s
    AND settled.metric_id = %(id)s AND settled.dimension_set = ''
ORDER BY asked.hour
"""
_COLUMNS = {
    Aggregation.COUNT: 0,
    Aggregation.SUM: 1,
    Aggregation.AVG: 2,
    Aggregation.RATIO: 2,
    Aggregation.DISTINCT: 3,
}


def last_hours(
    connection: Connection, metric: Metric, *, now: datetime, count: int
) -> Sequence[tuple[datetime, float | None]]:
    """Starts of the last `count` whole UTC hours and the metric's value in each, in its default aggregation.

    None where there is no settled row, or where the default aggregation is not one column.
    """
    last = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    span = {"first": last - timedelta(hours=count - 1), "last": last}
    rows = connection.execute(_HOURS, {**span, "name": metric.name, "id": metric.metric_id}).fetchall()
    column = _COLUMNS.get(metric.default_aggregation)
    return [(hour, None if column is None else values[column]) for hour, *values in rows]
