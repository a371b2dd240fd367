"""Every way to ask for a metric, beside plain Python over the events: half of them settled, half pending.

The days are those around both changes of clocks in Europe, so that days of 23 and 25 hours are among them.
"""

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from tests.integration.api_support import Api, database_copy, event, land, running, settings_for, settle
from tests.integration.naive_metrics import Asked, expected

METRICS = "/api/v1/metrics"
SPRING, AUTUMN = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
"""When clocks change in Europe."""
SYMBOLS = ("BTCUSDT", "BTCEUR", "ETHUSDT", "SOLUSDT", "5", None)
SEED = int(os.environ.get("METRIC_QUESTIONS_SEED") or random.SystemRandom().randrange(1_000_000))


def some_events(chance: random.Random) -> list[dict[str, Any]]:
    """Bursts of orders in some hours of nine days, those around the change of clocks among them."""
    found = []
    for change in (SPRING, AUTUMN):
        hours = [change + timedelta(hours=number) for number in (-2, -1, 0, 1)]
        hours += [change + timedelta(hours=chance.randrange(-190, 60)) for _ in range(14)]
        for hour in hours:
            for _ in range(chance.randrange(4, 30)):
                at = hour + timedelta(
                    seconds=chance.randrange(3600), microseconds=chance.choice([0, 1, 999_999])
                )
                said: dict[str, Any] = {"strategy_id": chance.choice("abc")}
                symbol = chance.choice(SYMBOLS)
                if symbol is not None:
                    said["symbol"] = symbol
                kind = chance.choice(["order.placed", "order.filled", "market.data.update"])
                said |= {"price": chance.randrange(1, 500), "quantity": chance.randrange(1, 9)}
                said["latency_ms"] = round(chance.lognormvariate(3, 2), 3)
                found.append(event(kind, at, f"u{chance.randrange(40)}", **said))
    return found


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    print(f"METRIC_QUESTIONS_SEED={SEED}")
    return some_events(random.Random(SEED))


@pytest.fixture(scope="module")
def api(postgres: Postgres, template_database: str, events: list[dict[str, Any]]) -> Iterator[Api]:
    with database_copy(postgres, template_database, "metric_questions") as database:
        with psycopg.connect(database, autocommit=True) as connection:
            for change in (SPRING, AUTUMN):
                for day in range(-9, 4):
                    at = change + timedelta(days=day)
                    connection.execute("SELECT create_event_partition(%s)", (at.date(),))
                    connection.execute(
                        "SELECT create_rollup_partitions(level, %s) FROM unnest('{1m,5m,15m,1h,1d}'::text []) AS level",
                        (at,),
                    )
        land(database, events[::2])
        settle(database)
        land(database, events[1::2])
        with running(settings_for(database)) as running_api:
            yield running_api


def question(chance: random.Random) -> Asked:
    """Anything that can be asked."""
    change = chance.choice((SPRING, AUTUMN))
    interval = chance.choice(["5m", "15m", "1h", "1h", "1d", "1d", "1d"])
    days = chance.uniform(0.3, 1.2) if interval in ("5m", "15m") else chance.uniform(0.5, 7)
    start = change - timedelta(days=chance.uniform(0, days))
    start = (
        start.replace(microsecond=0)
        if chance.random() < 0.5
        else start.replace(minute=0, second=0, microsecond=0)
    )
    metric, aggregations = chance.choice(
        [
            ("trading.orders_placed", ["count", "rate"]),
            ("trading.total_volume", ["sum", "count", "avg", "min", "max", "rate"]),
            ("trading.order_latency", ["avg", "max", "rate", "p50", "p99", "p99.9", "p37.5", "p0", "p100"]),
            ("trading.order_fill_rate", ["ratio"]),
            ("users.active", ["distinct"]),
            ("market.price", ["first", "last", "min"]),
        ]
    )  # fmt: skip
    group_by = chance.choice([None, "symbol", "strategy_id"])
    kept = None
    if group_by != "strategy_id":
        kept = chance.choice(
            [None, "symbol:eq:BTCUSDT", "symbol:in:BTCUSDT,5,SOLUSDT", "symbol:ne:ETHUSDT", "symbol:prefix:BTC",
             "symbol:exists:false", "symbol:exists:true", "symbol:eq:null"]
        )  # fmt: skip
    top = chance.choice([None, None, 1, 2, 3]) if group_by else None
    if metric == "users.active":
        group_by, kept, top = None, None, None
    if metric == "market.price":
        group_by, top = "symbol", None
    return Asked(
        metric,
        chance.choice(aggregations),
        interval,
        start,
        start + timedelta(days=days),
        chance.choice(
            [
                "UTC",
                "Europe/Berlin",
                "Asia/Kolkata",
                "America/New_York",
                "Asia/Kathmandu",
                "Australia/Lord_Howe",
            ]
        ),
        group_by,
        kept,
        top,
        chance.choice(["none", "none", "null", "zero", "previous"]),
        chance.choice([None, None, "previous", "1d", "7d"]),
        chance.choice(["asc", "desc"]),
    )


def close(asked: Asked, one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    is_quantile = asked.aggregation[0] == "p"
    return abs(one - other) <= abs(other) * (0.00501 if is_quantile else 1e-9) + 1e-9


def check(asked: Asked, found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    def place(point: dict[str, Any]) -> tuple[Any, ...]:
        return point["timestamp"], point["dimensions"], point.get("filled", False)

    assert list(map(place, found)) == list(map(place, wanted)), asked
    for point, right in zip(found, wanted, strict=True):
        assert close(asked, point["value"], right["value"]), (asked, point, right)
        if asked.compare:
            assert close(asked, point["compared"], right["compared"]), (asked, point, right)


@pytest.mark.parametrize("number", range(8))
def test_answers_are_those_of_plain_python(api: Api, events: list[dict[str, Any]], number: int) -> None:
    chance = random.Random(SEED * 100 + number)
    points = 0
    for _ in range(30):
        asked = question(chance)
        result = api.get(METRICS, **asked.parameters)["result"]
        wanted = expected(asked, events)
        check(asked, result["data_points"], wanted)
        points += len(wanted)
        for point in result["data_points"]:
            assert point["state"] in {"open", "restated", "settling", "final", None}
            if asked.compare and None not in (point["value"], point["compared"]):
                assert point["change"] == pytest.approx(point["value"] - point["compared"])
    assert points > 100


def test_pages_are_the_whole_in_pieces(api: Api, events: list[dict[str, Any]]) -> None:
    chance = random.Random(SEED + 1)
    for _ in range(12):
        asked = question(chance)
        whole = api.get(METRICS, **asked.parameters)["result"]["data_points"]
        if len(whole) > 400:
            continue
        limit = chance.randrange(1, 2 + len(whole) // 2)
        pieces: list[Any] = []
        parameters: dict[str, Any] = asked.parameters | {"limit": limit}
        while True:
            page = api.get(METRICS, **parameters)["result"]
            pieces += page["data_points"]
            assert len(page["data_points"]) == page["total_count"] <= limit
            if "next_cursor" not in page:
                break
            assert page["total_count"] == limit
            parameters |= {"cursor": page["next_cursor"], "start_time": "", "end_time": ""}
        assert pieces == whole, (asked, limit)
