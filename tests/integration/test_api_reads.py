"""Numbers of the API: settled + pending, at every interval, the same as SQL on raw events."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import psycopg
import pytest

from tests.integration.api_support import Api, event, iso, land, plain, running, settings_for, settle

LEVEL_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86_400}
LEVELS = tuple(LEVEL_SECONDS)


@pytest.fixture
def day() -> datetime:
    """Midnight of yesterday, UTC: all buckets are over and all partitions there."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with running(settings_for(database, analytics={"query": {"cache_enabled": False}})) as running_api:
        yield running_api


def orders(at: datetime) -> list[dict]:
    symbols = ("BTCUSDT", "ETHUSDT")
    number = count()
    found = []
    for minute in range(0, 180, 7):
        when = at + timedelta(minutes=minute, seconds=minute % 60)
        symbol = symbols[next(number) % 2]
        found += [
            event("order.placed", when, "u1", symbol=symbol, strategy_id="s1", price=100, quantity=2),
            event("order.placed", when, "u2", symbol=symbol, strategy_id="s2", price=100, quantity=2),
            event(
                "order.filled",
                when,
                "u1",
                symbol=symbol,
                strategy_id="s1",
                price=100.5,
                quantity=2,
                latency_ms=minute + 1,
            ),
        ]
    return found


def points(api: Api, name: str, day: datetime, interval: str, **more: str) -> list[dict]:
    result = api.get(
        "/api/v1/metrics",
        metric_name=name, interval=interval, start_time=iso(day), end_time=iso(day + timedelta(days=1)), **more,
    )["result"]  # fmt: skip
    assert result["total_count"] == len(result["data_points"])
    return plain(result["data_points"])


def quotes(at: datetime) -> list[dict]:
    """Every other minute two prices at one time, so that the ids decide; balances now and then."""
    found = []
    for minute in range(-200, 180, 13):
        when = at + timedelta(minutes=minute)
        for symbol, price in (("BTCUSDT", minute + 0.5), ("BTCUSDT", -minute), ("ETHUSDT", minute)):
            found.append(event("market.data.update", when, symbol=symbol, price=price))
        account = f"acct-{minute % 3}"
        asset = "BTC" if minute % 2 else "USDT"
        found.append(event("balance.updated", when, account_id=account, asset=asset, balance=minute))
    return found


def ends(events: list[dict], event_type: str, field: str, names: tuple[str, ...]) -> dict[tuple, list[float]]:
    """The values of each series, by time and id."""
    found: dict[tuple, list[float]] = {}
    for row in sorted(events, key=lambda row: (row["timestamp"], row["id"])):
        if row["event_type"] == event_type:
            said = json.loads(row["properties"])
            found.setdefault((row["timestamp"], *(said[name] for name in names)), []).append(said[field])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("interval", LEVELS)
