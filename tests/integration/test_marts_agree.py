"""What marts compute from raw events and metrics from deltas is the same: dbt's tests compare them hour by hour."""

from datetime import timedelta

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.storage.metric_versions import register
from tests.integration.landed import Event, land
from tests.integration.marts import MIDNIGHT, build_marts, let_time_pass, merge_all

MARTS = ("market_analytics", "strategy_performance")
TESTS = tuple(f"{mart}_agrees_with_metrics" for mart in MARTS)


def fill(minutes: float, strategy_id: str, latency: object) -> Event:
    properties = {"symbol": "BTC", "strategy_id": strategy_id, "pnl": 1.5, "quantity": 2, "price": 3}
    return Event("order.filled", MIDNIGHT + timedelta(minutes=minutes), properties | {"latency_ms": latency})


@pytest.mark.slow
def test_a_mart_that_says_something_else_than_its_metrics_is_found(db):
    register(db, BUILT_IN.metrics)
    land(db, [fill(1, "s1", 2.5), fill(2, "s1", "text"), fill(70, "s2", 1e-12), fill(71, "7", 4)])
    merge_all(db)
    assert build_marts("run", *MARTS)
    let_time_pass(db)

    # what a merge or a run has still to do is no difference
    db.execute("UPDATE market_analytics SET trades_count = trades_count + 7 WHERE interval = '1h'")
    land(db, [fill(1, "s1", 1), fill(72, "s2", 1)])
    assert build_marts("test", *TESTS)
    merge_all(db)
    assert build_marts("test", *TESTS)

    assert build_marts("run", "strategy_performance")
    let_time_pass(db)
    assert not build_marts("test", TESTS[0])
    assert build_marts("test", TESTS[1])
    db.execute("UPDATE strategy_performance SET latency_sum = latency_sum + 0.001 WHERE strategy_id = 's1'")
    assert not build_marts("test", TESTS[1])
