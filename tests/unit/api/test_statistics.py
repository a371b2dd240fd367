"""Tiles and cuts of /api/v1/events/stats cover a range exactly once."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.rollups.schema import LEVELS
from api.events.schemas import Statistics, tiles
from api.times import EPOCH

START = st.integers(0, 4 * 86_400 * 1_000_000)
LENGTH = st.one_of(st.integers(0, 200_000_000), st.integers(0, 3 * 86_400 * 1_000_000))


@given(START, LENGTH)
def test_every_microsecond_is_counted_once(start: int, length: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=start)
    wanted = Statistics(begin, begin + timedelta(microseconds=length))
    cuts = [cut for cut in wanted.cuts if cut[0] < cut[1]]
    found = tiles(*wanted.whole)
    pieces = sorted(cuts + [(tile.start, tile.end) for tile in found])
    at = wanted.start
    for piece in pieces:
        assert piece[0] == at
        at = piece[1]
    assert at == wanted.end
    assert sum((end - start for start, end in cuts), timedelta()) < timedelta(minutes=2)
    assert len(found) <= 5
    for tile in found:
        width = timedelta(seconds=LEVELS[tile.interval])
        assert (tile.start - EPOCH) % width == (tile.end - EPOCH) % width == timedelta(0)


def test_ninety_days_are_few_buckets() -> None:
    start = datetime(2026, 1, 1, 10, 20, 30, tzinfo=UTC)
    found = tiles(*Statistics(start, start + timedelta(days=90)).whole)
    assert (
        sum((tile.end - tile.start) / timedelta(seconds=LEVELS[tile.interval]) for tile in found)
        < 89 + 48 + 120
    )
