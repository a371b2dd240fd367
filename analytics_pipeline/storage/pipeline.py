"""How landing and settling stand at this moment, in the database's eyes, whoever does the work.

Belongs here: reading it in one snapshot, cheaply enough for every few seconds. Does not belong here: judging it
(`storage.problems`), the whole ledger (`storage.audit`), Dagster's own tables (`storage.dagster_runs`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from analytics_pipeline.events.messages import REPLAY_SOURCE
from analytics_pipeline.storage import books, due, sizes
from analytics_pipeline.storage.audit import breaks, snapshot
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.partitions import days_ahead
from analytics_pipeline.storage.standings import Standing, read_standings
from analytics_pipeline.storage.tolerances import DEAD_WINDOW

RATE_WINDOW = timedelta(minutes=1)

_RATES = """
SELECT source, partition, sum(read)::double precision / %(seconds)s AS rate
FROM ingest_batches WHERE committed_at >= %(now)s - make_interval(secs => %(seconds)s)
GROUP BY source, partition
"""
_LAST_LANDING = "SELECT max(committed_at) FROM ingest_batches"
_UNSETTLED = """
SELECT interval, state, count(*), min(time_bucket) FROM metric_buckets
WHERE state IN ('open', 'settling') GROUP BY interval, state
"""
_SETTLED_AT = "SELECT max(changed_at) FROM rollup_days"
_LAST_RUN = """
SELECT run_id FROM metric_buckets
WHERE interval = '1m' AND time_bucket >= %(now)s - interval '1 day' AND run_id IS NOT NULL
ORDER BY time_bucket DESC LIMIT 1
"""
_PENDING_HOURS = "SELECT count(DISTINCT hour) FROM pending_batches"
_RESTATED = """
SELECT count(DISTINCT (interval, time_bucket)) FROM metric_restatements
WHERE restated_at >= %(now)s - interval '1 day'
"""
_REASONS = """
SELECT reason, count(*) FROM dead_letter_events WHERE created_at >= %(now)s - %(window)s::interval GROUP BY reason
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and its progress.

    Attributes:
        standing: as `ingest_offsets` has it.
        rate: messages a second that landed in the last minute.
    """

    standing: Standing
    rate: float


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Buckets of one level and state that are not final yet."""

    interval: str
    state: str
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One moment; seconds are ages, None where there is nothing to be old.

    Attributes:
        at: the moment.
        partitions: in order of their names.
        rate: messages a second that landed in the last minute, posted ones included.
        landed_at: the last commit of a landing.
        waiting: the inbox, and landing connections.
        oldest_pending: since the first commit that no merge has settled.
        pending_deltas: how many wait for a merge.
        pending_hours: in how many UTC hours.
        unsettled: buckets that are not final.
        due: those that could be.
        settled_at: the last commit of a merge or recompute.
        run_id: of it, as far as minutes of the last day tell.
        restated: buckets that changed in the last day after they were final.
        days_ahead: for which events have a partition.
        overdue: seconds since something should have been removed.
        read: messages of the last hour.
        dead: dead letters of the last hour, by reason.
        gaps: batches of the last hour that do not begin where the one before ended.
        unbalanced: batches of the last hour with read ≠ stored + duplicate + dead.
    """

    at: datetime
    partitions: list[Partition]
    rate: float
    landed_at: datetime | None
    waiting: books.Waiting
    oldest_pending: float | None
    pending_deltas: int
    pending_hours: int
    unsettled: list[Unsettled]
    due: int
    settled_at: datetime | None
    run_id: str | None
    restated: int
    days_ahead: float
    overdue: float
    read: int
    dead: Counter[str]
    gaps: int
    unbalanced: int


def read_pipeline(connection: Connection, *, now: datetime, graces: Mapping[str, timedelta]) -> Pipeline:
    """Look, in one snapshot.

    Args:
        connection: idle.
        now: the time of Postgres, more or less.
        graces: how long buckets of each level wait for late events.
    """
    values = {"now": now, "seconds": RATE_WINDOW.total_seconds(), "window": DEAD_WINDOW}
    with snapshot(connection):
        rates = {
            (source, number): rate
            for source, number, rate in connection.execute(_RATES, values)
            if source != REPLAY_SOURCE
        }
        partitions = [
            Partition(one, rates.get((one.source, one.partition), 0.0)) for one in read_standings(connection)
        ]
        freshness = books.freshness(connection, now=now)
        gaps, unbalanced = breaks(connection, since=now - DEAD_WINDOW)
        return Pipeline(
            at=now,
            partitions=partitions,
            rate=sum(rates.values()),
            landed_at=_one(connection, _LAST_LANDING),
            waiting=books.waiting(connection),
            oldest_pending=freshness.oldest_pending,
            pending_deltas=freshness.pending,
            pending_hours=_one(connection, _PENDING_HOURS),
            unsettled=[Unsettled(*row) for row in connection.execute(_UNSETTLED)],
            due=due.buckets_due(connection, now=now, graces=graces),
            settled_at=_one(connection, _SETTLED_AT),
            run_id=_one(connection, _LAST_RUN, values),
            restated=_one(connection, _RESTATED, values),
            days_ahead=days_ahead(connection, now=now).get("events", 0.0),
            overdue=sizes.overdue(connection),
            read=books.read_and_dead(connection, now=now, window=DEAD_WINDOW)[0],
            dead=Counter(dict(connection.execute(_REASONS, values).fetchall())),
            gaps=gaps,
            unbalanced=unbalanced,
        )


def _one(connection: Connection, query: str, values: dict[str, object] | None = None) -> Any:
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None
