"""Questions that must always have the same answer: the books of landing and rollups, for checks.

Belongs here: reading both sides of each balance, in one statement each, so that landings in between don't count.
Does not belong here: judging them (`defs.checks`).
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection

_LEVELS_AGAINST_RAW = """
WITH hour AS (SELECT %(hour)s::timestamptz AS first, %(hour)s::timestamptz + interval '1 hour' AS last),
live AS (
    SELECT level.name AS level, (
        SELECT coalesce(sum(settled.count), 0) FROM metric_aggregations AS settled, hour
        WHERE settled.interval = level.name AND settled.metric_name = 'events.count' AND settled.dimension_set = ''
            AND settled.time_bucket >= hour.first AND settled.time_bucket < hour.last
    ) + (
        SELECT coalesce(sum(pending.count), 0) FROM rollup_deltas AS pending, hour
        WHERE pending.hour = hour.first AND pending.metric_name = 'events.count' AND pending.dimension_set = ''
    ) AS counted
    FROM unnest(ARRAY['1m', '5m', '15m', '1h']) AS level (name)
)
SELECT live.level, live.counted::bigint, (
    SELECT count(*) FROM events AS raw, hour WHERE raw.timestamp >= hour.first AND raw.timestamp < hour.last
)
FROM live
"""
_LEDGER = """
SELECT
    (SELECT count(*) FROM (
        SELECT batch.first_offset, lag(batch.next_offset) OVER (
            PARTITION BY batch.source, batch.partition ORDER BY batch.first_offset
        ) AS expected
        FROM ingest_batches AS batch WHERE batch.first_offset IS NOT NULL AND batch.committed_at >= %(since)s
    ) AS chained WHERE chained.first_offset <> chained.expected),
    (SELECT count(*) FROM ingest_offsets AS offsets WHERE offsets.next_offset <> (
        SELECT batch.next_offset FROM ingest_batches AS batch
        WHERE batch.source = offsets.source AND batch.partition = offsets.partition AND batch.first_offset IS NOT NULL
        ORDER BY batch.first_offset DESC LIMIT 1
    )),
    (SELECT coalesce(sum(accepted), 0)::bigint FROM http_accepted),
    (SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches WHERE source = 'http'),
    (SELECT count(*) FROM http_inbox)
"""
_FRESHNESS = """
SELECT
    extract(EPOCH FROM %(now)s - (SELECT min(caught_up_at) FROM ingest_offsets WHERE NOT is_retired))::double precision,
    extract(EPOCH FROM %(now)s - (SELECT min(received_at) FROM http_inbox))::double precision,
    extract(EPOCH FROM %(now)s - (
        SELECT min(batch.committed_at) FROM pending_batches AS pending
        INNER JOIN ingest_batches AS batch ON batch.batch_id = pending.batch_id
    ))::double precision,
    (SELECT count(*) FROM rollup_deltas)
"""
_AHEAD = """
SELECT extract(EPOCH FROM max(upper_bound) - %s)::double precision / 86400 FROM time_partitions WHERE parent = 'events'
"""
_DEAD = """
SELECT coalesce(sum(read), 0)::bigint, coalesce(sum(dead), 0)::bigint FROM ingest_batches WHERE committed_at >= %s
"""
_BUCKETS_OF_RUN = """
SELECT interval, time_bucket FROM metric_buckets WHERE run_id = %s AND time_bucket >= %s
"""


class LevelBalance(NamedTuple):
    """Events of one hour by a level, settled plus pending, and in the raw events of the same snapshot."""

    level: str
    counted: int
    raw: int


class Ledger(NamedTuple):
    """Places where the ledger's offsets break, partitions whose offset is not the ledger's, and REST's two sides."""

    gaps: int
    adrift: int
    accepted: int
    read: int
    inbox: int

    @property
    def is_conserved(self) -> bool:
        """Every offset follows the one before, and everything accepted over REST was read or still waits."""
        return self.gaps == 0 and self.adrift == 0 and self.accepted == self.read + self.inbox


class Freshness(NamedTuple):
    """Ages in seconds, None where there is nothing to be late; `pending` counts deltas."""

    behind_kafka: float | None
    oldest_in_inbox: float | None
    oldest_pending: float | None
    pending: int

    @property
    def oldest(self) -> float:
        """The age of what has waited longest."""
        return max(0.0, *(age for age in self[:3] if age is not None))


def levels_against_raw(connection: Connection, hour: datetime) -> list[LevelBalance]:
    """The four levels below a day of one UTC hour, against raw."""
    return [LevelBalance(*row) for row in connection.execute(_LEVELS_AGAINST_RAW, {"hour": hour})]


def ledger(connection: Connection, *, since: datetime) -> Ledger:
    """The books of landing; gaps are looked for among batches committed from `since` on."""
    row = connection.execute(_LEDGER, {"since": since}).fetchone()
    assert row is not None
    return Ledger(*row)


def freshness(connection: Connection, *, now: datetime) -> Freshness:
    """How old the oldest thing is that waits to be landed or merged."""
    row = connection.execute(_FRESHNESS, {"now": now}).fetchone()
    assert row is not None
    return Freshness(*row)


def days_ahead(connection: Connection, *, now: datetime) -> float:
    """For how many more days events have a partition."""
    row = connection.execute(_AHEAD, (now,)).fetchone()
    return float(row[0]) if row and row[0] is not None else 0.0


def read_and_dead(connection: Connection, *, now: datetime, window: timedelta) -> tuple[int, int]:
    """Messages read and those of them that became dead letters in the window before `now`."""
    row = connection.execute(_DEAD, (now - window,)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def buckets_of_run(connection: Connection, run_id: str, *, since: datetime) -> list[tuple[str, datetime]]:
    """Level and start of the buckets that a run was the last to write, from `since` on."""
    return [(level, at) for level, at in connection.execute(_BUCKETS_OF_RUN, (run_id, since))]