def test_first_and_last_values_pending_settled_and_mixed(
    api: Api, database: str, day: datetime, interval: str
) -> None:
    events = quotes(day)
    land(database, events[::2])
    settle(database)
    land(database, events[1::2])
    width = timedelta(seconds=LEVEL_SECONDS[interval])
    prices: dict[tuple, list[float]] = {}
    for (at, symbol), values in ends(events, "market.data.update", "price", ("symbol",)).items():
        if at >= day:
            prices.setdefault((iso(day + (at - day) // width * width), symbol), []).extend(values)
    expected = [
        (*series, values[0], max(values), min(values), values[-1])
        for series, values in sorted(prices.items())
    ]

    def check() -> None:
        found = points(api, "market.price", day, interval, group_by="symbol", aggregation="ohlc")
        names = ("open", "high", "low", "close")
        assert [
            (point["timestamp"], point["dimensions"]["symbol"], *(point[name] for name in names))
            for point in found
        ] == expected
        assert all(point["value"] == point["close"] for point in found)
        for aggregation, place in (("first", 2), ("last", 5)):
            found = points(api, "market.price", day, interval, group_by="symbol", aggregation=aggregation)
            assert [point["value"] for point in found] == [row[place] for row in expected]
        with psycopg.connect(database) as connection:
            live = connection.execute(
                "SELECT dimensions ->> 'symbol', first, max, min, last FROM metrics_live"
                " WHERE metric_name = 'market.price' AND interval = %s AND time_bucket >= %s ORDER BY time_bucket, 1",
                (interval, day),
            ).fetchall()
        assert live == [row[1:] for row in expected]

    check()
    settle(database)
    check()


@pytest.mark.slow
@pytest.mark.parametrize("interval", LEVELS)
def test_balances_are_carried_forward_and_summed(
    api: Api, database: str, day: datetime, interval: str
) -> None:
    events = quotes(day)
    land(database, events[::2])
    settle(database)
    land(database, events[1::2])
    held: dict[tuple, float] = {}
    updates = iter(sorted(ends(events, "balance.updated", "balance", ("account_id", "asset")).items()))
    upcoming = next(updates, None)
    totals, assets = [], []
    width = timedelta(seconds=LEVEL_SECONDS[interval])
    for number in range(timedelta(days=1) // width):
        while upcoming is not None and upcoming[0][0] < day + (number + 1) * width:
            held[upcoming[0][1:]] = upcoming[1][-1]
            upcoming = next(updates, None)
        totals.append(sum(held.values()))
        assets.append(sum(value for (_, asset), value in held.items() if asset == "BTC"))

    def check() -> None:
        found = points(api, "accounts.balance", day, interval)
        assert [point["value"] for point in found] == totals
        assert {str(point["dimensions"]) for point in found} == {"{}"}
        found = points(api, "accounts.balance", day, interval, group_by="asset")
        assert [point["value"] for point in found if point["dimensions"]["asset"] == "BTC"] == assets

    check()
    settle(database)
    check()


def test_sums_and_changes_of_balances_are_those_of_decimals(api: Api, database: str, day: datetime) -> None:
    def balances(hour: int, *values: float) -> list[dict]:
        at = day + timedelta(hours=hour)
        return [
            event("balance.updated", at, account_id=f"acct-{place}", asset="USDT", balance=value)
            for place, value in enumerate(values)
        ]

    land(database, balances(0, 0.1, 0.2, 6496218.07) + balances(1, 0.3, 0.4, 143946.1601486))
    question = {"start_time": iso(day + timedelta(hours=1)), "end_time": iso(day + timedelta(hours=2))}
    for more in ({}, {"group_by": "asset"}, {"group_by": "asset", "top": "1"}):
        [found] = api.get(
            "/api/v1/metrics", metric_name="accounts.balance", compare="previous", **question, **more
        )["result"]["data_points"]
        assert (found["value"], found["compared"], found["change"]) == (
            143946.8601486, 6496218.37, -6352271.5098514,
        )  # fmt: skip


def test_a_row_that_stands_alone_is_the_sum_of_decimals_after_every_merge(
    api: Api, database: str, day: datetime
) -> None:
    # As doubles 0.1 + 0.2 + 0.3 is 0.6000000000000001.
    for price in (0.1, 0.2, 0.3):
        fill = event("order.filled", day, symbol="BTCUSDT", strategy_id="s1", price=price, quantity=1)
        land(database, [fill])
        settle(database)
    for interval in LEVELS:
        [point] = points(api, "trading.total_volume", day, interval, group_by="symbol")
        assert point["value"] == 0.6


@pytest.mark.parametrize("interval", LEVELS)
def test_pending_settled_and_mixed_give_the_same_numbers(
    api: Api, database: str, day: datetime, interval: str
) -> None:
    events = orders(day)
    land(database, events[::2])
    settle(database)
    land(database, events[1::2])

    def everything() -> list:
        names = (
            "events.count", "events.count.order.placed", "trading.orders_filled", "trading.total_volume",
            "trading.order_fill_rate", "trading.order_latency", "users.active", "strategies.active",
        )  # fmt: skip
        found = [points(api, name, day, interval) for name in names]
        found += [
            points(api, "trading.order_latency", day, interval, aggregation=a)
            for a in ("min", "max", "p50", "p95", "p99")
        ]
        found += [points(api, "trading.total_volume", day, interval, group_by="symbol")]
        found += [points(api, "events.count", day, interval, group_by="event_type")]
        return found

    mixed = everything()
    settle(database)
    assert everything() == mixed
    assert sum(point["value"] for point in mixed[0]) == len(events)
    assert sum(point["value"] for point in mixed[1]) == 52
    assert sum(point["value"] for point in mixed[3]) == pytest.approx(26 * 201)
    assert all(point["value"] == 50 for point in mixed[4])
    assert all(point["dimensions"] == {} for point in mixed[0])
    assert {point["dimensions"]["symbol"] for point in mixed[-2]} == {"BTCUSDT", "ETHUSDT"}
    by_type = {(point["timestamp"], point["dimensions"]["event_type"]): point["value"] for point in mixed[-1]}
    assert sum(by_type.values()) == len(events)


@pytest.mark.slow
def test_one_day_of_values(api: Api, database: str, day: datetime) -> None:
    land(database, orders(day))
    latency = {
        name: points(api, "trading.order_latency", day, "1d", aggregation=name)[0]["value"]
        for name in ("count", "sum", "avg", "min", "max", "p50", "p95", "p99")
    }
    values = sorted(minute + 1 for minute in range(0, 180, 7))
    assert (latency["count"], latency["sum"], latency["min"], latency["max"]) == (26, sum(values), 1, 176)
    assert latency["avg"] == pytest.approx(sum(values) / 26)
    assert latency["p50"] == pytest.approx(values[12], rel=0.006)
    assert latency["p95"] == pytest.approx(values[23], rel=0.006)
    assert points(api, "users.active", day, "1d") == [{"timestamp": iso(day), "value": 2, "dimensions": {}}]


@pytest.mark.slow
def test_a_quantile_of_values_too_far_apart_says_that_it_has_no_bound(
    api: Api, database: str, day: datetime
) -> None:
    wide = [1e-6] * 5 + [1.0] + [1e10] * 5
    narrow = [1.0, 10.0, 100.0]
    batch = [
        event(
            "order.filled", day + timedelta(seconds=n), "u", symbol=symbol, strategy_id="s", latency_ms=value
        )
        for symbol, values in (("WIDE", wide), ("NARROW", narrow))
        for n, value in enumerate(values)
    ]

    def read(aggregation: str, **more: str) -> tuple[str, dict[str, tuple[float, bool]]]:
        asked = {"start_time": iso(day), "end_time": iso(day + timedelta(days=1))} | more
        result = api.get(
            "/api/v1/metrics", metric_name="trading.order_latency", aggregation=aggregation, **asked
        )["result"]
        found = {
            str(point["dimensions"].get("symbol")): (point["value"], "unbounded" in point)
            for point in result["data_points"]
        }
        assert result["relative_error"] == 0.005
        return result["precision"], found

    def check_compared() -> None:
        """The day after holds narrow values alone: what is beside them is marked, they are not."""
        for zone, more in (
            ("UTC", {}),
            ("UTC", {"top": "2"}),
            ("Europe/Berlin", {}),
            ("UTC", {"fill": "zero"}),
        ):
            for aggregation, is_wide in (("p10", True), ("p99", False)):
                result = api.get(
                    "/api/v1/metrics", metric_name="trading.order_latency", aggregation=aggregation,
                    start_time=iso(day + timedelta(days=1)), end_time=iso(day + timedelta(days=1, hours=1)),
                    group_by="symbol", interval="1h", compare="1d", time_zone=zone, **more,
                )["result"]  # fmt: skip
                marked = {
                    point["dimensions"]["symbol"]
                    for point in result["data_points"]
                    if point.get("compared_unbounded")
                }
                assert not any(point.get("unbounded") for point in result["data_points"])
                assert marked == ({"WIDE"} if is_wide else set()), (zone, more, aggregation)
                assert result["precision"] == ("unbounded" if is_wide else "bounded")

    def check() -> None:
        for interval in ("1m", "1h", "1d"):
            for aggregation in ("p10", "p50"):
                asked = {"interval": interval, "group_by": "symbol"}
                precision, found = read(aggregation, **asked)
                value, is_unbounded = found["WIDE"]
                is_true = abs(value / sorted(wide)[int(float(aggregation[1:]) / 10)] - 1) <= 0.006
                assert is_unbounded != is_true
                assert is_unbounded == (precision == "unbounded")
                assert (found["NARROW"][1], read("p99", **asked)[0]) == (False, "bounded")
        assert read("p10", interval="1h")[1]["None"][1], "in total"
        assert (
            read("p10", interval="1d", time_zone="Europe/Berlin", start_time=iso(day - timedelta(days=1)))[0]
            == "unbounded"
        )
        top = read("p10", interval="1h", group_by="symbol", top="1")[1]
        assert {name for name, (_, flag) in top.items() if flag} == {"WIDE"}
        page = {"interval": "1h", "group_by": "symbol", "limit": "1"}
        assert read("p10", **page) == ("bounded", {"NARROW": (pytest.approx(1, rel=0.005), False)})
        assert read("p10", **page, order="desc")[0] == "unbounded"
        check_compared()
        held = read("p10", interval="1h", fill="previous", group_by="symbol")[1]
        assert held["WIDE"][1], "what stands for it is no better"

    later = day + timedelta(days=1, seconds=1)
    batch += [
        event("order.filled", later, "u", symbol=symbol, strategy_id="s", latency_ms=1e11)
        for symbol in ("WIDE", "NARROW")
    ]
    land(database, batch[::2])
    land(database, batch[1::2])
    check()
    settle(database)
    check()
    land(database, [event("order.filled", day, "u", symbol="OTHER", strategy_id="s", latency_ms=1)])
    check()


@pytest.mark.slow
def test_points_are_whole_buckets_whose_start_lies_in_the_range(
    api: Api, database: str, day: datetime
) -> None:
    land(database, [event("user.login", day + timedelta(minutes=minute)) for minute in (0, 4, 5, 9, 10)])

    def starts(start: timedelta, end: timedelta) -> list[tuple[str, float]]:
        found = api.get(
            "/api/v1/metrics",
            metric_name="events.count.user.login", interval="5m", start_time=iso(day + start), end_time=iso(day + end),
        )["result"]["data_points"]  # fmt: skip
        return [(point["timestamp"], point["value"]) for point in found]

    five, ten = timedelta(minutes=5), timedelta(minutes=10)
    tick = timedelta(microseconds=1)
    assert starts(timedelta(0), ten) == [(iso(day), 2), (iso(day + five), 2)]
    assert starts(tick, ten + tick) == [(iso(day + five), 2), (iso(day + ten), 1)]
    assert starts(five, five) == []
    assert starts(five, five + tick) == [(iso(day + five), 2)]


def test_values_that_are_none_are_counted(api: Api, database: str, day: datetime) -> None:
    said = [7, "7", True, 2e18, None, {"a": 1}]
    fills = [
        event("order.filled", day + timedelta(minutes=number), latency_ms=value)
        for number, value in enumerate(said)
    ]
    land(database, fills[::2])
    settle(database)
    land(database, [*fills[1::2], event("order.filled", day)])
    for _ in range(2):
        assert [
            point["value"] for point in points(api, "trading.order_latency", day, "1h", aggregation="skipped")
        ] == [4]
        assert [point["value"] for point in points(api, "trading.order_latency", day, "1h")] == [7]
        assert points(api, "trading.commission", day, "1h", aggregation="skipped") == []
        settle(database)


def test_an_undefined_ratio_has_no_point(api: Api, database: str, day: datetime) -> None:
    land(
        database,
        [event("order.filled", day, price=1, quantity=1), event("order.placed", day + timedelta(minutes=1))],
    )
    assert points(api, "trading.order_fill_rate", day, "1m") == [
        {"timestamp": iso(day + timedelta(minutes=1)), "value": 0.0, "dimensions": {}}
    ]
    assert points(api, "trading.order_fill_rate", day, "1h")[0]["value"] == 100


@pytest.mark.slow
def test_statistics_are_exact_to_the_microsecond(api: Api, database: str, day: datetime) -> None:
    tick = timedelta(microseconds=1)
    times = [
        day + timedelta(seconds=second)
        for second in (0, 29, 30, 31, 59, 60, 61, 3599, 3600, 7199, 7200, 7230, 7231, 40000, 86399)
    ]
    land(database, [event("a" if index % 2 else "b", at) for index, at in enumerate(times[::2])])
    settle(database)
    land(database, [event("a", at) for at in times[1::2]])
    edges = sorted({edge for at in times for edge in (at - tick, at, at + tick)} | {day + timedelta(days=1)})
    for index, start in enumerate(edges[::4]):
        for end in edges[index * 4 :: 5]:
            answer = api.get("/api/v1/events/stats", start_time=iso(start), end_time=iso(end))
            assert answer["total_events"] == sum(start <= at < end for at in times), (start, end)
            assert sum(answer["by_type"].values()) == answer["total_events"]


@pytest.mark.slow
@pytest.mark.parametrize("interval", LEVELS)
def test_statistics_per_interval_are_exact_and_add_up(
    api: Api, database: str, day: datetime, interval: str
) -> None:
    width = timedelta(seconds=LEVEL_SECONDS[interval])
    seconds = (0, 29, 59, 60, 299, 300, 301, 899, 900, 3599, 3600, 7199, 7200, 7231, 40_000, 86_399)
    events = [
        event("a" if second % 2 else "b", day + timedelta(seconds=second, microseconds=micros))
        for second in seconds
        for micros in (0, 1, 999_999)
    ]
    land(database, events[::3])
    settle(database)
    land(database, [*events[1::3], *events[2::3]])

    def counted(start: datetime, end: datetime) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for row in events:
            if start <= row["timestamp"] < end:
                bucket = found.setdefault(iso(day + (row["timestamp"] - day) // width * width), {})
                bucket[row["event_type"]] = bucket.get(row["event_type"], 0) + 1
        return dict(sorted(found.items()))

    def check(start: datetime, end: datetime) -> None:
        answer = api.get("/api/v1/events/stats", start_time=iso(start), end_time=iso(end), interval=interval)
        assert answer["interval"] == interval
        expected = counted(start, end)
        assert [one["timestamp"] for one in answer["buckets"]] == list(expected)
        for bucket in answer["buckets"]:
            assert bucket["by_type"] == expected[bucket["timestamp"]]
            assert bucket["total_events"] == sum(bucket["by_type"].values())
        whole = api.get("/api/v1/events/stats", start_time=iso(start), end_time=iso(end))
        assert {name: answer[name] for name in whole} == whole
        assert whole["total_events"] == sum(one["total_events"] for one in answer["buckets"])

    tick, second = timedelta(microseconds=1), timedelta(seconds=1)
    for start in (day, day + tick, day + 29 * second, day + 59 * second + tick, day + 300 * second):
        for end in (
            day + 60 * second,
            day + 301 * second,
            day + 7231 * second + tick,
            day + timedelta(days=1),
        ):
            if start <= end:
                check(start, end)
    settle(database)
    check(day + tick, day + timedelta(days=1))


@pytest.mark.slow
def test_statistics_of_too_many_types_and_buckets_are_refused(database: str, day: datetime) -> None:
    land(database, [event(f"t{n % 10}", day + timedelta(minutes=n // 10)) for n in range(100)])
    few = {"query": {"max_points": 20, "cache_enabled": False}}
    with running(settings_for(database, analytics=few)) as api:
        asked = {"start_time": iso(day), "interval": "1m"}
        ten = {**asked, "end_time": iso(day + timedelta(minutes=2))}
        assert len(api.get("/api/v1/events/stats", **ten)["buckets"]) == 2
        refused = api.get(
            "/api/v1/events/stats", expect=400, **asked, end_time=iso(day + timedelta(minutes=3))
        )
        assert (refused["parameter"], "max_points" in refused["detail"]) == ("interval", True)


def test_dashboard_equals_sql_on_raw_over_its_windows(database: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    floor = now.replace(second=0)
    events = []
    for minute in range(0, 75):
        at = floor - timedelta(minutes=minute)
        events += [
            event("order.placed", at, f"u{minute}", strategy_id=f"s{minute % 7}", price=2, quantity=3),
            event("order.filled", at, "u0", strategy_id="s0", price=2, quantity=3, latency_ms=minute),
        ]
        if minute % 10 == 0:
            events.append(event("order.rejected", at, "u0", strategy_id="s0"))
    land(database, events[:100])
    settle(database)
    land(database, events[100:])
    with running(settings_for(database), clock=lambda: now + timedelta(milliseconds=345)) as api:
        found = api.get("/api/v1/dashboard/metrics")
    hour = [e for e in events if e["timestamp"] >= floor - timedelta(minutes=60)]
    five = [e for e in events if e["timestamp"] >= floor - timedelta(minutes=5)]
    recent = [e for e in events if e["timestamp"] >= floor - timedelta(minutes=1)]
    filled = [e for e in hour if e["event_type"] == "order.filled"]
    assert found == {
        "active_users": len({e["user_id"] for e in five}),
        "events_per_second": len(recent) / (now - floor + timedelta(minutes=1)).total_seconds(),
        "orders_placed": 61,
        "orders_filled": len(filled),
        "active_strategies": 6,
        "total_volume": 6.0 * len(filled),
        "average_latency": sum(range(61)) / 61,
        "error_rate": 7 / 61,
        "custom_metrics": {},
        "last_updated": iso(now),
    }


def test_dashboard_of_nothing(database: str) -> None:
    with running(settings_for(database)) as api:
        found = api.get("/api/v1/dashboard/metrics")
    assert {key: value for key, value in found.items() if value and key != "last_updated"} == {}


def test_events_come_newest_first_and_half_open(api: Api, database: str, day: datetime) -> None:
    rows = [
        event("a" if second % 2 else "b", day + timedelta(seconds=second), "u", n=1.50, s='"x"')
        for second in range(10)
    ]
    land(database, rows)
    start, end = iso(day + timedelta(seconds=2)), iso(day + timedelta(seconds=8))
    answer = api.get("/api/v1/events", start_time=start, end_time=end, limit=4)
    assert (answer["count"], answer["start_time"], answer["end_time"]) == (4, start, end)
    assert [e["timestamp"] for e in answer["events"]] == [
        iso(day + timedelta(seconds=s)) for s in (7, 6, 5, 4)
    ]
    first = answer["events"][0]
    assert first.keys() == {"id", "event_type", "user_id", "properties", "timestamp", "created_at"}
    assert (first["user_id"], first["properties"]) == ("u", {"n": 1.5, "s": '"x"'})
    assert api.get("/api/v1/events", start_time=start, end_time=end, event_type="a")["count"] == 3
    assert api.get("/api/v1/events", start_time=start, end_time=end, event_type="nobody's")["events"] == []


def test_an_unknown_metric_has_no_points_and_a_warning(api: Api) -> None:
    answer = api.get("/api/v1/metrics", metric_name="no.such.metric")
    assert answer["result"]["data_points"] == []
    assert answer["warnings"] == ["The catalog has no metric of this name."]
    assert "warnings" not in api.get("/api/v1/metrics", metric_name="trading.total_volume")


@pytest.mark.slow
def test_ingestion_metrics_come_from_the_ledger(api: Api, database: str, day: datetime) -> None:
    path = "/api/v1/internal/ingestion-metrics"
    assert api.get(path) == {
        "events_ingested": 0, "events_failed": 0, "batches_processed": 0, "last_batch_size": 0,
        "last_batch_duration": "0s", "total_latency": "0s",
    }  # fmt: skip
    land(database, [event("a", day)], seconds=1.5)
    land(database, [event("a", day), event("b", day)], dead=3)
    assert api.get(path) == {
        "events_ingested": 3, "events_failed": 3, "batches_processed": 2, "last_batch_size": 5,
        "last_batch_duration": "61.1ms", "total_latency": "1.5611s",
    }  # fmt: skip


@pytest.mark.slow
def test_what_an_operator_wrote_into_the_ledger_is_no_batch(api: Api, database: str, day: datetime) -> None:
    land(database, [event("a", day)])
    before = api.get("/api/v1/internal/ingestion-metrics")
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored,"
            " duplicate, dead, skipped, catalog_version, note)"
            " VALUES (nextval('ingest_batch_id_seq'), 'orders', 0, 0, 5, 0, 0, 0, 0, 5, '', 'skipped by a person')"
        )
    assert api.get("/api/v1/internal/ingestion-metrics") == before
    assert (before["batches_processed"], before["last_batch_size"]) == (1, 1)


@pytest.mark.slow
def test_late_events_are_told_of_each_bucket(api: Api, database: str, day: datetime) -> None:
    noon = day + timedelta(hours=12)
    in_time = [event("page.view", noon + timedelta(minutes=minute), "u") for minute in (0, 1, 16)]
    late = [
        event("page.view", noon + timedelta(minutes=minute), "u") | {"is_late": True}
        for minute in (1, 16, 16)
    ]

    def told(interval: str, **more: str) -> list[int | None]:
        return [point.get("late_count") for point in points(api, "events.count", day, interval, **more)]

    land(database, [*in_time, *late[:1]])
    assert (told("1m"), told("1m", counts="1")) == ([None] * 3, [0, 1, 0])
    settle(database)
    assert told("1m", counts="1") == [0, 1, 0]
    land(database, late[1:])  # pending
    expected = {"1m": [0, 1, 2], "5m": [1, 2], "15m": [1, 2], "1h": [3], "1d": [3]}
    assert {interval: told(interval, counts="1") for interval in LEVELS} == expected
    # A day of another zone is made of several buckets.
    assert told("1d", counts="1", time_zone="America/Sao_Paulo") == [3]
    settle(database)
    assert {interval: told(interval, counts="1") for interval in LEVELS} == expected
