"""Questions about rollups and about what waits, for checks and series.

Belongs here: reading both sides of a balance in one statement, so that landings in between don't count; ages.
Does not belong here: the ledger's own balances (`storage.audit`), judging (`defs.checks`).
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.backends import PREFIX
from analytics_pipeline.storage.connection import Connection

# By the register, which has no versions: of a metric that was edited, rows of several definitions stand side by side.
_LEVELS_AGAINST_RAW = """
WITH hour AS (SELECT %(hour)s::timestamptz AS first, %(hour)s::timestamptz + interval '1 hour' AS last),
live AS (
    SELECT level.name AS level, (
        SELECT coalesce(sum(settled.event_count), 0) FROM metric_buckets AS settled, hour
        WHERE settled.interval = level.name
            AND settled.time_bucket >= hour.first AND settled.time_bucket < hour.last
    ) + (
        SELECT coalesce(sum(pending.count), 0) FROM rollup_deltas AS pending, hour
        WHERE pending.hour = hour.first AND pending.kind = 'register'
    ) AS counted
    FROM unnest(ARRAY['1m', '5m', '15m', '1h']) AS level (name)
)
SELECT live.level, live.counted::bigint, (
    SELECT count(*) FROM events AS raw, hour WHERE raw.timestamp >= hour.first AND raw.timestamp < hour.last
)
FROM live
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
_BEHIND = """
SELECT source, partition, extract(EPOCH FROM clock_timestamp() - caught_up_at)::double precision
FROM ingest_offsets WHERE NOT is_retired AND caught_up_at IS NOT NULL
"""
_WAITING = """
SELECT
    (SELECT coalesce(sum(events), 0)::bigint FROM http_inbox),
    coalesce(extract(EPOCH FROM clock_timestamp() - (SELECT min(received_at) FROM http_inbox)), 0)::double precision,
    (
        SELECT count(*) FROM pg_stat_activity AS other
        WHERE other.datname = current_database() AND starts_with(other.application_name, %s)
    )
"""
_DEAD = """
SELECT coalesce(sum(read), 0)::bigint, coalesce(sum(dead), 0)::bigint FROM ingest_batches WHERE committed_at >= %s
"""
_BUCKETS_OF_RUN = """
SELECT DISTINCT register.interval, register.time_bucket
FROM unnest(%(hours)s::timestamptz[]) AS merged (hour)
CROSS JOIN unnest(%(levels)s::text[]) AS level (name)
INNER JOIN metric_buckets AS register
    ON register.interval = level.name AND register.time_bucket >= bucket_start(level.name, merged.hour)
    AND register.time_bucket < merged.hour + interval '1 hour'
WHERE register.run_id = %(run_id)s
"""
_CLOSED_HOURS = """
SELECT time_bucket, event_count FROM metric_buckets
WHERE interval = '1h' AND time_bucket >= %(first)s AND time_bucket < %(last)s
ORDER BY time_bucket
"""


class LevelBalance(NamedTuple):
    """Events of one hour by a level, settled plus pending, and in the raw events of the same snapshot."""

    level: str
    counted: int
    raw: int


class Freshness(NamedTuple):
    """Ages in seconds, None where there is nothing to be late; `pending` counts deltas."""

    behind_kafka: float | None
    oldest_in_inbox: float | None
    oldest_pending: float | None
    pending: int

    @property
    def oldest(self) -> float:
        """The age of what has waited longest."""
        return max([0.0, *(age for age in self[:3] if age is not None)])


class Waiting(NamedTuple):
    """What waits to be landed, as the database sees it, whoever is to land it.

    Attributes:
        behind: seconds since everything that Kafka held had landed, by (source, partition).
        inbox_events: posted and not landed.
        inbox_age: seconds, of the oldest of them.
        landing_connections: open, of all processes.
    """

    behind: dict[tuple[str, int], float]
    inbox_events: int
    inbox_age: float
    landing_connections: int


def levels_against_raw(connection: Connection, hour: datetime) -> list[LevelBalance]:
    """The four levels below a day of one UTC hour, against raw."""
    return [LevelBalance(*row) for row in connection.execute(_LEVELS_AGAINST_RAW, {"hour": hour})]


def closed_hours(connection: Connection, first: datetime, last: datetime) -> list[tuple[datetime, int]]:
    """Starts of the hours of `[first, last)` that have events, and how many are settled; oldest first."""
    return list(connection.execute(_CLOSED_HOURS, {"first": first, "last": last}).fetchall())


def freshness(connection: Connection, *, now: datetime) -> Freshness:
    """How old the oldest thing is that waits to be landed or merged."""
    row = connection.execute(_FRESHNESS, {"now": now}).fetchone()
    assert row is not None
    return Freshness(*row)


def waiting(connection: Connection) -> Waiting:
    """For the series: cheap enough for every few seconds."""
    behind = {(source, number): age for source, number, age in connection.execute(_BEHIND)}
    row = connection.execute(_WAITING, (PREFIX,)).fetchone()
    assert row is not None
    return Waiting(behind, *row)


def read_and_dead(connection: Connection, *, now: datetime, window: timedelta) -> tuple[int, int]:
    """Messages read and those of them that became dead letters in the window before `now`."""
    row = connection.execute(_DEAD, (now - window,)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def buckets_of_run(
    connection: Connection, run_id: str, hours: Collection[datetime]
) -> list[tuple[str, datetime]]:
    """Level and start of the buckets that hold some of these hours and that a run was the last to write."""
    asked = {"run_id": run_id, "hours": list(hours), "levels": list(LEVELS)}
    return [(level, at) for level, at in connection.execute(_BUCKETS_OF_RUN, asked)]
