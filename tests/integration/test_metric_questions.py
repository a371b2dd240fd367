"""Every way to ask for a metric, beside plain Python over the events: half of them settled, half pending.

The days are those around both changes of clocks in Europe, so that days of 23 and 25 hours are among them.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.rollups import merge_hour
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle
from tests.integration.databases import database_copy
from tests.integration.naive_metrics import QUANTILE_ERROR, Asked, expected, namings, starts
from tests.waiting import wait_for

METRICS = "/api/v1/metrics"
SPRING, AUTUMN = datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)
"""When clocks change in Europe."""
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
SYMBOLS = ("BTCUSDT", "BTCEUR", "ETHUSDT", "SOLUSDT", "5", None)


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
def seed(request: pytest.FixtureRequest) -> int:
    chosen = request.config.getoption("--questions-seed")
    return random.SystemRandom().randrange(1_000_000) if chosen is None else int(chosen)


@pytest.fixture(scope="module")
def events(seed: int) -> list[dict[str, Any]]:
    return some_events(random.Random(seed))


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
    return abs(one - other) <= abs(other) * (QUANTILE_ERROR if is_quantile else 1e-9) + 1e-9


def place(point: dict[str, Any]) -> tuple[Any, ...]:
    return point["timestamp"], point["dimensions"], point.get("filled", False)


def wanted_by(
    asked: Asked, events: list[dict[str, Any]], found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The exact answer; where groups at the cut of `top` are a near tie, the one with the groups that were named."""
    answers = [expected(asked, events, named) for named in namings(asked, events)]
    same = (answer for answer in answers if list(map(place, answer)) == list(map(place, found)))
    return next(same, answers[0])


def check(asked: Asked, found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert list(map(place, found)) == list(map(place, wanted)), asked
    for point, right in zip(found, wanted, strict=True):
        assert close(asked, point["value"], right["value"]), (asked, point, right)
        assert point["count"] == right["count"], (asked, point, right)
        if asked.compare:
            assert close(asked, point["compared"], right["compared"]), (asked, point, right)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_answers_are_those_of_plain_python(
    api: Api, events: list[dict[str, Any]], seed: int, number: int
) -> None:
    print(f"--questions-seed={seed}")
    chance = random.Random(seed * 100 + number)
    points = 0
    for _ in range(30):
        asked = question(chance)
        result = api.get(METRICS, **asked.parameters)["result"]
        wanted = wanted_by(asked, events, result["data_points"])
        check(asked, result["data_points"], wanted)
        points += len(wanted)
        for point in result["data_points"]:
            assert point["state"] in {"open", "restated", "settling", "final", None}
            if asked.compare and None not in (point["value"], point["compared"]):
                assert point["change"] == pytest.approx(point["value"] - point["compared"])
                percent = point["change_percent"]
                if point["compared"]:
                    assert percent == pytest.approx(100 * point["change"] / abs(point["compared"]))
                else:
                    assert percent is None
    assert points > 100


@pytest.mark.slow
def test_pages_are_the_whole_in_pieces(api: Api, seed: int) -> None:
    print(f"--questions-seed={seed}")
    chance = random.Random(seed + 1)
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


@pytest.mark.slow
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "more", [{}, {"fill": "zero"}, {"aggregation": "p99"}, {"time_zone": "Asia/Kolkata"}]
)
def test_pages_skip_and_repeat_nothing_while_events_land(
    database: str, order: str, more: dict[str, str]
) -> None:
    chance = random.Random(7)
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)

    def arrive(count: int) -> None:
        found = [
            event(
                "order.filled", start + timedelta(seconds=chance.randrange(86_400)), "u",
                symbol=f"S{chance.randrange(9)}", strategy_id="s", price=1, quantity=1, latency_ms=5,
            )
            for _ in range(count)
        ]  # fmt: skip
        land(database, found)

    def places(page: dict[str, Any]) -> list[tuple[str, str]]:
        return [(point["timestamp"], point["dimensions"]["symbol"]) for point in page["data_points"]]

    asked: dict[str, Any] = {
        "metric_name": "trading.order_latency", "aggregation": "count", "interval": "1h", "group_by": "symbol",
        "start_time": iso(start), "end_time": iso(start + timedelta(days=1)), "order": order, **more,
    }  # fmt: skip
    arrive(60)
    with running(settings_for(database)) as running_api:
        there = places(running_api.get(METRICS, **asked)["result"])
        page = running_api.get(METRICS, **asked, limit=7)["result"]
        found = places(page)
        while "next_cursor" in page:
            arrive(5)
            page = running_api.get(METRICS, **asked, limit=7, cursor=page["next_cursor"])["result"]
            assert places(page)
            found += places(page)
        running_api.soon(lambda: len(places(running_api.get(METRICS, **asked)["result"])) >= len(found), True)
    assert len(found) == len(set(found)), "none is repeated"
    assert set(there) <= set(found), "none is left out"
    by_time = sorted(found, reverse=order == "desc")
    assert found == by_time


