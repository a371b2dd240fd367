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
from psycopg.sql import SQL

from analytics_pipeline.storage.connection import Connection, Lock

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
# Ids are given before COMMIT, so a smaller one can appear after a greater. Who writes says so before the first id is
# his, and from which on, modulo 2^31; so whoever reads knows up to which id nothing can be missing.
_GIVEN = "CASE WHEN is_called THEN last_value ELSE last_value - 1 END"
_ANNOUNCE = f"""
SELECT pg_advisory_xact_lock_shared(%s, (({_GIVEN}) %% 2147483648)::integer) FROM metric_restatements_id_seq
"""  # noqa: S608  (a constant of this module)
_LAST_GIVEN = f"SELECT {_GIVEN} FROM metric_restatements_id_seq"  # noqa: S608
_BEING_WRITTEN = """
SELECT objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_WRAP = 2**31
_FIND = SQL("""
SELECT * FROM metric_restatements
WHERE (%(metric_name)s::text IS NULL OR metric_name = %(metric_name)s)
    AND (%(interval)s::text IS NULL OR interval = %(interval)s)
    AND (%(start)s::timestamptz IS NULL OR time_bucket >= %(start)s)
    AND (%(end)s::timestamptz IS NULL OR time_bucket < %(end)s)
    AND (%(since)s::timestamptz IS NULL OR restated_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR restated_at < %(until)s)
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(before)s::bigint IS NULL OR id < %(before)s)
    AND (%(after)s::bigint IS NULL OR id > %(after)s)
    AND (%(until_id)s::bigint IS NULL OR id <= %(until_id)s)
ORDER BY {order} LIMIT %(limit)s
""")
_NEWEST_FIRST = SQL("id DESC")
_OLDEST_FIRST = SQL("id")


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
        connection.execute(_ANNOUNCE, (Lock.RESTATEMENTS,))
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
    reason: Reason | None = None,
    before: int | None = None,
    after: int | None = None,
    until_id: int | None = None,
    limit: int = 100,
) -> list[Restatement]:
    """List the feed, newest first, or oldest first with `after`; every argument that is None leaves nothing out.

    Args:
        connection: any.
        metric_name: as the catalog has it.
        interval: a key of `LEVELS`.
        start: buckets from then on.
        end: buckets that start before then.
        since: changes from then on.
        until: changes before then.
        reason: only changes of this kind.
        before: changes with a smaller id, for the next page.
        after: changes with a greater id, the oldest of them; ask up to `complete_until` alone, or some are never seen.
        until_id: changes with this id or a smaller one.
        limit: at most so many.
    """
    with connection.cursor(row_factory=class_row(Restatement)) as cursor:
        wanted = {
            "metric_name": metric_name, "interval": interval, "start": start, "end": end,
            "since": since, "until": until, "reason": reason, "before": before, "after": after,
            "until_id": until_id, "limit": limit,
        }  # fmt: skip
        order = _NEWEST_FIRST if after is None else _OLDEST_FIRST
        return cursor.execute(_FIND.format(order=order), wanted).fetchall()


def complete_until(connection: Connection) -> int:
    """The id up to which the feed is complete: no line with this id or a smaller one can still appear.

    Args:
        connection: in autocommit, so that what is asked next sees what was committed before this returns.
    """
    [(given,)] = connection.execute(_LAST_GIVEN).fetchall()
    # Only now: whoever begins to write from here on gets greater ids than were given by then.
    writing = connection.execute(_BEING_WRITTEN, (Lock.RESTATEMENTS,)).fetchall()
    behind: list[int] = [(given - key) % _WRAP for (key,) in writing]
    # More than half of the circle behind is in front: it began after `given` was read.
    return int(given) - max([0, *(steps for steps in behind if steps < _WRAP // 2)])


def _totals(
    connection: Connection, level: str, buckets: Collection[datetime]
) -> dict[_Series, tuple[Any, ...]]:
    if not buckets:
        return {}
    rows = connection.execute(_TOTALS, (level, list(buckets)))
    return {_Series(*row[:3]): tuple(row[3:]) for row in rows}
