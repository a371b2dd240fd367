"""Each bucket is answered by one version."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from api.metrics.service import Served, cut

START = datetime(2026, 11, 23, tzinfo=UTC)
MINUTES = st.integers(0, 3000).map(lambda number: START + timedelta(minutes=number))


def ranges(edges: list[datetime]) -> list[Served]:
    begin, end = START - timedelta(days=9), START + timedelta(days=9)
    bounds = [begin, *sorted(edges), end]
    return [
        Served(str(number), "value", first, last, first, end)
        for number, (first, last) in enumerate(pairwise(bounds))
    ]


@given(st.lists(MINUTES, max_size=4), st.sampled_from([60, 300, 900, 3600, 86_400]))
def test_every_bucket_is_in_one_part_of_the_version_that_answers_for_its_start(edges, seconds):
    served = ranges(edges)
    end = START + timedelta(days=3)
    parts = cut(served, START, end, seconds)
    at = START
    while at < end:
        [part] = [one for one in parts if one.first <= at < one.end]
        [owner] = [one for one in served if one.first <= at < one.end]
        assert part.metric_id == owner.metric_id
        at += timedelta(seconds=seconds)
