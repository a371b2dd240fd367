"""`strategy_performance` against plain Python on the same events, whatever order they land in."""

import random
import statistics
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
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
    rows,
)

MART = "strategy_performance"
ACTUAL = """
SELECT strategy_id, interval, time_bucket, strategy_name, total_trades, winning_trades, losing_trades, total_pnl,
    gross_profit, gross_loss, largest_win, largest_loss, avg_win, avg_loss, win_rate, profit_factor, sharpe_ratio,
    max_drawdown, avg_latency_ms
FROM strategy_performance
"""


def fill(at: datetime, strategy_id: Any, pnl: Any, latency: Any = 2.5) -> Event:
    return Event("order.filled", at, {"strategy_id": strategy_id, "pnl": pnl, "latency_ms": latency})


def started(at: datetime, strategy_id: str, name: Any) -> Event:
    return Event("strategy.started", at, {"strategy_id": strategy_id, "strategy_name": name})


def random_event(chance: random.Random, at: datetime) -> Event:
    strategy_id = chance.choice(["s1", "s2", "s3"])
    kind = chance.random()
    # apart from fills of any order: a microsecond keeps names from sharing a time
    if kind < 0.05 and strategy_id != "s3":
        moment = at + timedelta(microseconds=chance.randrange(10**6))
        return started(moment, strategy_id, chance.choice([f"Name {chance.randrange(10**6)}", "", None]))
    if kind < 0.1:
        return Event("order.placed", at, {"strategy_id": strategy_id, "pnl": 7})
    pnl = chance.choice([*(round(chance.gauss(0.3, 8), 4) for _ in range(6)), 0, "5", None, 1e-30])
    return fill(
        at, chance.choice([strategy_id, strategy_id, strategy_id, ""]), pnl, chance.choice([0.25, 9, "x"])
    )


def number(value: Any) -> Decimal | None:
    return round(Decimal(repr(value)), 18) if isinstance(value, int | float) else None


def expected(events: list[Event]) -> dict[tuple[str, str, datetime], tuple[Any, ...]]:
    """One bucket at a time, from all its events at once: nothing is put together from minutes."""
    held: dict[tuple[str, str, datetime], list[Event]] = defaultdict(list)
    names: dict[str, tuple[datetime, str]] = {}
    for event in events:
        strategy_id = event.properties["strategy_id"]
        name = event.properties.get("strategy_name")
        if not strategy_id or not (event.event_type == "order.filled" or name):
            continue
        if name:
            names[strategy_id] = max(names.get(strategy_id, (event.timestamp, name)), (event.timestamp, name))
        for level in LENGTHS:
            held[strategy_id, level, bucket_start(level, event.timestamp)].append(event)
    return {
        key: (
            names.get(key[0], (None, key[0]))[1],
            *bucket(sorted(found, key=lambda e: (e.timestamp, e.id.bytes))),
        )
        for key, found in held.items()
    }


def bucket(events: list[Event]) -> tuple[Any, ...]:
    fills = [e.properties for e in events if e.event_type == "order.filled"]
    pnl = [one for one in (number(each["pnl"]) for each in fills) if one is not None]
    latency = [each["latency_ms"] for each in fills if not isinstance(each["latency_ms"], str)]
    wins, losses = [one for one in pnl if one > 0], [-one for one in pnl if one < 0]
    deviation = statistics.stdev(pnl) if len(pnl) > 1 else 0
    top = level = fall = Decimal(0)
    for one in pnl:
        level += one
        top = max(top, level)
        fall = max(fall, top - level)
    return (
        len(pnl),
        len(wins),
        len(losses),
        sum(pnl),
        sum(wins),
        sum(losses),
        max(wins, default=None),
        max(losses, default=None),
        statistics.mean(wins) if wins else None,
        statistics.mean(losses) if losses else None,
        100 * len(wins) / len(pnl) if pnl else None,
        sum(wins) / sum(losses) if losses else None,
        statistics.mean(pnl) / deviation if deviation else None,
        fall,
        statistics.mean(latency) if latency else None,
    )


def assert_equal(db: Connection, events: list[Event]) -> None:
    actual = {row[:3]: row[3:] for row in rows(db, ACTUAL)}
    truth = expected(events)
    assert actual.keys() == truth.keys()
    for key, values in truth.items():
        assert actual[key][:9] == values[:9], key
        assert all(map(is_close, actual[key][9:], values[9:])), (key, actual[key], values)


@pytest.mark.slow
def test_buckets_equal_python_whatever_order_their_events_land_in(db):
    check_in_any_order(db, MART, random_event, assert_equal)


@pytest.mark.slow
def test_drawdown_of_a_bucket_reaches_over_its_minutes(db):
    pnl = [5, -1, 3, -6, 2, -4, 9]
    events = [fill(MIDNIGHT + timedelta(seconds=40 * n), "s", one) for n, one in enumerate(pnl)]
    land(db, events)
    assert build_marts("run", MART)
    [(deepest,)] = rows(db, "SELECT max_drawdown FROM strategy_performance WHERE interval = '1h'")
    assert deepest == 8
    assert_equal(db, events)


@pytest.mark.slow
def test_a_strategy_has_its_newest_name_in_all_rows(db):
    hour = timedelta(hours=1)
    names = "SELECT DISTINCT strategy_id, strategy_name FROM strategy_performance ORDER BY 1, 2"
    land(db, [fill(MIDNIGHT, "s", 1), fill(MIDNIGHT, "nameless", 1)])
    assert build_marts("run", MART)
    assert rows(db, names) == [("nameless", "nameless"), ("s", "s")]
    let_time_pass(db)
    for name, at in (("New", 3 * hour), ("Old", hour), ("Newest", 26 * hour)):
        land(db, [started(MIDNIGHT - hour + at, "s", name)])
        assert build_marts("run", MART)
        assert rows(db, names) == [("nameless", "nameless"), ("s", "Newest" if name == "Newest" else "New")]
