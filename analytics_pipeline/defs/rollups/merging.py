"""The live merge: every pending hour, newest first, within a time budget.

Belongs here: the order of hours and when to stop. Does not belong here: the merge itself (`storage.rollups`),
and anything of Dagster.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
import pyarrow as pa

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.rollups import MergeResult, merge_hour, pending_hours


@dataclass
class Touched:
    """What was merged into one partition of one level; times in seconds."""

    level: str
    start: datetime
    rows: int = 0
    buckets: int = 0
    deltas: int = 0
    events: int = 0
    late: int = 0
    seconds: float = 0.0
    hours: list[datetime] = field(default_factory=list)


def merge_pending(
    connection: Connection,
    *,
    run_id: str,
    max_batches: int,
    budget: timedelta,
    failures: dict[datetime, Exception],
) -> Iterator[tuple[MergeResult, float]]:
    """Merge until nothing is pending, all that is pending is held by others, or the budget is spent.

    Yields what each transaction did, and its seconds. A busy hour is left to the next run; so is one that fails, and
    `failures` gets its error, so that the others do not wait for it.

    Raises:
        psycopg.Error: the connection is lost.
    """
    deadline = time.monotonic() + budget.total_seconds()
    moved = True
    while moved:
        moved = False
        for pending in pending_hours(connection):
            if time.monotonic() > deadline:
                return
            if pending.hour in failures:
                continue
            began = time.monotonic()
            try:
                merged = merge_hour(connection, pending.hour, run_id=run_id, max_batches=max_batches)
            except (AnalyticsError, psycopg.Error, pa.ArrowException) as error:
                if connection.closed:
                    raise
                failures[pending.hour] = error
                continue
            if merged is not None and merged.batches:
                moved = merged.has_more or moved
                yield merged, time.monotonic() - began


def partition_start(level: str, at: datetime) -> datetime:
    """Start of the partition that holds a time: a day for 1d, else an hour."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    return hour.replace(hour=0) if level == "1d" else hour


def touched_partitions(
    merges: Iterable[tuple[MergeResult, float]], buckets: Iterable[tuple[str, datetime]]
) -> list[Touched]:
    """Sum merges, and the buckets they wrote, up by the partition they changed."""
    found: dict[tuple[str, datetime], Touched] = {}
    for merge, seconds in merges:
        for level in LEVELS:
            start = partition_start(level, merge.hour)
            one = found.setdefault((level, start), Touched(level, start))
            one.rows += merge.rows.get(level, 0)
            one.deltas += merge.deltas
            one.events += merge.events
            one.late += merge.late
            one.seconds += seconds
            if merge.hour not in one.hours:
                one.hours.append(merge.hour)
    for level, at in buckets:
        if (changed := found.get((level, partition_start(level, at)))) is not None:
            changed.buckets += 1
    return sorted(found.values(), key=lambda each: (each.start, each.level))
