"""Partitions ahead of time: every UTC day of events and every month or year of rollups that may be written.

Belongs here: creating partitions, and how far ahead they reach. Does not belong here: dropping them
(`storage.retention`).
"""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.patience import patiently

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
# Without a hole: up to the first end of a partition that no other one covers.
_DAYS_AHEAD = """
WITH kept AS MATERIALIZED (
    SELECT parent, lower_bound, upper_bound FROM time_partitions
    WHERE NOT is_detaching AND upper_bound > %(now)s
), ends AS (
    SELECT one.parent, min(one.upper_bound) AS upper_bound
    FROM kept AS one
    WHERE EXISTS (SELECT FROM kept AS first WHERE first.parent = one.parent AND first.lower_bound <= %(now)s)
        AND NOT EXISTS (
            SELECT FROM kept AS next
            WHERE next.parent = one.parent
                AND next.lower_bound <= one.upper_bound AND next.upper_bound > one.upper_bound
        )
    GROUP BY one.parent
)
SELECT known.parent, coalesce(extract(EPOCH FROM ends.upper_bound - %(now)s)::double precision / 86400, 0)
FROM (SELECT DISTINCT parent FROM time_partitions) AS known
LEFT JOIN ends ON ends.parent = known.parent
ORDER BY known.parent
"""


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
        Held: the lock could not be had.
    """
    first = (now - keep).astimezone(UTC)
    last = (now + timedelta(days=ahead_days)).astimezone(UTC)
    return ensure_range(connection, first, last)


def ensure_range(connection: Connection, first: datetime, last: datetime) -> int:
    """Create the partitions that hold the times `first` to `last`, both included; return how many."""

    def create() -> int:
        connection.execute("SET LOCAL timezone = 'UTC'")
        connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (Lock.MAINTENANCE,))
        span = {"first": first, "last": last, "levels": list(LEVELS)}
        made = [
            connection.execute(statement, span).fetchone()
            for statement in (_CREATE_DAYS, _CREATE_ROLLUPS, _CREATE_MARTS)
        ]
        return sum(int(count[0]) for count in made if count)

    return patiently(connection, create, "partitions could not be created: the events table")


def missing_days(connection: Connection, *, now: datetime, ahead_days: int) -> list[date]:
    """UTC days from today to so many days ahead in which events could not be stored."""
    today = now.astimezone(UTC).date()
    span = {"first": today, "last": today + timedelta(days=ahead_days)}
    return [day for (day,) in connection.execute(_MISSING, span)]


def days_ahead(connection: Connection, *, now: datetime) -> dict[str, float]:
    """For how many more days from now on each partitioned table has partitions, up to the first hole."""
    return {parent: float(days) for parent, days in connection.execute(_DAYS_AHEAD, {"now": now})}


def sizes(connection: Connection) -> list[Sizes]:
    """Of each partitioned table, the largest first."""
    return [Sizes(*row) for row in connection.execute(_SIZES)]
