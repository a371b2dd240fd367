"""`market_analytics` against plain Python on the same events, whatever order they land in."""

import math
import random
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from analytics_pipeline.storage.connection import Connection
from tests.integration.landed import Event, land
from tests.integration.marts import (
    LENGTHS,
    MIDNIGHT,
    bucket_start,
    build_marts,
    check_in_any_order,
    is_close,
    let_time_pass,
    merge_all,
    rows,
)

MART = "market_analytics"
ACTUAL = """
SELECT symbol, interval, time_bucket, open, high, low, close, volume, trades_count, avg_spread, volatility
FROM market_analytics
"""


def update(at: datetime, symbol: Any, price: Any, bid: Any = None, ask: Any = None) -> Event:
    return Event(
        "market.data.update", at, {"symbol": symbol, "price": price, "volume": 7, "bid": bid, "ask": ask}
    )


def fill(at: datetime, symbol: str, quantity: Any) -> Event:
    return Event("order.filled", at, {"order_id": "o", "symbol": symbol, "quantity": quantity, "price": 5})


def random_event(chance: random.Random, at: datetime) -> Event:
    symbol = chance.choice(["BTC", "ETH"])
    kind = chance.random()
    if kind < 0.2:
        return fill(at, symbol, chance.choice([round(chance.uniform(0.001, 9), 4), "3", None]))
    if kind < 0.3:
        return Event("page.view", at, {"symbol": symbol, "price": 1})
    price = chance.choice(
        [*(round(chance.lognormvariate(3, 0.1), 3) for _ in range(6)), "12", 0, -4, None, 1e-30]
    )
    bid = round(chance.lognormvariate(3, 0.1), 3)
    return update(at, symbol, price, chance.choice([bid, "x"]), round(bid + chance.uniform(-0.2, 0.8), 3))


def number(value: Any) -> Decimal | None:
    return round(Decimal(repr(value)), 18) if isinstance(value, int | float) else None


def expected(events: list[Event]) -> dict[tuple[str, str, datetime], tuple[Any, ...]]:
    """One bucket at a time, from all its events at once: nothing is put together from minutes."""
    held: dict[tuple[str, str, datetime], list[Event]] = defaultdict(list)
    for event in events:
        if event.event_type in {"market.data.update", "order.filled"}:
            for level in LENGTHS:
                held[event.properties["symbol"], level, bucket_start(level, event.timestamp)].append(event)
    return {
        key: bucket(sorted(found, key=lambda e: (e.timestamp, e.id.bytes))) for key, found in held.items()
    }


def bucket(events: list[Event]) -> tuple[Any, ...]:
    quotes = [e.properties for e in events if e.event_type == "market.data.update"]
    fills = [e.properties for e in events if e.event_type == "order.filled"]
    prices = [
        price for price in (number(quote["price"]) for quote in quotes) if price is not None and price > 0
    ]
    sides = [(number(quote["bid"]), number(quote["ask"])) for quote in quotes]
    spreads = [ask - bid for bid, ask in sides if bid is not None and ask is not None and ask >= bid]
    returns = [math.log(float(b) / float(a)) for a, b in pairwise(prices)]
    return (
        prices[0] if prices else None,
        max(prices, default=None),
        min(prices, default=None),
        prices[-1] if prices else None,
        sum((number(one["quantity"]) or 0 for one in fills), Decimal(0)),
        len(fills),
        float(sum(spreads) / len(spreads)) if spreads else None,
        math.sqrt(math.fsum(one * one for one in returns)) if returns else None,
    )


def assert_equal(db: Connection, events: list[Event]) -> None:
    actual = {row[:3]: row[3:] for row in rows(db, ACTUAL)}
    truth = expected(events)
    assert actual.keys() == truth.keys()
    for key, values in truth.items():
        assert actual[key][:6] == values[:6], key
        assert all(map(is_close, actual[key][6:], values[6:])), (key, actual[key], values)


@pytest.mark.slow
def test_buckets_equal_python_whatever_order_their_events_land_in(db):
    check_in_any_order(db, MART, random_event, assert_equal)


@pytest.mark.slow
def test_a_run_computes_only_minutes_that_changed(db):
    quiet, late = MIDNIGHT + timedelta(minutes=1), MIDNIGHT + timedelta(minutes=3)
    events = [update(at, "BTC", price) for at in (quiet, late) for price in (10, 12)]
    land(db, events)
    merge_all(db)
    assert build_marts("run", MART)
    let_time_pass(db)
    created = "SELECT created_at FROM market_analytics WHERE interval = '1m' AND time_bucket = %s"
    before = rows(db, created, quiet), rows(db, created, late)
    assert build_marts("run", MART)
    assert (rows(db, created, quiet), rows(db, created, late)) == before
    more = update(late + timedelta(seconds=2), "BTC", 5)
    land(db, [more])
    assert build_marts("run", MART)
    assert rows(db, created, quiet) == before[0]
    assert rows(db, created, late) != before[1]
    assert_equal(db, [*events, more])


@pytest.mark.slow
def test_what_was_left_to_later_runs_is_caught_up_in_steps(db, monkeypatch):
    events = []
    for number_of_batch in range(4):
        batch = [update(MIDNIGHT + timedelta(hours=number_of_batch), "BTC", 10 + n) for n in range(3)]
        land(db, batch)
        events += batch
    hours = "SELECT count(*) FROM market_analytics WHERE interval = '1h'"
    found = []
    for _ in range(3):
        assert build_marts("run", MART, "--vars", "{events_per_run: 6, landing_overlap: 0 seconds}")
        found += rows(db, hours)
    assert found == [(2,), (4,), (4,)]
    assert_equal(db, events)


@pytest.mark.slow
def test_minutes_before_the_raw_floor_or_the_first_partition_stay_as_they_are(db):
    events = [update(MIDNIGHT, "BTC", 10)]
    land(db, events)
    assert build_marts("run", MART)
    let_time_pass(db)
    before = rows(db, "SELECT * FROM market_analytics ORDER BY interval")
    land(db, [update(MIDNIGHT + timedelta(seconds=1), "BTC", 99)])
    db.execute("UPDATE retention_state SET raw_floor = %s", (MIDNIGHT + timedelta(days=1),))
    assert build_marts("run", MART)
    assert rows(db, "SELECT * FROM market_analytics ORDER BY interval") == before
    db.execute("UPDATE retention_state SET raw_floor = %s", (MIDNIGHT - timedelta(days=1),))
    db.execute("UPDATE mart_progress SET landed_until = '-infinity'")
    for [partition] in rows(
        db, "SELECT partition FROM time_partitions WHERE parent = 'market_analytics_fine'"
    ):
        db.execute(f"ALTER TABLE market_analytics_fine DETACH PARTITION {partition}")
    db.execute(
        "CREATE TABLE later PARTITION OF market_analytics_fine FOR VALUES FROM ('2100-01-01') TO ('2101-01-01')"
    )
    assert build_marts("run", MART)
    assert rows(db, "SELECT count(*) FROM market_analytics WHERE time_bucket >= '2100-01-01'") == [(0,)]
