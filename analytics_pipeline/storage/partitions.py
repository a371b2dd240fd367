"""Partitions ahead of time: every UTC day of events and every month or year of rollups that may be written.

Belongs here: creating partitions. Does not belong here: dropping them (`storage.retention`).
"""

import time
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import psycopg

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.storage.connection import Connection, Lock

LEVELS = ("1m", "5m", "15m", "1h", "1d")

_CREATE_DAYS = """
SELECT count(*) FILTER (WHERE create_event_partition(days.day::date))
FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') AS days (day)
"""
_CREATE_ROLLUPS = """
SELECT coalesce(sum(create_rollup_partitions(level, months.month)), 0)
FROM unnest(%(levels)s::text []) AS level,
    generate_series(
        date_trunc('month', %(first)s::timestamptz, 'UTC'), %(last)s::timestamptz, interval '1 month'
    ) AS months (month)
"""
_CREATE_MARTS = """
SELECT coalesce(sum(create_mart_partitions(months.month)), 0)
FROM generate_series(
    date_trunc('month', %(first)s::timestamptz, 'UTC'), %(last)s::timestamptz, interval '1 month'
) AS months (month)
"""
_SIZES = """
SELECT parent, count(*), coalesce(sum(bytes), 0)::bigint FROM time_partitions GROUP BY parent ORDER BY 3 DESC, 1
"""
_MISSING = """
SELECT days.day::date FROM generate_series(%(first)s::timestamp, %(last)s::timestamp, interval '1 day') AS days (day)
WHERE NOT EXISTS (
    SELECT FROM time_partitions AS known
    WHERE known.parent = 'events' AND NOT known.is_detaching
        AND known.lower_bound <= days.day AT TIME ZONE 'UTC' AND known.upper_bound > days.day AT TIME ZONE 'UTC'
)
"""
_ATTEMPTS = 20


class Sizes(NamedTuple):
    """How many partitions a table has, and their bytes, indexes included."""

    parent: str
    partitions: int
    bytes: int


def ensure_partitions(connection: Connection, *, now: datetime, keep: timedelta, ahead_days: int) -> int:
    """Create what is missing from the raw retention line to `ahead_days` days ahead; return how many.

    Attaching needs a short lock on the parent: each try waits at most 200 ms for it, so that landings
    behind it are never held up, and is repeated.

    Raises:
        EnvironmentFault: the lock could not be had in 20 tries.
    """
    first = (now - keep).astimezone(UTC)
    last = (now + timedelta(days=ahead_days)).astimezone(UTC)
    return ensure_range(connection, first, last)


def ensure_range(connection: Connection, first: datetime, last: datetime) -> int:
    """Create the partitions that hold the times `first` to `last`, both included; return how many."""
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '200ms'")
                connection.execute("SET LOCAL timezone = 'UTC'")
                connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (Lock.MAINTENANCE,))
                span = {"first": first, "last": last, "levels": list(LEVELS)}
                days = connection.execute(_CREATE_DAYS, span).fetchone()
                rollups = connection.execute(_CREATE_ROLLUPS, span).fetchone()
                marts = connection.execute(_CREATE_MARTS, span).fetchone()
            return sum(int(created[0]) for created in (days, rollups, marts) if created)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(0.05 * (attempt + 1))
    raise EnvironmentFault(
        "partitions could not be created: the events table stayed locked; find the long query that holds it"
    )


def missing_days(connection: Connection, *, now: datetime, ahead_days: int) -> list[date]:
    """UTC days from today to so many days ahead in which events could not be stored."""
    today = now.astimezone(UTC).date()
    span = {"first": today, "last": today + timedelta(days=ahead_days)}
    return [day for (day,) in connection.execute(_MISSING, span)]


def sizes(connection: Connection) -> list[Sizes]:
    """Of each partitioned table, the largest first."""
    return [Sizes(*row) for row in connection.execute(_SIZES)]
