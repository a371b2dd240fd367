"""The stream keeps the event contract, and tells stories that are consistent."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from time import thread_time
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.events.ids import time_of_uuid7
from analytics_pipeline.events.times import micros
from analytics_pipeline.settings import Settings
from analytics_pipeline.simulator.envelope import MARKET, ORDERS, SECOND, TRADING, USERS
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.stream import Stream
from tests.unit.simulator.streams import START, events, messages, slots

ORDER = {"order_id", "symbol", "side", "order_type", "price", "quantity", "strategy_id"}
POSITION = {"strategy_id", "symbol", "quantity", "price"}
CONTRACT: dict[str, tuple[str, set[str]]] = {
    "order.placed": (ORDERS, ORDER),
    "order.filled": (ORDERS, ORDER | {"latency_ms", "commission", "is_maker", "pnl"}),
    "order.canceled": (ORDERS, ORDER),
    "order.rejected": (ORDERS, ORDER | {"reason"}),
    "strategy.started": (TRADING, {"strategy_id", "strategy_name"}),
    "strategy.stopped": (TRADING, {"strategy_id", "strategy_name"}),
    "signal.generated": (TRADING, {"strategy_id", "symbol", "signal_strength"}),
    "position.opened": (TRADING, POSITION),
    "position.closed": (TRADING, POSITION | {"pnl"}),
    "balance.updated": (TRADING, {"account_id", "asset", "balance"}),
    "alert.triggered": (TRADING, {"severity", "message"}),
    "market.data.update": (MARKET, {"symbol", "price", "volume", "bid", "ask"}),
    "user.login": (USERS, {"page"}),
    "user.logout": (USERS, {"page"}),
    "page.view": (USERS, {"page"}),
    "button.click": (USERS, {"page", "element"}),
}
TEXTS = {
    "order_id", "symbol", "side", "order_type", "strategy_id", "strategy_name", "reason", "account_id", "asset",
    "severity", "message", "page", "element",
}  # fmt: skip
ENDS = {"order.filled", "order.canceled", "order.rejected"}


@lru_cache(maxsize=1)
def long_run() -> list[dict[str, Any]]:
    """About five hours at the rate of the history."""
    return events(seed=7, rate=2.0, count=36_000)


def of_type(*types: str) -> list[dict[str, Any]]:
    return [event for event in long_run() if event["event_type"] in types]


def time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**64), rate=st.floats(0.5, 20_000))
def test_every_event_keeps_the_contract(seed: int, rate: float) -> None:
    limits = Settings().analytics.ingestion
    last = START
    for slot, message in zip(slots(rate, 800), messages(seed, rate, 800), strict=True):
        event = json.loads(message.value)
        topic, properties = CONTRACT[event["event_type"]]
        assert message.topic == topic
        assert set(event["properties"]) == properties
        for name, value in event["properties"].items():
            expected = str if name in TEXTS else bool if name == "is_maker" else (int, float)
            assert isinstance(value, expected), (name, value)
            assert len(json.dumps(value)) <= limits.max_property_bytes
        assert set(event) <= {"id", "event_type", "timestamp", "user_id", "session_id", "properties"}
        moment = time_of(event)
        assert moment.tzinfo is not None
        assert micros(moment) == message.time
        stamped = time_of_uuid7(UUID(event["id"]))
        assert stamped is not None
        assert micros(stamped) == message.time // 1000 * 1000
        assert last <= message.time <= slot
        assert message.key
        last = message.time


def test_all_built_in_types_appear() -> None:
    assert {event["event_type"] for event in long_run()} == set(CONTRACT)


def test_ids_are_unique() -> None:
    assert len({event["id"] for event in long_run()}) == len(long_run())


def test_the_same_seed_is_the_same_stream() -> None:
    ratios = Ratios(0.01, 0.01, 0.01)
    assert messages(3, 50, 2_000, ratios) == messages(3, 50, 2_000, ratios)
    assert messages(3, 50, 2_000, ratios) != messages(4, 50, 2_000, ratios)


def test_the_market_has_eight_symbols_with_bid_below_ask() -> None:
    quotes = [event["properties"] for event in of_type("market.data.update")]
    assert len({quote["symbol"] for quote in quotes}) == 8
    for quote in quotes:
        assert 0 < quote["bid"] < quote["ask"]
        assert quote["bid"] <= quote["price"] <= quote["ask"]
        assert quote["volume"] > 0


def test_prices_walk_but_stay_near() -> None:
    prices = defaultdict(list)
    for event in of_type("market.data.update"):
        prices[event["properties"]["symbol"]].append(event["properties"]["price"])
    for walk in prices.values():
        assert len(set(walk)) > 50
        assert max(walk) < 1.3 * min(walk)


def test_an_order_is_placed_once_and_ends_at_most_once() -> None:
    placed: dict[str, dict[str, Any]] = {}
    ended = set()
    for event in of_type("order.placed", *ENDS):
        terms = event["properties"]
        assert terms["quantity"] > 0
        assert terms["price"] > 0
        assert terms["side"] in {"BUY", "SELL"}
        assert terms["order_type"] in {"LIMIT", "MARKET"}
        if event["event_type"] == "order.placed":
            assert terms["order_id"] not in placed
            placed[terms["order_id"]] = event
            continue
        assert terms["order_id"] not in ended
        ended.add(terms["order_id"])
        before = placed[terms["order_id"]]
        assert time_of(before) < time_of(event)
        same = ORDER if event["event_type"] != "order.filled" else ORDER - {"price"}
        assert {name: before["properties"][name] for name in same} == {name: terms[name] for name in same}
        assert before["user_id"] == event["user_id"]
    assert len(placed) - len(ended) < 50
    assert len(ended) > 1_000


def test_a_fill_tells_its_latency_and_its_price() -> None:
    placed = {event["properties"]["order_id"]: event for event in of_type("order.placed")}
    for fill in of_type("order.filled"):
        terms = fill["properties"]
        before = placed[terms["order_id"]]
        waited = (micros(time_of(fill)) - micros(time_of(before))) / 1000
        assert terms["latency_ms"] == pytest.approx(waited)
        assert 0 < terms["latency_ms"] < 1_000
        assert terms["is_maker"] == (terms["order_type"] == "LIMIT")
        assert terms["commission"] > 0
        if terms["order_type"] == "LIMIT":
            assert terms["price"] == before["properties"]["price"]


def test_only_limit_orders_are_canceled() -> None:
    assert {event["properties"]["order_type"] for event in of_type("order.canceled")} == {"LIMIT"}


def test_positions_are_what_their_fills_say() -> None:
    """A position opens and closes 50 µs after its fill; its pnl is that of its two fills, from their prices."""
    fills: dict[tuple[Any, ...], dict[str, Any]] = {}
    lots: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    closed = 0
    for event in of_type("order.filled", "position.opened", "position.closed"):
        terms = event["properties"]
        lot = (terms["strategy_id"], terms["symbol"], terms["quantity"])
        if event["event_type"] == "order.filled":
            fills[*lot, time_of(event)] = terms
            continue
        fill = fills.pop((*lot, time_of(event) - timedelta(microseconds=50)))
        assert fill["price"] == terms["price"]
        if event["event_type"] == "position.opened":
            assert fill["pnl"] == -fill["commission"]
            lots[lot].append(fill)
            continue
        closed += 1
        sign = 1 if fill["side"] == "SELL" else -1
        for opening in lots[lot]:
            gross = sign * (fill["price"] - opening["price"]) * fill["quantity"]
            if opening["side"] != fill["side"] and fill["pnl"] == pytest.approx(
                gross - fill["commission"], abs=1e-5
            ):
                assert terms["pnl"] == pytest.approx(opening["pnl"] + fill["pnl"], abs=1e-5)
                lots[lot].remove(opening)
                break
        else:
            pytest.fail(f"closed what was not open: {event}")
    assert closed > 1_000


def test_balances_follow_the_positions() -> None:
    owners = {event["properties"]["strategy_id"]: event["user_id"] for event in of_type("strategy.started")}
    earned: Counter[str] = Counter()
    first: dict[str, tuple[float, Any]] = {}
    for event in long_run():
        terms = event["properties"]
        if event["event_type"] == "position.closed":
            earned[owners[terms["strategy_id"]]] += Decimal(str(terms["pnl"]))
        elif event["event_type"] == "balance.updated":
            assert terms["balance"] >= 0
            user = event["user_id"]
            if user not in first:
                first[user] = (terms["balance"], earned[user])
            balance, already = first[user]
            since = float(earned[user] - already)
            # Each booking is rounded to hundredths.
            assert terms["balance"] - balance == pytest.approx(since, abs=0.005 * 4_000)
    assert len(first) == 12


def test_a_strategy_acts_only_between_its_start_and_its_stop() -> None:
    running = set()
    for event in long_run():
        strategy = event["properties"].get("strategy_id")
        match event["event_type"]:
            case "strategy.started":
                assert strategy not in running
                running.add(strategy)
            case "strategy.stopped":
                running.remove(strategy)
            case "balance.updated":
                pass
            case _:
                assert strategy is None or strategy in running
    assert of_type("strategy.stopped")


def test_a_session_begins_with_a_login_and_ends_with_a_logout() -> None:
    sessions: dict[str, str] = {}
    for event in of_type("user.login", "user.logout", "page.view", "button.click"):
        if event["event_type"] == "user.login":
            assert event["session_id"] not in sessions
            assert event["user_id"] not in sessions.values()
            sessions[event["session_id"]] = event["user_id"]
        else:
            assert sessions[event["session_id"]] == event["user_id"]
        if event["event_type"] == "user.logout":
            del sessions[event["session_id"]]


def test_users_come_and_strategies_start_within_a_minute_at_the_default_rate() -> None:
    rate = Settings().simulator.rate
    counts = Counter(event["event_type"] for event in events(1, rate, int(60 * rate)))
    assert counts["user.login"] >= 45
    assert counts["strategy.started"] == 12
    assert counts["order.filled"] > 100


@pytest.mark.parametrize("rate", [0.2, 1.0, 100.0, 5_000.0])
def test_events_are_told_soon_after_they_happen(rate: float) -> None:
    """A chain of fill, position and balance waits for a few slots, never for more and more of them."""
    sent = messages(5, rate, 20_000)
    behind = [slot - message.time for slot, message in zip(slots(rate, 20_000), sent, strict=True)]
    assert max(behind) < max(0.5, 60 / rate) * SECOND


def test_generating_is_fast() -> None:
    """A message costs less than reading and writing six events as JSON, best of five: machines differ, ratios less."""
    [example] = messages(1, 10, 1)

    def seconds(work: Callable[[], object]) -> float:
        began = thread_time()
        work()
        return thread_time() - began

    def generate() -> None:
        stream = Stream(seed=1, start=START, rate=20_000, ratios=Ratios(0.002, 0.002, 0.001))
        for slot in slots(20_000, 10_000):
            stream.message(slot)

    def copy() -> None:
        for _ in range(10_000):
            json.dumps(json.loads(example.value))

    pairs = [(seconds(generate), seconds(copy)) for _ in range(5)]
    assert min(generated for generated, _ in pairs) < 6 * min(copied for _, copied in pairs), pairs
