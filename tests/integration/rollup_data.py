"""Puts events and their deltas into a database the way a landing does, without Kafka."""

from datetime import datetime
from typing import Any

import pyarrow as pa

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage.connection import Connection

_EVENTS = "COPY events (id, event_type, user_id, session_id, properties, timestamp, is_late) FROM STDIN"
_DELTAS = """
COPY rollup_deltas (
    hour, minute, metric_id, metric_name, dimension_set, dimensions, kind, count, sum, min, max, state, batch_id
) FROM STDIN
"""


def land(connection: Connection, events: pa.Table, batch_id: int) -> None:
    deltas = compute_deltas(events, BUILT_IN)
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy(_EVENTS) as copy:
            for row in events.to_pylist():
                copy.write_row((row["id"].hex(), *list(row.values())[1:]))
        with cursor.copy(_DELTAS) as copy:
            for row in deltas.to_pylist():
                copy.write_row((*row.values(), batch_id))
        for hour in set(deltas.column("hour").to_pylist()):
            cursor.execute("INSERT INTO pending_batches VALUES (%s, %s)", (hour, batch_id))


def live(connection: Connection) -> list[tuple[Any, ...]]:
    """What a reader sees: settled + pending, every metric, level, bucket and series."""
    return connection.execute(
        "SELECT metric_name, interval, time_bucket, dimension_set, dimensions::text, count, sum, avg, min, max"
        " FROM metrics_live ORDER BY 1, 2, 3, 4, 5"
    ).fetchall()


def settled(
    connection: Connection, level: str, bucket: datetime, metric_name: str = "events.count"
) -> int | None:
    row = connection.execute(
        "SELECT count FROM metric_aggregations"
        " WHERE interval = %s AND time_bucket = %s AND metric_name = %s AND dimension_set = ''",
        (level, bucket, metric_name),
    ).fetchone()
    return None if row is None else int(row[0])
