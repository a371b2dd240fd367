"""Removing rows about rollups that nobody asks for any more: small tables without partitions.

Belongs here: the feed of restatements, progress of backfills that were given up, old previews, and what is known of
days whose rollups are gone at every level. Does not belong here: what has to balance (`storage.expired_rows`),
partitions (`storage.retention`).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.connection import Connection

GIVEN_UP = timedelta(days=30)
"""A backfill that has done nothing for so long is not taken up again where it stopped: it begins anew."""
_AT_ONCE = 5000

_GONE = """
SELECT least(raw_floor, (
    SELECT min(lower_bound) FROM time_partitions WHERE starts_with(parent, 'metric_aggregations_')
)) FROM retention_state
"""
_RESTATEMENTS = ("metric_restatements", "restated_at < %(restatements)s")
_PROGRESS = (
    "backfill_progress",
    "metric_set IN (SELECT metric_set FROM backfill_progress GROUP BY metric_set HAVING max(done_at) < %(given_up)s)",
)
_PLANS = (
    "backfill_plans",
    "planned_at < %(given_up)s"
    " AND metric_set NOT IN (SELECT metric_set FROM backfill_progress WHERE done_at >= %(given_up)s)",
)
_PREVIEWS = ("backfill_previews", "updated_at < %(given_up)s")
# Until then a gap says that a bucket is incomplete, although no recompute can complete it any more.
_GAPS = ("metric_gaps", "hour < %(gone)s")
_DAYS = ("rollup_days", "day < (%(gone)s::timestamptz AT TIME ZONE 'UTC')::date")


class ForgottenRows(NamedTuple):
    """How many rows went, or would go, by what they are."""

    restatements: int
    backfill_progress: int
    """And the plans of backfills of which nothing else is left, and previews."""
    metric_gaps: int
    rollup_days: int


def forget_rows(connection: Connection, settings: Retention, *, now: datetime) -> ForgottenRows:
    """Remove what is asked for no more at `now`, some thousand rows a transaction.

    Args:
        connection: in autocommit.
        settings: `restatements` says how long; the rest follows the levels of rollups.
        now: the time, with zone.
    """
    values = _values(connection, settings, now)

    def forget(table: str, which: str) -> int:
        rows = f"SELECT ctid FROM {table} WHERE {which} LIMIT {_AT_ONCE}"  # noqa: S608  (constants of this module)
        statement = f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({rows}))"  # noqa: S608
        total = 0
        while gone := connection.execute(statement, values).rowcount:
            total += gone
        return total

    return _each(forget)


def preview_forgotten_rows(connection: Connection, settings: Retention, *, now: datetime) -> ForgottenRows:
    """What `forget_rows` would do; nothing is changed."""
    values = _values(connection, settings, now)

    def count(table: str, which: str) -> int:
        statement = f"SELECT count(*) FROM {table} WHERE {which}"  # noqa: S608  (constants of this module)
        [(found,)] = connection.execute(statement, values).fetchall()
        return int(found)

    return _each(count)


def _each(do: Callable[[str, str], int]) -> ForgottenRows:
    return ForgottenRows(
        do(*_RESTATEMENTS), do(*_PROGRESS) + do(*_PLANS) + do(*_PREVIEWS), do(*_GAPS), do(*_DAYS)
    )


def _values(connection: Connection, settings: Retention, now: datetime) -> dict[str, Any]:
    row = connection.execute(_GONE).fetchone()
    assert row is not None
    return {"restatements": now - settings.restatements, "given_up": now - GIVEN_UP, "gone": row[0]}
