"""Tiles and cuts of /api/v1/events/stats cover a range exactly once."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.times import EPOCH
from analytics_pipeline.rollups.schema import LEVELS
from api.errors import BadRequest
from api.events.statistics import Statistics, read_statistics, tiles

START = st.integers(0, 4 * 86_400 * 1_000_000)
LENGTH = st.one_of(st.integers(0, 200_000_000), st.integers(0, 3 * 86_400 * 1_000_000))


@given(START, LENGTH, st.sampled_from((None, *LEVELS)))
def test_every_microsecond_is_counted_once(start: int, length: int, interval: str | None) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=start)
    wanted = Statistics(begin, begin + timedelta(microseconds=length), interval=interval)
    cuts = [cut for cut in wanted.cuts if cut[0] < cut[1]]
    found = tiles(*wanted.whole, wanted.levels)
    pieces = sorted(cuts + [(tile.start, tile.end) for tile in found])
    at = wanted.start
    for piece in pieces:
        assert piece[0] == at
        at = piece[1]
    assert at == wanted.end
    assert sum((end - start for start, end in cuts), timedelta()) < timedelta(minutes=2)
    assert len(found) <= 7
    for tile in found:
        # A wider bucket could not be told apart into those asked for.
        assert LEVELS[tile.interval] <= LEVELS[interval or "1d"]
        width = timedelta(seconds=LEVELS[tile.interval])
        assert (tile.start - EPOCH) % width == (tile.end - EPOCH) % width == timedelta(0)


def test_ninety_days_are_few_buckets() -> None:
    start = datetime(2026, 1, 1, 10, 20, 30, tzinfo=UTC)
    wanted = Statistics(start, start + timedelta(days=90))
    found = tiles(*wanted.whole, wanted.levels)
    assert (
        sum((tile.end - tile.start) / timedelta(seconds=LEVELS[tile.interval]) for tile in found)
        < 89 + 48 + 120
    )


def test_an_interval_that_makes_too_many_buckets_is_refused() -> None:
    now = datetime(2026, 5, 17, 12, 0, 1, tzinfo=UTC)
    day = b"start_time=2026-05-16T12:00:00Z&end_time=2026-05-17T12:00:00Z"
    assert read_statistics(day + b"&interval=1m", now=now, max_points=1440).interval == "1m"
    with pytest.raises(BadRequest, match="max_points"):
        read_statistics(day + b"&interval=1m", now=now, max_points=1439)
    with pytest.raises(BadRequest, match="must be one of"):
        read_statistics(day + b"&interval=2m", now=now, max_points=1440)
    asked = {
        read_statistics(day + more, now=now, max_points=1440).canonical
        for more in (b"", b"&interval=", b"&interval=1h", b"&interval=1d")
    }
    assert len(asked) == 3


def test_counts_of_what_may_be_deleted_are_told_from_whole_ones() -> None:
    day = datetime(2026, 5, 1, tzinfo=UTC)
    kept = {"1m": day, "5m": day, "15m": day, "1h": day - timedelta(days=10), "1d": day - timedelta(days=100)}

    def is_partly_gone(start: datetime, interval: str | None = None) -> bool:
        return Statistics(start, day + timedelta(days=1), interval=interval).is_partly_gone(kept, day)

    assert not is_partly_gone(day)
    assert not is_partly_gone(day - timedelta(days=100))
    assert is_partly_gone(day - timedelta(days=101))
    assert is_partly_gone(day - timedelta(days=1), "1m")
    assert not is_partly_gone(day - timedelta(hours=5))
    assert is_partly_gone(day - timedelta(days=11, hours=5))
    assert is_partly_gone(day - timedelta(minutes=30))
    assert is_partly_gone(day - timedelta(hours=1, seconds=1))