DAY = {"interval": "1d", "start_time": "2026-03-28T00:00:00+01:00", "end_time": "2026-03-31T00:00:00+02:00"}
BERLIN = DAY | {"time_zone": "Europe/Berlin"}


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
def test_days_of_23_and_25_hours_hold_all_their_events(
    api: Api, events: list[dict[str, Any]], change: datetime
) -> None:
    midnight = change.replace(hour=23 if change is SPRING else 22) - timedelta(days=1)
    end = midnight + timedelta(hours=23 if change is SPRING else 25)
    asked = {
        "interval": "1d",
        "time_zone": "Europe/Berlin",
        "start_time": iso(midnight),
        "end_time": iso(end),
    }
    own = [one for one in events if midnight <= one["timestamp"] < end]
    [point] = api.get(METRICS, metric_name="events.count", **asked)["result"]["data_points"]
    assert (point["timestamp"], point["value"]) == (iso(midnight), len(own))
    [point] = api.get(METRICS, metric_name="trading.orders_placed", aggregation="rate", **asked)["result"][
        "data_points"
    ]
    placed = sum(one["event_type"] == "order.placed" for one in own)
    assert point["value"] == pytest.approx(placed / (end - midnight).total_seconds())


def test_a_range_in_which_no_bucket_starts_says_so(api: Api) -> None:
    asked = {"metric_name": "trading.orders_placed", "interval": "1h", "end_time": "2026-01-31T12:50:00Z"}
    answer = api.get(METRICS, start_time="2026-01-31T12:01:00Z", **asked)
    assert answer["result"]["data_points"] == []
    assert answer["warnings"][0].startswith("No bucket of this interval starts in the range")
    assert "warnings" not in api.get(METRICS, start_time="2026-01-31T12:00:00Z", **asked)


def test_several_metrics_of_one_moment(api: Api) -> None:
    names = ["trading.orders_placed", "users.active", "no.such", "trading.order_latency"]
    answer = api.get(METRICS, metric_name=",".join(names), **DAY)
    assert "result" not in answer
    assert [result["metric_name"] for result in answer["results"]] == names
    assert [result["aggregation"] for result in answer["results"]] == ["count", "distinct", "count", "avg"]
    assert answer["warnings"] == ["The catalog has no metric of this name."]
    for name, result in zip(names, answer["results"], strict=True):
        assert api.get(METRICS, metric_name=name, **DAY)["result"] == result
    pages = api.get(METRICS, metric_name=names[0] + "," + names[1], limit=1, **DAY)["results"]
    assert [page["total_count"] for page in pages] == [1, 1]
    following = api.get(METRICS, **DAY | {"metric_name": names[1], "cursor": pages[1]["next_cursor"]})
    assert (
        following["result"]["data_points"]
        == api.get(METRICS, metric_name=names[1], **DAY)["result"]["data_points"][1:]
    )


def test_how_exact_an_answer_is(api: Api) -> None:
    def said(name: str, aggregation: str = "") -> tuple[str, float]:
        result = api.get(METRICS, metric_name=name, aggregation=aggregation, **BERLIN)["result"]
        return result["precision"], result["relative_error"]

    assert said("events.count") == said("users.active") == said("trading.order_latency") == ("exact", 0)
    assert (
        said("trading.order_latency", "p99.9") == said("trading.order_latency", "p50") == ("bounded", 0.005)
    )


