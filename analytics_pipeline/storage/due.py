"""Whether a live merge is worth a run: asked every few seconds, so one cheap statement.

Belongs here: that question. Does not belong here: merging (`storage.rollups`).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from analytics_pipeline.rollups.catalog import REGISTER_ID
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.connection import Connection

_CLOSED_MINUTES = """
SELECT count(*) FROM (
    SELECT FROM rollup_deltas
    WHERE metric_id = %(register)s AND minute < date_trunc('minute', %(now)s::timestamptz) LIMIT 1000
) AS closed
"""
_DUE_BUCKETS = """
SELECT count(*) FROM metric_buckets AS bucket
INNER JOIN unnest(%(levels)s::text [], %(seconds)s::integer [], %(graces)s::interval []) AS level (name, seconds, grace)
    ON bucket.interval = level.name
WHERE bucket.state IN ('open', 'settling')
    AND bucket.time_bucket + make_interval(secs => level.seconds) <= least(
        %(now)s::timestamptz - level.grace,
        (SELECT min(coalesce(caught_up_at, 'epoch')) FROM ingest_offsets WHERE NOT is_retired),
        (SELECT min(received_at) FROM http_inbox)
    )
"""


def closed_minutes_pending(connection: Connection, *, now: datetime) -> int:
    """How many batches, up to 1,000, have deltas of minutes that are over."""
    return _count(connection, _CLOSED_MINUTES, {"now": now, "register": REGISTER_ID})


def buckets_due(connection: Connection, *, now: datetime, graces: Mapping[str, timedelta]) -> int:
    """How many buckets could become final: over by the grace of their level, and every source is past them."""
    levels = {
        "levels": list(LEVELS),
        "seconds": list(LEVELS.values()),
        "graces": [graces[level] for level in LEVELS],
    }
    return _count(connection, _DUE_BUCKETS, {"now": now, **levels})


def _count(connection: Connection, query: str, values: dict[str, object]) -> int:
    row = connection.execute(query, values).fetchone()
    return int(row[0]) if row else 0
