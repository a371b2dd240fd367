"""What the settings of retention refuse, and what follows from them."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from analytics_pipeline.settings import Retention

MARTS = (
    "order_analytics",
    "user_behavior",
    "market_analytics",
    "market_analytics_coarse",
    "strategy_performance",
)


@pytest.mark.parametrize("mart", MARTS)
def test_a_mart_that_follows_events_is_kept_as_long_as_they_are(mart: str) -> None:
    with pytest.raises(
        ValidationError, match=f"raw_events is kept longer than {mart}: raise {mart} or lower"
    ):
        Retention(**{mart: "89d"})
    assert getattr(Retention(raw_events="30d", **{mart: "99d"}), mart) == timedelta(days=99)


def test_marts_that_are_not_set_follow_raw_events() -> None:
    found = Retention(raw_events="200d")
    assert [getattr(found, mart).days for mart in MARTS] == [200, 200, 200, 730, 730]
    assert found.system_metrics == timedelta(days=30)
    assert Retention(raw_events="1d").order_analytics == timedelta(days=90)


def test_coarse_is_kept_as_long_as_fine() -> None:
    with pytest.raises(ValidationError, match="market_analytics is kept longer than market_analytics_coarse"):
        Retention(market_analytics="731d")


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Retention(raw_events="366d", dead_letters="366d")
    assert "raw_events is kept longer than minute_aggregates" in str(caught.value)
    assert "dead_letters is kept longer than ledger" in str(caught.value)


@pytest.mark.parametrize("key", ["raw_events", "ledger", "system_metrics", "restatements", "dagster_runs"])
def test_nothing_is_no_time_to_keep_something(key: str) -> None:
    with pytest.raises(ValidationError, match="keep it for at least 1h"):
        Retention(**{key: "0d"})
