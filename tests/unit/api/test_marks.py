"""What a reader should know of a point is the same, whether points are looked at together or one by one."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.rollups.schema import LEVELS
from api.metrics.points import Point
from api.metrics.repository import _all_marked, _marked
from api.metrics.service import _BEGIN, _END, Served

FIRST = datetime(2026, 5, 17, tzinfo=UTC)
BUCKETS = 6


@given(st.data(), st.sampled_from(sorted(LEVELS)))
def test_points_are_marked_as_each_would_be(data: st.DataObject, interval: str) -> None:
    width = timedelta(seconds=LEVELS[interval])
    end = FIRST + BUCKETS * width
    around = st.integers(-1, BUCKETS + 1).map(lambda number: FIRST + number * width)
    nearly = st.builds(lambda at, micros: at + timedelta(microseconds=micros), around, st.integers(-1, 1))
    part = Served(
        "id", "value", FIRST, end, data.draw(st.one_of(st.just(_BEGIN), nearly)),
        data.draw(st.one_of(st.just(_END), nearly)),
    )  # fmt: skip
    gaps = data.draw(st.sets(around.map(lambda at: at.replace(minute=0)), max_size=2))
    points = [Point(FIRST + number * width, "{}", number) for number in range(BUCKETS)]
    expected = [_marked(point, part, gaps, LEVELS[interval]) for point in points]
    assert _all_marked(points, part, gaps, LEVELS[interval]) == expected
