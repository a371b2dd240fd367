"""What a point says of its bucket: how settled it is, and how often it was changed, each beside the right value."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.buckets import finalize_buckets
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
AT = DAY + timedelta(hours=10, minutes=7, seconds=3)
NEVER_FINAL, FINAL_AT_ONCE = timedelta(days=10), timedelta(0)


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with running(settings_for(database, analytics={"query": {"cache_enabled": False}})) as running_api:
        yield running_api


def fill(price: float, latency: float) -> dict[str, Any]:
    said = {"price": price, "quantity": 1, "latency_ms": latency}
    return event("order.filled", AT, "u", symbol="BTCUSDT", strategy_id="s", **said)


def finalize(database: str, grace: timedelta) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        finalize_buckets(
            connection, now=datetime.now(UTC), graces=dict.fromkeys(LEVELS, grace), run_id="test"
        )


def told(api: Api, interval: str, **more: str) -> list[Any]:
    """State, revision, whether something is pending, and the volume and longest latency of the only point."""
    found: list[Any] = []
    for name, aggregation in (("trading.total_volume", "sum"), ("trading.order_latency", "max")):
        asked = {
            "start_time": iso(DAY),
            "end_time": iso(DAY + timedelta(days=1)),
            "interval": interval,
        } | more
        [point] = api.get("/api/v1/metrics", metric_name=name, aggregation=aggregation, **asked)["result"][
            "data_points"
        ]
        said = [point["state"], point["revision"], point.get("pending", False)]
        assert not found or found[:3] == said, "it is of the bucket, whatever the metric"
        found[:3] = said
        found.append(point["value"])
    return found


@pytest.mark.slow
def test_a_bucket_settles_and_a_late_event_restates_it(api: Api, database: str) -> None:
    def expect(*expected: Any) -> None:
        for interval in LEVELS:
            assert told(api, interval) == list(expected)

    land(database, [fill(10, 5)])
    expect("open", 0, True, 10, 5)
    settle(database)
    expect("open", 1, False, 10, 5)
    finalize(database, NEVER_FINAL)
    expect("settling", 1, False, 10, 5)
    land(database, [fill(20, 4)])
    expect("settling", 1, True, 30, 5)
    settle(database)
    expect("settling", 2, False, 30, 5)
    finalize(database, FINAL_AT_ONCE)
    expect("final", 2, False, 30, 5)
    land(database, [fill(5, 70)])  # late: it counts at once, and says so before any merge
    expect("restated", 2, True, 35, 70)
    settle(database)
    expect("restated", 3, False, 35, 70)
    finalize(database, FINAL_AT_ONCE)
    land(database, [fill(1, 1)])
    settle(database)
    expect("restated", 4, False, 36, 70)


def test_a_day_of_a_zone_is_as_settled_as_its_least_settled_part(api: Api, database: str) -> None:
    berlin = {"time_zone": "Europe/Berlin", "start_time": iso(DAY - timedelta(hours=3))}

    def expect(*expected: Any) -> None:
        assert told(api, "1d", **berlin) == list(expected)

    elsewhere = fill(10, 5) | {"timestamp": AT + timedelta(hours=3)}
    land(database, [fill(10, 5), elsewhere])
    settle(database)
    finalize(database, FINAL_AT_ONCE)
    expect("final", 2, False, 20, 5)
    land(database, [fill(7, 9)])
    settle(database)
    expect("restated", 3, False, 27, 9)
    land(database, [elsewhere | {"id": bytes(16)}])
    expect("restated", 3, True, 37, 9)
