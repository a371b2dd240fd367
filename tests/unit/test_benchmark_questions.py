"""What the benchmark of the API asks without a cache: the API understands it, and as many buckets as it says."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN
from api.metrics.query import read_queries
from benchmarks.api.data import Stored
from benchmarks.api.questions import METRICS, NEW_YORK, NUMBER, Case, uncached, zone_days


class Remembered(Stored):
    """Postgres is not asked."""

    def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return [(1,)]


def cases(now: datetime, days: int) -> dict[str, Case]:
    today = now.replace(hour=0)
    end = now + timedelta(hours=1, minutes=1)
    first = today - timedelta(days=days)
    return {one.name: one for one in uncached(Remembered("", first, first, now, end, {"a": 10}))}


@pytest.mark.parametrize(
    ("now", "days", "of_zone"),
    [(datetime(2026, 11, 29, 7, tzinfo=UTC), 90, 90), (datetime(2026, 5, 1, 3, tzinfo=UTC), 90, 89),
     (datetime(2026, 5, 1, 7, tzinfo=UTC), 2, 2)],
)  # fmt: skip
def test_questions_of_metrics_have_as_many_buckets_as_they_say(
    now: datetime, days: int, of_zone: int
) -> None:
    found = cases(now, days)
    assert {
        f"metrics, {of_zone} d of New York", f"metrics, p99, {of_zone} d of New York",
        "metrics, 24 h at 1h of Kolkata", "metrics, by symbol, top 10, 24 h at 1h",
    } <= set(found)  # fmt: skip
    for case in found.values():
        for path in case.paths:
            address, _, query_string = path.replace(NUMBER, "000001").partition("?")
            if address != METRICS:
                continue
            [query] = read_queries(query_string.encode(), now=now, max_points=50_000, catalog=BUILT_IN)
            said = re.search(r'"total_count":(\d+),', case.body)
            assert said is None or int(said[1]) == len(query.frame.buckets), case.name
            assert query.frame.buckets.end <= now + timedelta(hours=1), case.name


def test_days_of_a_zone_are_whole_ones_where_clocks_change() -> None:
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, 5, tzinfo=UTC)
    assert zone_days(start, end, NEW_YORK) == (datetime(2026, 11, 1, 4, tzinfo=UTC), 2)
    assert zone_days(start, end - timedelta(seconds=1), NEW_YORK) == (datetime(2026, 11, 1, 4, tzinfo=UTC), 1)
