"""What outcomes count as, where it is more than adding up."""

from collections import Counter

from analytics_pipeline.ingest import accounts
from analytics_pipeline.storage.landing import Landed
from analytics_pipeline.telemetry import METRIC_OTHER, METRIC_SERIES, of_this_process


def series(metric: str) -> float:
    return of_this_process(
        METRIC_SERIES, "analytics_metric_series", lambda labels: labels["metric"] == metric
    )


def others(metric: str) -> float:
    return of_this_process(METRIC_OTHER, "_total", lambda labels: labels["metric"] == metric)


def test_after_midnight_no_series_has_a_place() -> None:
    accounts.places({("test.places", "symbol"): 7, ("test.places", "strategy_id"): 2})
    assert series("test.places") == 9
    accounts.places({("test.places", "symbol"): 1})
    assert series("test.places") == 1
    accounts.places({})
    assert series("test.places") == 0


def test_events_under_other_count_when_their_batch_is_committed() -> None:
    accounts.landed(Landed(1, [], [], others=Counter({("test.others", "symbol"): 3})))
    accounts.landed(Landed(2, [], []))
    assert others("test.others") == 3