def test_what_an_answer_was_made_of(api: Api) -> None:
    def explained(**more: str) -> dict[str, Any]:
        return api.get(METRICS, metric_name="events.count", explain="1", **more)["result"]["explain"]

    assert "explain" not in api.get(METRICS, metric_name="events.count", **DAY)["result"]
    found = explained(**DAY)
    assert (found["cache"], found["level"]) == ("miss", "1d")
    assert found["rows_read"]["settled"] <= 3
    assert found["rows_read"]["pending"] > 0
    assert {day["day"] for day in found["days"]} <= {"2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30"}
    assert all(day["revision"] > 0 and day["pending_batches"] > 0 for day in found["days"])
    wait_for(lambda: explained(**DAY)["cache"] == "hit", timeout=5, message="a hit")
    assert explained(**DAY) == found | {"cache": "hit"}
    assert explained(**BERLIN)["level"] == "1h"
    assert explained(**DAY | {"time_zone": "Asia/Kolkata"})["level"] == "15m"


def test_first_and_last_values_of_a_zones_days(api: Api, events: list[dict[str, Any]]) -> None:
    result = api.get(METRICS, metric_name="market.price", aggregation="ohlc", group_by="symbol", **BERLIN)[
        "result"
    ]
    assert result["data_points"]
    for point in result["data_points"]:
        start = datetime.fromisoformat(point["timestamp"])
        end = start + timedelta(hours=23 if start.day == 28 and start.hour == 23 else 24)
        assert start.hour in (22, 23)
        asked = Asked("market.price", "last", "1d", start, end, "Europe/Berlin", "symbol")
        values = {
            aggregation: {
                one["dimensions"]["symbol"]: one["value"]
                for one in expected(replace(asked, aggregation=aggregation), events)
            }[point["dimensions"]["symbol"]]
            for aggregation in ("first", "max", "min", "last")
        }
        found = [point[name] for name in ("open", "high", "low", "close")]
        assert found == list(values.values())


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata"])
def test_balances_are_carried_into_a_zones_days(api: Api, zone: str) -> None:
    with psycopg.connect(api.services.settings.database.conninfo()) as connection:
        [[at]] = connection.execute(
            "SELECT max(minute) FROM rollup_deltas WHERE minute < '2026-05-01'"
        ).fetchall()
    conninfo = api.services.settings.database.conninfo()
    start = SPRING - timedelta(days=3)
    assert at > start
    changes = [(0.1, "x", "BTC", 5), (20, "y", "BTC", 7), (30, "x", "BTC", 1), (47.9, "z", "USDT", 100)]
    land(
        conninfo,
        [
            event(
                "balance.updated",
                start + timedelta(hours=hour),
                account_id=account,
                asset=asset,
                balance=balance,
            )
            for hour, account, asset, balance in changes
        ],
    )
    asked = {
        "interval": "1d",
        "time_zone": zone,
        "start_time": iso(start),
        "end_time": iso(start + timedelta(days=5)),
    }

    def found() -> list[tuple[str, float]]:
        points = api.get(METRICS, metric_name="accounts.balance", **asked)["result"]["data_points"]
        return [(point["timestamp"], point["value"]) for point in points]

    buckets = starts(
        Asked("", "", "1d", start, start + timedelta(days=5), zone), start, start + timedelta(days=5)
    )
    wanted = []
    for at in buckets:
        end = next(
            iter(starts(Asked("", "", "1d", at, at, zone), at + timedelta(seconds=1), at + timedelta(days=2)))
        )
        held = {}
        for hour, account, asset, balance in changes:
            if start + timedelta(hours=hour) < end:
                held[account, asset] = balance
        wanted.append((iso(at), float(sum(held.values()))))
    api.soon(found, wanted)
    top = api.get(METRICS, metric_name="accounts.balance", group_by="asset", top=1, **asked)["result"][
        "data_points"
    ]
    assert {point["dimensions"]["asset"]: point["value"] for point in top[-2:]} == {
        "USDT": 100,
        "__other__": 8,
    }
    one = api.get(METRICS, metric_name="accounts.balance", account_id="x", **asked)["result"]["data_points"]
    assert one[-1]["value"] == 1


