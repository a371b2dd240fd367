"""Many metrics and tiles in one call: each as it would be answered alone, from one snapshot, whatever the others do."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from api import arrivals
from api.dashboard import batch
from api.errors import BadRequest, Unavailable
from api.snapshot import snapshot
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle
from tests.integration.databases import database_copy
from tests.integration.keyed_api import Client, client_of
from tests.integration.landing_rig import value
from tests.waiting import wait_for

QUERY, METRICS, DASHBOARD = "/api/v1/dashboard/query", "/api/v1/metrics", "/api/v1/dashboard/metrics"
NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = NOW.replace(second=0) - timedelta(minutes=10)
RANGE = {"start_time": iso(MINUTE), "end_time": iso(NOW + timedelta(hours=1)), "interval": "1m"}
VOLUME = {"metric_name": "trading.total_volume", **RANGE}
COUNT = {"metric_name": "events.count", **RANGE}
BETWEEN = (
    "trading.total_volume",
    "trading.order_latency",
    "trading.fill_rate",
    "users.active",
    "trading.pnl",
)
"""Metrics that are read between two others."""


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_query") as copied:
        orders = [
            event(
                "order.filled", MINUTE, "u1", symbol="BTC", strategy_id="a", price=2, quantity=3, latency_ms=4
            ),
            event(
                "order.filled", MINUTE, "u2", symbol="ETH", strategy_id="b", price=5, quantity=1, latency_ms=6
            ),
            event("order.placed", MINUTE, "u1", symbol="BTC", strategy_id="a"),
        ]
        land(copied, orders[:2])
        settle(copied)
        land(copied, orders[2:])
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    query = {"timeout": "2s"}
    security = {"api_key_enabled": True, "rate_limit": {"enabled": False}}
    with running(settings_for(database, analytics={"query": query}, security=security)) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def everything(api: Api, database: str) -> Client:
    return client_of(api, database, "read", "write")


def ask(client: Client, *queries: Any, expect: int = 200, **more: Any) -> Any:
    answer = client.request("POST", QUERY, json={"queries": list(queries), **more})
    assert answer.status_code == expect, (answer.status_code, answer.text)
    return answer.json()


def bodies(client: Client, *queries: Any, **more: Any) -> list[Any]:
    found = ask(client, *queries, **more)["results"]
    return [(one["status"], one["body"]) for one in found]


def total(body: Any) -> float:
    assert "result" in body, body
    return float(sum(point["value"] for point in body["result"]["data_points"]))


def test_each_is_answered_as_if_it_were_asked_alone(everything: Client) -> None:
    queries = [
        VOLUME,
        VOLUME | {"group_by": "symbol"},
        COUNT | {"interval": "1h"},
        {"metric_name": "events.count.order.placed", **RANGE},
        {"metric_name": "trading.order_latency", "aggregation": "p99", **RANGE},
        {"metric_name": "no.such.metric", **RANGE},
    ]
    for (status, body), parameters in zip(bodies(everything, *queries), queries, strict=True):
        alone = everything.get(METRICS, **parameters)
        assert status == 200
        assert {**body, "cached": None} == {**alone, "cached": None}
    assert total(bodies(everything, VOLUME)[0][1]) == 11


def test_tiles_are_fields_of_the_dashboard(everything: Client) -> None:
    names = sorted(batch.TILES)
    [(_, two), (_, all_of_them)] = bodies(
        everything, {"tiles": ["orders_placed", "total_volume"]}, {"tiles": names}
    )
    assert two == {"orders_placed": 1, "total_volume": 11.0}
    alone = everything.get(DASHBOARD)
    assert list(all_of_them) == names
    moving = {"last_updated", "events_per_second"}
    assert {name: all_of_them[name] for name in alone.keys() - moving} == {
        name: alone[name] for name in alone.keys() - moving
    }


def test_one_that_is_refused_does_not_fail_the_rest(everything: Client) -> None:
    wrong: list[Any] = [
        {"metric_name": "events.count", "interval": "7m"},
        {"interval": "1m"},
        {"metric_name": "events.count", "start_time": "yesterday"},
        {"metric_name": "events.count", "start_time": iso(NOW), "end_time": iso(MINUTE)},
        {"metric_name": "market.price"},
        {"metric_name": "events.count", "group_by": "colour"},
        {"metric_name": "events.count", "interval": "1m", "start_time": "1970-01-01T00:00:00Z"},
        {"metric_name": "events.count", "colour": "red"},
        {"metric_name": "events.count", "aggregation": True},
        {"metric_name": "events.count", "aggregation": 1.5},
        {"metric_name": {"a": 1}},
        {"metric_name": ["events.count", "x" * 600]},
        {"metric_name": "events.count", "interval": ["1h", "'; DROP TABLE events; --"]},
        {"metric_name": "a\0b"},
        {"metric_name": "events.count", "after": "1-0-1"},
        {"tiles": []},
        {"tiles": ["colour"]},
        {"tiles": [1]},
        {"tiles": "orders_placed"},
        {"tiles": ["orders_placed"], "metric_name": "events.count"},
        {},
        7,
        None,
        [],
    ]
    queries = [VOLUME, *wrong, {"tiles": ["orders_placed"]}, VOLUME]
    found = ask(everything, *queries)["results"]
    assert [one["status"] for one in (found[0], *found[-2:])] == [200, 200, 200]
    assert [one["id"] for one in found] == [str(place) for place in range(len(queries))]
    for one, query in zip(found[1:-2], wrong, strict=True):
        assert one["status"] == 400, query
        assert one["body"]["type"].startswith("urn:b25-analytics:problem:invalid-")
        assert one["body"]["error"] == one["body"]["title"]
        assert "DROP" not in json.dumps(one)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"7", b"{}", b'{"queries":{}}', b'{"queries":[]}', b'{"queries":[{}],"colour":1}',
        b'{"queries":[{"id":1}]}', b'{"queries":[{"id":""}]}', b'{"queries":[{"id":"<b>"}]}',
        b'{"queries":[{"id":"a"},{"id":"a"}]}', b'{"queries":[{"id":"1"},{}]}',
        b'{"queries":[{"tiles":["orders_placed"]}],"after":1}',
        b'{"queries":[{"tiles":["orders_placed"]}],"after":"x"}', b"[" * 100_000, b'{"queries":' + b"[" * 2_000,
        json.dumps({"queries": [{}] * (batch.MOST_QUERIES + 1)}).encode(), b'{"queries":[NaN]}', b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_call_at_all_is_a_400(everything: Client, body: bytes) -> None:
    answer = everything.request("POST", QUERY, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "<b>" not in answer.text


def test_ids_come_back_in_the_order_of_the_queries(everything: Client) -> None:
    found = ask(everything, {"id": "b", **VOLUME}, {"id": "a.1:x", "tiles": ["orders_filled"]}, COUNT)
    assert [one["id"] for one in found["results"]] == ["b", "a.1:x", "2"]


def test_the_documented_calls_are_answered(everything: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_SECONDS", 0.1)
    page = (Path(__file__).parents[2] / "docs/querying.md").read_text()
    [body] = re.findall(r"dashboard/query -H '[^']*' -d '(.*?)'\n", page, re.DOTALL)
    assert [one["status"] for one in ask(everything, *json.loads(body)["queries"])["results"]] == [200, 200]
    addresses = re.findall(r"^curl '?http://localhost:9097(/[^\s']+)'?$", page, re.MULTILINE)
    assert len(addresses) > 4
    for address in addresses:
        answer = everything.request("GET", address)
        # That token was given to nobody, and that message was never sent.
        assert answer.status_code in ({400, 503} if "after=" in address else {200}), answer.text


def test_a_key_gets_what_it_may_see_and_refusals_for_the_rest(api: Api, database: str) -> None:
    team = client_of(api, database, "read", dimensions={"strategy_id": ["a"]})
    (_, volume), (refused, why), (tiles, sentence) = bodies(team, VOLUME, COUNT, {"tiles": ["orders_placed"]})
    assert total(volume) == 6
    assert (refused, tiles) == (403, 403)
    assert why["type"] == sentence["type"] == "urn:b25-analytics:problem:outside-key"
    assert client_of(api, database, "write").request("POST", QUERY, json={}).status_code == 403


@contextmanager
def landing_on(database: str) -> Iterator[None]:
    """Orders are placed all the time."""
    stopped = threading.Event()

    def land_on() -> None:
        while not stopped.is_set():
            land(database, [event("order.placed", MINUTE)])

    thread = threading.Thread(target=land_on)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_all_of_it_is_one_snapshot(everything: Client, database: str) -> None:
    seen = set[float]()

    def ask_once() -> bool:
        found = bodies(everything, *[COUNT] * 20, {"metric_name": "events.count.order.placed", **RANGE})
        totals = {total(body) for _, body in found[:-1]}
        assert len(totals) == 1
        assert totals == {total(found[-1][1]) + 2}
        seen.update(totals)
        return len(seen) > 8

    with landing_on(database):
        wait_for(ask_once, timeout=30, message="answers of several moments")


def test_metrics_of_one_call_are_one_snapshot(everything: Client, database: str) -> None:
    names = ",".join(("events.count", *BETWEEN, "events.count.order.placed"))
    seen = set[float]()

    def ask_once() -> bool:
        found = everything.get(METRICS, metric_name=names, **RANGE)["results"]
        first, last = (sum(point["value"] for point in found[at]["data_points"]) for at in (0, -1))
        assert first == last + 2
        seen.add(first)
        return len(seen) > 8

    with landing_on(database):
        wait_for(ask_once, timeout=30, message="answers of several moments")


def test_the_same_call_is_a_hit_of_the_cache_and_a_landing_makes_it_another(
    everything: Client, database: str
) -> None:
    def asked() -> Any:
        return everything.request("POST", QUERY, json={"queries": [COUNT, {"interval": "7m"}]})

    answers = [asked() for _ in range(8)]
    assert "hit" in {answer.headers["x-cache"] for answer in answers[1:]}
    hit = next(answer for answer in answers if answer.headers["x-cache"] == "hit")
    assert (hit.json()["cached"], hit.json()["results"][0]["body"]["cached"]) == (True, True)
    before = total(hit.json()["results"][0]["body"])
    land(database, [event("order.placed", MINUTE)])
    wait_for(
        lambda: total(asked().json()["results"][0]["body"]) == before + 1, timeout=3, message="the landing"
    )


@pytest.mark.slow
def test_reads_that_take_too_long_are_refused_and_not_kept(everything: Client, database: str) -> None:
    queries = [
        VOLUME | {"group_by": "strategy_id"},
        COUNT,
    ]  # of a range that stays, so the next call is the same
    with psycopg.connect(database) as connection:
        connection.execute("LOCK TABLE metric_gaps IN ACCESS EXCLUSIVE MODE")
        found = ask(everything, *queries)["results"]
    assert [one["status"] for one in found] == [503, 503]
    assert {one["body"]["type"] for one in found} == {"urn:b25-analytics:problem:query-timeout"}
    assert [one["status"] for one in ask(everything, *queries)["results"]] == [200, 200]


def test_answers_that_are_too_long_together_are_refused(
    everything: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_BYTES", 200)
    found = ask(everything, VOLUME | {"group_by": "symbol"}, VOLUME)["results"]
    assert [one["status"] for one in found] == [200, 400]
    assert found[1]["body"]["type"] == "urn:b25-analytics:problem:too-much-at-once"


def test_it_is_no_write(everything: Client, api: Api, database: str) -> None:
    ask(everything, VOLUME)
    ask(everything, {}, expect=200)
    api.request("POST", QUERY, json={})  # no key
    api.run(api.services.audit.flush())
    assert value(database, "SELECT count(*) FROM audit_log WHERE route = %s", QUERY) == 0


def test_what_fails_in_a_snapshot_leaves_it_as_it_was(api: Api, database: str) -> None:
    count = "SELECT count(*) FROM events"

    async def work() -> list[int]:
        found = []
        async with snapshot(api.services.database, "test", seconds=5) as reader:
            for _ in range(2):
                async with reader.read("test") as connection:
                    [[number]] = await (await connection.execute(count)).fetchall()
                    found.append(number)
                with pytest.raises(BadRequest):
                    async with reader.read("test") as connection:
                        await connection.execute("SELECT 1 / 0")
                await asyncio.to_thread(land, database, [event("order.placed", MINUTE)])
            assert not reader.is_lost
        async with snapshot(api.services.database, "test", seconds=0) as reader:
            with pytest.raises(Unavailable):
                async with reader.read("test"):
                    pass
        return found

    first, second = api.run(work())
    assert first == second
    assert value(database, count) == first + 2
