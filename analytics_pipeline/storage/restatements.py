"""The feed of restatements: the totals of final buckets before and after each change.

Belongs here: writing the feed in the transaction that changes a bucket, and listing it.
Does not belong here: changing numbers (`storage.rollups`, `storage.recompute`), states of buckets (`storage.buckets`).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from psycopg.rows import class_row

from analytics_pipeline.storage.connection import Connection

# All are locked, in order, not only those that are final: one that another run declares final meanwhile would change
# without a line in the feed.
_LOCK = """
SELECT time_bucket, state IN ('final', 'restated') FROM metric_buckets
WHERE interval = %s AND time_bucket = ANY(%s) ORDER BY time_bucket FOR UPDATE
"""
_TOTALS = """
SELECT time_bucket, metric_id, metric_name, count, sum_exact, min, max, p50, p95, p99, distinct_count
FROM metric_aggregations WHERE interval = %s AND time_bucket = ANY(%s) AND dimension_set = ''
"""
_RECORD = """
INSERT INTO metric_restatements (
    reason, run_id, interval, time_bucket, revision, metric_id, metric_name,
    old_count, old_sum, old_min, old_max, old_p50, old_p95, old_p99, old_distinct_count,
    new_count, new_sum, new_min, new_max, new_p50, new_p95, new_p99, new_distinct_count
)
SELECT %s, %s, interval, time_bucket, revision, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
FROM metric_buckets WHERE interval = %s AND time_bucket = %s
"""
_FIND = """
SELECT * FROM metric_restatements
WHERE (%(metric_name)s::text IS NULL OR metric_name = %(metric_name)s)
    AND (%(interval)s::text IS NULL OR interval = %(interval)s)
    AND (%(start)s::timestamptz IS NULL OR time_bucket >= %(start)s)
    AND (%(end)s::timestamptz IS NULL OR time_bucket < %(end)s)
    AND (%(since)s::timestamptz IS NULL OR restated_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR restated_at < %(until)s)
    AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s
"""


class Reason(StrEnum):
    """Why a bucket changed after it was final."""

    LATE = "late"
    """Events landed for it after it was final."""
    BACKFILL = "backfill"
    """A recompute found other numbers in the raw events."""


@dataclass(frozen=True)
class Restatement:
    """One total of one bucket that was final, before and after one change.

    `old_…` are all None where the bucket had no such total, `new_…` where it has none any more. `revision` is the one
    that the change gave the bucket; sums are exact, in the metric's unit.
    """

    id: int
    restated_at: datetime
    reason: str
    run_id: str
    interval: str
    time_bucket: datetime
    revision: int
    metric_id: str
    metric_name: str
    old_count: int | None
    old_sum: Decimal | None
    old_min: float | None
    old_max: float | None
    old_p50: float | None
    old_p95: float | None
    old_p99: float | None
    old_distinct_count: int | None
    new_count: int | None
    new_sum: Decimal | None
    new_min: float | None
    new_max: float | None
    new_p50: float | None
    new_p95: float | None
    new_p99: float | None
    new_distinct_count: int | None


class _Series(NamedTuple):
    bucket: datetime
    metric_id: str
    metric_name: str


_NOTHING = (None,) * 8
"""What a series that does not exist has in the place of its total, as `_TOTALS` reads it."""


@contextmanager
def restating(
    connection: Connection, level: str, reasons: Mapping[datetime, Reason], *, run_id: str
) -> Iterator[None]:
    """Feed what the body changes in the totals of those buckets that are final; to be used inside its transaction.

    Args:
        connection: in a transaction, with the day of the buckets locked (`storage.rollups.lock_day`).
        level: the interval of the buckets.
        reasons: why each bucket changes that the body may change; it also raises their revisions.
        run_id: noted in the feed.
    """
    known = connection.execute(_LOCK, (level, list(reasons))).fetchall()
    final = [bucket for bucket, is_final in known if is_final]
    before = _totals(connection, level, final)
    yield
    after = _totals(connection, level, final)
    lines = [
        (
            reasons[series.bucket].value, run_id, series.metric_id, series.metric_name,
            *before.get(series, _NOTHING), *after.get(series, _NOTHING), level, series.bucket,
        )
        for series in sorted(before.keys() | after.keys())
        if before.get(series) != after.get(series)
    ]  # fmt: skip
    if lines:
        with connection.cursor() as cursor:
            cursor.executemany(_RECORD, lines)


def restatements(
    connection: Connection,
    *,
    metric_name: str | None = None,
    interval: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Restatement]:
    """List the feed, newest first; every argument that is None leaves nothing out.

    Args:
        connection: any.
        metric_name: as the catalog has it.
        interval: a key of `LEVELS`.
        start: buckets from then on.
        end: buckets that start before then.
        since: changes from then on.
        until: changes before then.
        before: changes with a smaller id, for the next page.
        limit: at most so many.
    """
    with connection.cursor(row_factory=class_row(Restatement)) as cursor:
        wanted = {
            "metric_name": metric_name, "interval": interval, "start": start, "end": end,
            "since": since, "until": until, "before": before, "limit": limit,
        }  # fmt: skip
        return cursor.execute(_FIND, wanted).fetchall()


def _totals(
    connection: Connection, level: str, buckets: Collection[datetime]
) -> dict[_Series, tuple[Any, ...]]:
    if not buckets:
        return {}
    rows = connection.execute(_TOTALS, (level, list(buckets)))
    return {_Series(*row[:3]): tuple(row[3:]) for row in rows}