def land_balances(conninfo: str, start: datetime) -> dict[str, str]:
    """Six accounts, each with a value in every minute of an hour; and the question for their sum."""
    land(
        conninfo,
        [
            event(
                "balance.updated",
                start + timedelta(minutes=minute),
                account_id=f"minutes-{account}",
                asset="BTC",
                balance=minute,
            )
            for minute in range(60)
            for account in range(6)
        ],
    )
    return {
        "metric_name": "accounts.balance",
        "account_id": "prefix:minutes-",
        "interval": "1m",
        "start_time": iso(start),
        "end_time": iso(start + timedelta(hours=1)),
    }


def with_most_points(conninfo: str, most: int) -> Settings:
    return settings_for(conninfo, analytics={"query": {"max_points": most, "cache_enabled": False}})


@pytest.mark.slow
def test_balances_of_many_minutes_are_whole_or_refused(api: Api) -> None:
    conninfo = api.services.settings.database.conninfo()
    hour = SPRING + timedelta(days=3)
    asked = land_balances(conninfo, hour)
    with psycopg.connect(conninfo, autocommit=True, options="-c timezone=UTC") as connection:
        merge_hour(connection, hour, run_id="test")
    # More values than points, as those of all accounts are read to be summed.
    with running(with_most_points(conninfo, 120)) as some:
        points = some.get(METRICS, **asked)["result"]["data_points"]
        assert [point["value"] for point in points] == [6.0 * minute for minute in range(60)]
    with running(with_most_points(conninfo, 60)) as few:
        answer = few.get(METRICS, expect=400, **asked)
        assert answer["parameter"] == "interval"
        assert "analytics.query.max_points" in answer["detail"]


@pytest.mark.slow
def test_states_that_wait_for_their_merge_are_bounded_too(api: Api) -> None:
    conninfo = api.services.settings.database.conninfo()
    asked = land_balances(conninfo, SPRING + timedelta(days=3, hours=2))
    with running(with_most_points(conninfo, 120)) as some:
        points = some.get(METRICS, **asked)["result"]["data_points"]
        assert points[-1]["value"] == 6.0 * 59
    with running(with_most_points(conninfo, 60)) as few:
        answer = few.get(METRICS, expect=400, **asked)
        assert "states" in answer["detail"]


def test_too_many_points_and_states_are_refused(api: Api, events: list[dict[str, Any]]) -> None:
    few = settings_for(
        api.services.settings.database.conninfo(),
        analytics={"query": {"max_points": 8, "cache_enabled": False}},
    )
    span = {"start_time": "2026-03-22T00:00:00Z", "end_time": "2026-03-30T00:00:00Z", "interval": "1d"}
    grouped = {"metric_name": "trading.order_latency", "group_by": "symbol"}
    with running(few) as small:
        for more in (
            {},
            {"aggregation": "p99"},
            {"aggregation": "p90"},
            {"fill": "zero"},
            {"fill": "null", "limit": 5},
        ):
            answer = small.get(METRICS, expect=400, **grouped, **span, **more)
            assert "analytics.query.max_points" in answer["detail"], more
        assert small.get(METRICS, **grouped, **span, limit=5)["result"]["total_count"] == 5
        largest = small.get(METRICS, **grouped, **span, limit=8, counts=1, compare="1d")["result"]
        assert (largest["total_count"], "next_cursor" in largest) == (8, True)
        assert all(point["count"] for point in largest["data_points"])
        # All metrics of a question together.
        filled = {"fill": "zero", **span}
        assert small.get(METRICS, metric_name="trading.orders_placed", **filled)["result"]["total_count"] == 8
        both = "trading.orders_placed,trading.order_latency"
        answer = small.get(METRICS, expect=400, metric_name=both, **filled)
        assert "analytics.query.max_points" in answer["detail"]
        assert (
            small.get(METRICS, expect=400, metric_name="events.count", last="51h")["parameter"] == "interval"
        )


EXAMPLES = re.findall(
    r"curl '?http://localhost:9097(/api/v1/metrics\?[^' ]+)",
    (Path(__file__).parents[2] / "docs/metrics.md").read_text(),
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_documented_examples_are_answered(api: Api, example: str) -> None:
    answer = api.request("GET", example)
    assert answer.status_code == 200, answer.text
    assert "warnings" not in answer.json()
