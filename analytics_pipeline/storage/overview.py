"""What happens now: rates by source, event types of the last minute, how far rollups are.

Belongs here: cheap statements for a view that is drawn anew every second or two. Does not belong here: the proof that
nothing is lost (`storage.audit`), statistics by producer (`storage.source_statistics`).
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.storage import books
from analytics_pipeline.storage.connection import Connection

WINDOW = 10.0
"""Seconds that rates are taken over."""

_RATES = """
WITH known AS (
    SELECT source, extract(EPOCH FROM %(now)s - min(coalesce(caught_up_at, 'epoch'::timestamptz))) AS behind
    FROM ingest_offsets WHERE NOT is_retired GROUP BY source
    UNION ALL
    SELECT 'http', (SELECT coalesce(extract(EPOCH FROM %(now)s - min(received_at)), 0) FROM http_inbox)
),
recent AS (
    SELECT source, sum(read) AS read, sum(stored) AS stored, sum(duplicate) AS duplicate, sum(dead) AS dead
    FROM ingest_batches
    WHERE committed_at > %(now)s - make_interval(secs => %(window)s) AND committed_at <= %(now)s
    GROUP BY source
)
SELECT
    coalesce(known.source, recent.source),
    coalesce(recent.read, 0)::double precision / %(window)s,
    coalesce(recent.stored, 0)::double precision / %(window)s,
    coalesce(recent.duplicate, 0)::double precision / %(window)s,
    coalesce(recent.dead, 0)::double precision / %(window)s,
    greatest(known.behind, 0)::double precision
FROM known FULL JOIN recent ON recent.source = known.source
ORDER BY 1
"""
_TYPES = """
SELECT event_type, sum(count)::bigint
FROM (
    SELECT dimensions ->> 'event_type' AS event_type, count FROM metric_aggregations
    WHERE metric_id = %(metric)s AND dimension_set = 'event_type' AND interval = '1m'
        AND time_bucket >= %(since)s
    UNION ALL
    SELECT dimensions ->> 'event_type', count FROM rollup_deltas
    WHERE metric_id = %(metric)s AND dimension_set = 'event_type' AND minute >= %(since)s
) AS both_halves
GROUP BY event_type ORDER BY 2 DESC, 1 LIMIT %(most)s
"""
_ROLLUPS = """
SELECT max(time_bucket) FILTER (WHERE state IN ('final', 'restated')), count(*) FILTER (WHERE state = 'restated')
FROM metric_buckets WHERE interval = '1m' AND time_bucket > %(now)s - interval '1 day'
"""
_EVENT_TYPES = """
SELECT DISTINCT dimensions ->> 'event_type' FROM metric_aggregations
WHERE metric_id = %(metric)s AND dimension_set = 'event_type' AND interval = '1d'
    AND time_bucket > now() - interval '31 days'
UNION
SELECT name FROM custom_event_definitions
ORDER BY 1 LIMIT %(most)s
"""
_COUNTED = BUILT_IN.by_name["events.count"]
_MINUTE = timedelta(minutes=1)


class SourceRate(NamedTuple):
    """A source in the last seconds.

    Attributes:
        source: a topic, `http`, or `_replay`.
        read: messages a second; each was stored, a duplicate or dead.
        behind: seconds since all of it had landed; None where that is not asked (replays).
    """

    source: str
    read: float
    stored: float
    duplicate: float
    dead: float
    behind: float | None


class TypeRate(NamedTuple):
    """Events of a type a second, by their own time."""

    event_type: str
    rate: float


class RollupState(NamedTuple):
    """Deltas that no merge has taken, seconds since the oldest of them, the newest minute that is final, and how many
    minutes of the last day were restated."""

    pending: int
    oldest: float | None
    final_until: datetime | None
    restated: int


def rates(connection: Connection, *, now: datetime) -> list[SourceRate]:
    """Every source that is read or was read a moment ago."""
    return [SourceRate(*row) for row in connection.execute(_RATES, {"now": now, "window": WINDOW})]


def types(connection: Connection, *, now: datetime, most: int) -> list[TypeRate]:
    """The most frequent types since the minute before this one began."""
    since = now.replace(second=0, microsecond=0) - _MINUTE
    seconds = (now - since).total_seconds()
    values = {"metric": _COUNTED.metric_id, "since": since, "most": most}
    return [TypeRate(name, count / seconds) for name, count in connection.execute(_TYPES, values)]


def rollup_state(connection: Connection, *, now: datetime) -> RollupState:
    """How far merges are."""
    row = connection.execute(_ROLLUPS, {"now": now}).fetchone()
    assert row is not None
    final, restated = row
    waiting = books.freshness(connection, now=now)
    final_until = final + _MINUTE if final is not None else None
    return RollupState(waiting.pending, waiting.oldest_pending, final_until, restated)


def event_types(connection: Connection, *, most: int) -> list[str]:
    """Types that had events in the last month, or have a definition."""
    values = {"metric": _COUNTED.metric_id, "most": most}
    return [name for (name,) in connection.execute(_EVENT_TYPES, values) if name]
