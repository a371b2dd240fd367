"""How large a table is, and how many rows of rollups there are in a partition of Dagster's.

Belongs here: counting, and what Postgres' own statistics say. Does not belong here: partitions one by one
(`storage.partitions`).
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection

_SIZE = """
SELECT
    coalesce(sum(greatest(class.reltuples, 0)), 0)::bigint,
    coalesce(sum(pg_total_relation_size(class.oid)), 0)::bigint
FROM pg_partition_tree(%s::regclass) AS part INNER JOIN pg_class AS class ON class.oid = part.relid
WHERE part.isleaf
"""


_ROWS = """
SELECT count(*) FROM metric_aggregations WHERE interval = %s AND time_bucket >= %s AND time_bucket < %s
"""


class Size(NamedTuple):
    """Rows as of the last ANALYZE or VACUUM, bytes now, indexes included."""

    rows: int
    bytes: int


def size_of(connection: Connection, table: str) -> Size:
    """Of one table, all its partitions together."""
    row = connection.execute(_SIZE, (table,)).fetchone()
    assert row is not None
    return Size(*row)


def rollup_rows(connection: Connection, level: str, start: datetime) -> int:
    """Settled rows of the hour that begins then at one level; of the day at 1d."""
    width = timedelta(days=1) if level == "1d" else timedelta(hours=1)
    row = connection.execute(_ROWS, (level, start, start + width)).fetchone()
    assert row is not None
    return int(row[0])
