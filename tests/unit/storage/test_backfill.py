"""Which hours a backfill covers, and when it lets live work go first."""

from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.storage.backfill import MOST_LAG, MOST_PENDING, Plan, live_work_behind, whole_hours
from analytics_pipeline.storage.books import Freshness

NOON = datetime(2026, 5, 15, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (NOON, NOON + timedelta(hours=2), [12, 13]),
        (NOON + MICROSECOND, NOON + timedelta(hours=1), [12]),
        (NOON - MICROSECOND, NOON + MICROSECOND, [11, 12]),
        (NOON + timedelta(minutes=59), NOON + timedelta(minutes=61), [12, 13]),
        (NOON, NOON, []),
    ],
)
def test_every_hour_that_the_range_touches_is_whole(start, end, expected):
    assert [hour.hour for hour in whole_hours(start, end)] == expected
    assert all(hour.minute == 0 for hour in whole_hours(start, end))


def test_hours_are_utc_whatever_the_zone_of_the_range():
    start = datetime.fromisoformat("2026-05-15T12:00+05:30")
    assert whole_hours(start, start + timedelta(hours=1)) == [
        datetime(2026, 5, 15, 6, tzinfo=UTC),
        datetime(2026, 5, 15, 7, tzinfo=UTC),
    ]


def planned(*metric_ids: str) -> Plan:
    return Plan([], BUILT_IN, metric_ids, NOON, NOON, {})


def test_the_order_of_metrics_makes_no_other_set():
    assert planned("a", "b").metric_set == planned("b", "a").metric_set
    assert planned("a", "b").metric_set != planned("a").metric_set


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Freshness(0.5, None, 20.0, 5000), None),
        (Freshness(None, None, None, 0), None),
        (Freshness(MOST_LAG, None, None, 0), None),
        (Freshness(MOST_LAG + 1, None, None, 0), "landing is 11 s behind"),
        (Freshness(0.5, 25.0, None, 0), "landing is 25 s behind"),
        (Freshness(0.5, None, MOST_PENDING + 10, 5000), "5,000 deltas wait to be merged, for 130 s"),
    ],
)
def test_a_backfill_waits_while_landing_or_merging_is_behind(found, reason):
    assert live_work_behind(found, is_landing=True) == reason
    assert live_work_behind(found, is_landing=False) is None
