"""What live merges report."""

from datetime import UTC, datetime

from analytics_pipeline.defs.rollups.merging import touched_partitions
from analytics_pipeline.storage.rollups import MergeResult

TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)
ELEVEN = datetime(2026, 3, 1, 11, tzinfo=UTC)
ROWS = {"1m": 60, "5m": 12, "15m": 4, "1h": 1, "1d": 1}


def merge(hour: datetime, events: int) -> MergeResult:
    return MergeResult(hour, batches=1, deltas=5, events=events, late=1, rows=ROWS, has_more=False)


def test_hours_of_one_day_are_partitions_of_their_own_below_a_day_and_one_at_1d():
    found = touched_partitions([(merge(TEN, 7), 0.5), (merge(ELEVEN, 8), 0.25)], [])
    assert [(each.level, each.start.hour) for each in found if each.level in {"1h", "1d"}] == [
        ("1d", 0),
        ("1h", 10),
        ("1h", 11),
    ]
    [day] = [each for each in found if each.level == "1d"]
    assert (day.events, day.late, day.deltas, day.seconds, day.hours) == (15, 2, 10, 0.75, [TEN, ELEVEN])


def test_merges_of_one_hour_add_up():
    found = {
        each.level: each for each in touched_partitions([(merge(TEN, 7), 0.5), (merge(TEN, 3), 0.5)], [])
    }
    assert (found["1m"].events, found["1m"].rows, found["1m"].hours) == (10, 120, [TEN])


def test_buckets_are_counted_where_they_lie_and_others_are_left_out():
    written = [
        ("1m", TEN.replace(minute=1)),
        ("1m", TEN.replace(minute=2)),
        ("1d", TEN.replace(hour=0)),
        ("1h", ELEVEN),
    ]
    found = {each.level: each for each in touched_partitions([(merge(TEN, 7), 0.5)], written)}
    assert (found["1m"].buckets, found["1d"].buckets, found["1h"].buckets) == (2, 1, 0)
