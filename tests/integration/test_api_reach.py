"""A key that sees a part of the events: only those, in every answer, and a 403 where no answer can be cut down."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from tests.integration.api_process import started
from tests.integration.api_support import Api, event, iso, land, settle
from tests.integration.databases import database_copy
from tests.integration.keyed_api import Client, asking_for_keys, client_of, make_key, revoke
from tests.waiting import wait_for

EVENTS, METRICS, STATS = "/api/v1/events", "/api/v1/metrics", "/api/v1/events/stats"
NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = NOW.replace(second=0) - timedelta(hours=1)
RANGE = {"start_time": iso(MINUTE - timedelta(minutes=5)), "end_time": iso(NOW)}


def order(event_type: str, second: int, user: str, **properties: Any) -> dict[str, Any]:
    return event(event_type, MINUTE + timedelta(seconds=second), user, **properties)


FIRST = [
    order("order.placed", 1, "u1", symbol="BTC", strategy_id="a"),
    order("order.placed", 2, "u2", symbol="BTC", strategy_id="b"),
    order("order.filled", 3, "u1", symbol="BTC", strategy_id="a", price=2, quantity=3, latency_ms=4),
    order("order.filled", 4, "u2", symbol="ETH", strategy_id="b", price=10, quantity=10, latency_ms=100),
    order("user.login", 5, "u3"),
    order("order.placed", 6, "u4", symbol="BTC", strategy_id=5),
    order("orders%weird", 7, "u5", strategy_id="a"),
]
SECOND = [
    order("order.placed", 8, "u1", symbol="ETH", strategy_id="a"),
    order("order.filled", 9, "u3", symbol="ETH", strategy_id="c", price=5, quantity=1, latency_ms=7),
]


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_reach") as copied:
        land(copied, FIRST)
        settle(copied)
        land(copied, SECOND)  # pending
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    with asking_for_keys(database) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def everything(api: Api, database: str) -> Client:
    return client_of(api, database, "read", "write")


@pytest.fixture(scope="module")
def orders(api: Api, database: str) -> Client:
    return client_of(api, database, "read", "write", event_types=["order.*"])


@pytest.fixture(scope="module")
def team_a(api: Api, database: str) -> Client:
    return client_of(api, database, "read", "write", dimensions={"strategy_id": ["a"]})


@pytest.fixture(scope="module")
def teams(api: Api, database: str) -> Client:
    return client_of(
        api, database, "read", "write", event_types=["order.*"], dimensions={"strategy_id": ["a", "c"]}
    )


def listed(client: Client, **more: Any) -> list[tuple[str, str]]:
    found = client.get(EVENTS, **RANGE, **more)
    assert found["count"] == len(found["events"])
    return [(one["event_type"], one["properties"].get("strategy_id")) for one in found["events"]]


def points(client: Client, name: str, **more: Any) -> list[Any]:
    found = client.get(METRICS, metric_name=name, interval="1m", **RANGE, **more)["result"]["data_points"]
    return [(one["value"], one["dimensions"]) if one["dimensions"] else one["value"] for one in found]


def test_events(
    everything: Client, orders: Client, team_a: Client, teams: Client, api: Api, database: str
) -> None:
    assert len(listed(everything)) == 9
    assert [one for one in listed(orders) if not one[0].startswith("order.")] == []
    assert len(listed(orders)) == 7
    assert {strategy for _, strategy in listed(team_a)} == {"a"}
    assert len(listed(team_a)) == 4
    assert sorted(listed(teams)) == [
        ("order.filled", "a"), ("order.filled", "c"), ("order.placed", "a"), ("order.placed", "a"),
    ]  # fmt: skip
    assert (
        listed(client_of(api, database, "read", dimensions={"strategy_id": ["5"]})) == []
    )  # it is a number there
    assert listed(team_a, limit=1) == [("order.placed", "a")]
    assert listed(teams, event_type="order.filled") == [("order.filled", "c"), ("order.filled", "a")]
    assert orders.request("GET", EVENTS, params={"event_type": "user.login"}).status_code == 403


def test_pages_streams_and_totals_of_events(orders: Client, team_a: Client, teams: Client) -> None:
    page = team_a.get(EVENTS, **RANGE, limit=3, total="exact")
    rest = team_a.get(EVENTS, cursor=page["next_cursor"], limit=3)
    assert (page["count"], rest["count"], page["total"]["value"]) == (3, 1, 4)
    assert {one["properties"]["strategy_id"] for one in page["events"] + rest["events"]} == {"a"}
    assert team_a.get(EVENTS, **RANGE, total="estimated")["total"]["is_exact"] is False
    assert orders.get(EVENTS, **RANGE, total="estimated")["total"]["value"] == 7
    for client, count in ((orders, 7), (team_a, 4), (teams, 4)):
        lines = client.request("GET", EVENTS, params={**RANGE, "format": "ndjson"}).text.splitlines()
        assert len(lines) == count
    # A prefix may reach further than the key: what lies in both.
    assert len(listed(orders, event_type="*")) == 7
    assert {one for one, _ in listed(orders, event_type="order.p*")} == {"order.placed"}
    assert listed(orders, event_type="user.*") == []
    assert (
        orders.request("GET", EVENTS, params={"event_type": ["order.placed", "user.login"]}).status_code
        == 403
    )
    assert listed(team_a, property="strategy_id:eq:b") == []
    foreign = next(one for one in FIRST if one["event_type"] == "user.login")
    for client in (orders, team_a):
        found = client.get(EVENTS, **RANGE, id=str(UUID(bytes=foreign["id"])))
        assert found["events"] == []


def test_a_key_of_whole_types_is_led_to_them_by_an_index(api: Api, database: str) -> None:
    client = client_of(api, database, "read", event_types=["order.placed", "user.login"])
    assert {one for one, _ in listed(client)} == {"order.placed", "user.login"}
    assert len(listed(client)) == 5
    assert client.get(EVENTS, **RANGE, total="exact")["total"] == {"value": 5, "is_exact": True}


def test_one_event(everything: Client, orders: Client, team_a: Client, teams: Client) -> None:
    for row in FIRST + SECOND:
        path = f"{EVENTS}/{UUID(bytes=row['id'])}"
        is_order = row["event_type"].startswith("order.")
        strategy = json.loads(row["properties"]).get("strategy_id")
        sees = {
            everything: True,
            orders: is_order,
            team_a: strategy == "a",
            teams: is_order and strategy in ("a", "c"),
        }
        for client, is_seen in sees.items():
            answer = client.request("GET", path, params={"timestamp": iso(row["timestamp"])})
            assert answer.status_code == (200 if is_seen else 404)
            # One that is not seen looks like one that is not there.
            assert is_seen or answer.json()["detail"].startswith("There is no event")


def test_statistics(everything: Client, orders: Client, team_a: Client) -> None:
    assert everything.get(STATS, **RANGE)["total_events"] == 9
    seen = orders.get(STATS, **RANGE)
    assert seen["by_type"] == {"order.placed": 4, "order.filled": 3}
    assert seen["total_events"] == 7
    per_minute = orders.get(STATS, **RANGE, interval="1m")
    assert [one["by_type"] for one in per_minute["buckets"]] == [seen["by_type"]]
    assert {name: per_minute[name] for name in seen} == seen
    refused = team_a.request("GET", STATS, params=RANGE)
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (403, "outside-key")
    assert "strategy_id" in refused.json()["detail"]


def test_metrics_with_and_without_group_by(
    everything: Client, orders: Client, team_a: Client, teams: Client
) -> None:
    assert points(everything, "trading.total_volume") == [111]
    assert points(team_a, "trading.total_volume") == [6]
    assert points(teams, "trading.total_volume") == [11]
    by_team = points(teams, "trading.total_volume", group_by="strategy_id")
    assert by_team == [(6, {"strategy_id": "a"}), (5, {"strategy_id": "c"})]
    assert points(orders, "events.count", group_by="event_type") == [
        (3, {"event_type": "order.filled"}), (4, {"event_type": "order.placed"}),
    ]  # fmt: skip
    assert points(orders, "events.count.order.placed") == [4]
    assert points(team_a, "trading.orders_placed") == [2]
    assert points(team_a, "trading.order_fill_rate") == [50]
    assert points(team_a, "trading.order_latency", aggregation="p99") == pytest.approx([4], rel=0.01)
    assert points(teams, "trading.order_latency", aggregation="max") == [7]
    assert points(teams, "trading.order_latency", aggregation="p100") == pytest.approx([7], rel=0.01)
    assert points(everything, "trading.order_latency", aggregation="p100") == pytest.approx([100], rel=0.01)
    assert team_a.request("GET", METRICS, params={"metric_name": "users.active"}).status_code == 403


def test_nobody_gets_the_cached_answer_of_another(
    everything: Client, team_a: Client, teams: Client, api: Api, database: str
) -> None:
    twin = client_of(api, database, "read", dimensions={"strategy_id": ["a"]})
    asked = {"metric_name": "trading.total_volume", "interval": "1m", **RANGE}
    tags = {}
    for client, value in ((everything, 111), (team_a, 6), (teams, 11), (everything, 111), (team_a, 6)):
        for _ in range(2):
            answer = client.request("GET", METRICS, params=asked)
            assert [one["value"] for one in answer.json()["result"]["data_points"]] == [value]
            tags[value] = answer.headers["etag"]
    assert len(set(tags.values())) == 3
    assert (
        team_a.request("GET", METRICS, params=asked, headers={"If-None-Match": tags[111]}).status_code == 200
    )
    # Who sees the same shares the answer.
    assert twin.get(METRICS, **asked)["cached"]


@pytest.mark.parametrize(
    "path",
    ["/api/v1/dashboard/metrics", "/api/v1/internal/ingestion-metrics", "/api/v1/events/landings/10000-0-1"],
)
def test_what_is_about_all_events_is_refused_with_a_sentence(
    orders: Client, team_a: Client, path: str
) -> None:
    for client in (orders, team_a):
        for _ in range(2):
            answer = client.request("GET", path)
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "outside-key")
            assert "all events" in answer.json()["detail"]


def test_definitions(orders: Client, team_a: Client, everything: Client) -> None:
    custom = "/api/v1/custom-events"
    assert orders.request("POST", custom, json={"name": "order.custom"}).status_code == 201
    assert orders.get(f"{custom}/order.custom")["name"] == "order.custom"
    assert orders.request("POST", custom, json={"name": "user.custom"}).status_code == 403
    assert orders.request("GET", f"{custom}/user.custom").status_code == 403
    assert team_a.request("POST", custom, json={"name": "order.other"}).status_code == 403
    assert everything.request("GET", f"{custom}/order.other").status_code == 404


@pytest.mark.parametrize("as_lines", [True, False])
def test_posting_only_its_own(team_a: Client, orders: Client, database: str, as_lines: bool) -> None:
    def send(client: Client, *events: dict[str, Any], **headers: str) -> int:
        if as_lines:
            headers["Content-Type"] = "application/x-ndjson"
            content = "\n".join(map(json.dumps, events))
        else:
            content = json.dumps(events[0] if len(events) == 1 else events)
        return client.request("POST", EVENTS, content=content, headers=headers).status_code

    def waiting() -> int:
        with psycopg.connect(database) as connection:
            [(count,)] = connection.execute("SELECT coalesce(sum(events), 0) FROM http_inbox").fetchall()
        return int(count)

    before = waiting()
    own = {"event_type": "t", "properties": {"strategy_id": "a"}}
    assert send(team_a, own) == 201
    assert send(team_a, own, own) == 201
    assert waiting() == before + 3
    for other in ({"event_type": "t"}, {"event_type": "t", "properties": {"strategy_id": "b"}}):
        assert send(team_a, other) == 403
        assert send(team_a, own, other) == 403
    assert send(orders, own) == 403
    assert send(orders, {"event_type": "order.x"}) == 201
    assert waiting() == before + 4
    # An Idempotency-Key belongs to the key that sent it.
    same = {"Idempotency-Key": f"one-{as_lines}"}
    assert send(orders, {"event_type": "order.x"}, **same) == 201
    assert send(team_a, own, **same) == 201


@contextmanager
def listening(url: str, path: str, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """A stream's messages: kind and content."""
    with httpx.stream("GET", f"{url}/api/v1/stream/{path}", timeout=20, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        kinds = (line.removeprefix("event: ") for line in lines if line.startswith("event: "))
        yield ((kind, json.loads(next(lines).removeprefix("data: "))) for kind in kinds)


@pytest.mark.slow
def test_streams_tell_only_what_the_key_sees_and_end_with_it(database: str) -> None:
    part = {"dimensions": {"strategy_id": ["live"]}}
    keys = [make_key(database, "read", **part) for _ in range(2)]
    fast = {"B25_SECURITY__API_KEY_ENABLED": "true", "B25_REALTIME__UPDATE_INTERVAL": "100ms"}
    with started(database, **fast) as process:
        url = f"http://127.0.0.1:{process.ports['SERVER']}"
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        wait_for(lambda: httpx.get(f"{url}/api/v1/session", headers={"X-API-Key": keys[1].text}).is_success)
        for path in ("dashboard", "events", "metrics?metric_name=events.count"):
            assert httpx.get(f"{url}/api/v1/stream/{path}").status_code == 401
        for path in ("dashboard", "metrics?metric_name=events.count"):
            refused = httpx.get(f"{url}/api/v1/stream/{path}", headers={"X-API-Key": keys[0].text})
            assert refused.status_code == 403
        opened = httpx.post(f"{url}/api/v1/session", headers={"X-API-Key": keys[1].text})
        cookie = f"b25_session={opened.cookies['b25_session']}"
        with (
            listening(url, "events", **{"X-API-Key": keys[0].text}) as by_key,
            listening(url, "events", Cookie=cookie) as by_cookie,
            listening(url, "metrics?metric_name=trading.orders_placed", Cookie=cookie) as points,
        ):
            assert next(points)[0] == "snapshot"
            now = datetime.now(UTC)
            land(
                database,
                [event("order.placed", now, "u", strategy_id=name) for name in ("other", "live", "other")],
            )
            for told in (by_key, by_cookie):
                kind, content = next(told)
                assert kind == "events"
                assert [one["properties"] for one in content["events"]] == [{"strategy_id": "live"}]
                assert not content["has_gap"]
            kind, content = next(points)
            assert (kind, [point["value"] for point in content["data_points"]]) == ("points", [1])
            httpx.delete(
                f"{url}/api/v1/session",
                headers={"Cookie": cookie, "X-CSRF-Token": opened.json()["csrf_token"]},
            ).raise_for_status()
            assert next(by_cookie)[0] == "bye"
            assert list(by_cookie) == []
            revoke(database, keys[0])
            assert next(by_key)[0] == "bye"
            assert list(by_key) == []


def test_what_waits_to_be_merged_is_of_all_and_not_told(everything: Client, orders: Client) -> None:
    def days(client: Client) -> list[dict[str, Any]]:
        asked = {"metric_name": "trading.orders_placed", "explain": "1", **RANGE}
        found: list[dict[str, Any]] = client.get(METRICS, **asked)["result"]["explain"]["days"]
        return found

    assert any(day["pending_batches"] for day in days(everything))
    assert days(orders)
    assert all(day.keys() == {"day", "revision"} for day in days(orders))


def test_late_events_are_of_all_and_not_told(everything: Client, team_a: Client) -> None:
    def late(client: Client) -> set[int | None]:
        asked = {"metric_name": "trading.orders_placed", "interval": "1m", "counts": "1", **RANGE}
        return {point.get("late_count") for point in client.get(METRICS, **asked)["result"]["data_points"]}

    assert late(everything) == {0}
    assert late(team_a) == {None}
