"""What of a metric a key sees: whole series of its own events, or a sentence that says why not."""

from datetime import UTC, datetime

import pytest

from analytics_pipeline.events.reach import reach
from analytics_pipeline.rollups.catalog import BUILT_IN
from api.errors import Forbidden
from api.metrics.query import read_queries
from api.metrics.selection import Series

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ORDERS = reach(["order.*"], {})
FILLS = reach(["order.filled"], {})
ONE = reach(None, {"strategy_id": ["a"]})
TWO = reach(None, {"strategy_id": ["a", "b"]})
BOTH = reach(["order.*"], {"strategy_id": ["a"]})
ELSEWHERE = reach(None, {"desk": ["3"]})


def series(query: str, part: object) -> Series:
    [found] = read_queries(
        f"metric_name={query}".encode(), now=NOW, max_points=10_000, catalog=BUILT_IN, reach=part
    )  # type: ignore[arg-type]
    return found.series


@pytest.mark.parametrize(
    ("query", "part", "dimension_set"),
    [
        ("events.count.order.placed", ORDERS, "event_type"),
        ("events.count&group_by=event_type", ORDERS, "event_type"),
        ("trading.orders_placed", ORDERS, ""),
        ("trading.order_fill_rate", ORDERS, ""),
        ("trading.total_volume", FILLS, ""),
        ("trading.total_volume", ONE, "strategy_id"),
        ("trading.total_volume", TWO, "strategy_id"),
        ("trading.total_volume&group_by=strategy_id", TWO, "strategy_id"),
        ("trading.order_latency&aggregation=p99", TWO, "strategy_id"),
        ("trading.order_fill_rate", TWO, "strategy_id"),
        ("trading.order_latency", TWO, "strategy_id"),
        ("trading.order_latency&aggregation=p99", ONE, "strategy_id"),
        ("trading.order_latency&aggregation=p99&group_by=strategy_id", TWO, "strategy_id"),
        ("trading.total_volume", BOTH, "strategy_id"),
        ("no.such.metric", BOTH, ""),
    ],
)
def test_series_that_can_be_had(query: str, part: object, dimension_set: str) -> None:
    assert series(query, part).dimension_set == dimension_set


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("events.count", ORDERS),
        ("events.count.user.login", ORDERS),
        ("trading.order_fill_rate", FILLS),
        ("users.active", ORDERS),
        ("users.active", ONE),
        ("events.count", ONE),
        ("events.count.order.placed", ONE),
        ("events.count&group_by=event_type", BOTH),
        ("trading.total_volume&group_by=symbol", ONE),
        ("trading.total_volume", ELSEWHERE),
        ("trading.total_volume&group_by=strategy_id", ELSEWHERE),
    ],
)
def test_series_that_other_events_are_part_of(query: str, part: object) -> None:
    with pytest.raises(Forbidden):
        series(query, part)
