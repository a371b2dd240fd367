"""`after`: an answer that waits for what was just sent and holds it, on a real Kafka, a real landing and the cache."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import REGISTRY

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage import inbox
from analytics_pipeline.storage.landing import Lander
from api import arrivals
from api.versions import Watcher
from b25_client.events import uuid7
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.ingest_process import ingest, write_config
from tests.integration.keyed_api import client_of
from tests.integration.landing_rig import SOURCE, claim, decode_inbox, event, execute, land, message, value
from tests.waiting import wait_for

EVENTS, STATS, METRICS = "/api/v1/events", "/api/v1/events/stats", "/api/v1/metrics"
DASHBOARD = "/api/v1/dashboard/metrics"
NOW = datetime.now(UTC).replace(microsecond=0)
FIXED = {"start_time": iso(NOW - timedelta(hours=1)), "end_time": iso(NOW + timedelta(hours=2))}
TOPIC = "test.after"

READS: dict[str, tuple[str, dict[str, str]]] = {
    "metrics": (METRICS, {"metric_name": "events.count.order.placed", "interval": "1m", **FIXED}),
    "metrics until now": (METRICS, {"metric_name": "events.count.order.placed", "interval": "1m"}),
    "statistics": (STATS, FIXED),
    "statistics until now": (STATS, {}),
    "events": (EVENTS, {"event_type": "order.placed", "limit": "1000"}),
    "dashboard": (DASHBOARD, {}),
}
WAITING = [*READS.values(), (f"{EVENTS}/{uuid7(NOW)}", {})]
"""What else takes `after`, too."""


def placed(path: str, content: Any) -> int:
    """How many orders an answer tells of."""
    match path:
        case "/api/v1/metrics":
            return int(sum(point["value"] for point in content["result"]["data_points"]))
        case "/api/v1/events/stats":
            return int(content["by_type"].get("order.placed", 0))
        case "/api/v1/events":
            return int(content["count"])
        case _:
            return int(content["orders_placed"])


@dataclass
class World:
    """An application, and landing that runs beside it."""

    api: Api
    kafka: str

    def post(self) -> str:
        answer = self.api.request("POST", EVENTS, json={"event_type": "order.placed"})
        assert answer.status_code == 201
        return str(answer.headers["x-landing-token"])

    def produce(self, value: bytes) -> str:
        """Where it is, as `after` takes it."""
        producer, found = Producer({"bootstrap.servers": self.kafka}), []
        producer.produce(TOPIC, value, on_delivery=lambda _error, sent: found.append(sent))
        assert producer.flush(20) == 0
        return f"{found[0].topic()}:{found[0].partition()}:{found[0].offset()}"

    def placed(self, read: str, **more: str) -> int:
        path, parameters = READS[read]
        return placed(path, self.api.get(path, **parameters, **more))


@pytest.fixture(scope="module")
def world(
    postgres: Postgres, template_database: str, kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    admin = AdminClient({"bootstrap.servers": kafka})
    [made] = admin.create_topics([NewTopic(TOPIC, 1, 1)]).values()
    made.result(20)
    folder: Path = tmp_path_factory.mktemp("after")
    with database_copy(postgres, template_database, "api_after") as copied:
        settings = settings_for(copied, kafka={"topics": [TOPIC, "not.read.yet"]})
        with ingest(write_config(folder, copied, kafka, [TOPIC])) as process, running(settings) as api:
            wait_for(lambda: "partitions assigned" in process.log, 30, "landing runs")
            found = World(api, kafka)
            api.get(METRICS, metric_name="events.count", after=found.post())
            yield found


@pytest.fixture(scope="module")
def idle(postgres: Postgres, template_database: str) -> Iterator[tuple[Api, str]]:
    """Nothing lands here, unless a test does it."""
    compute_deltas(decode_inbox([message(1, event())]).events, BUILT_IN)
    with (
        database_copy(postgres, template_database, "api_after_idle") as copied,
        running(settings_for(copied, kafka={"topics": ["not.read.yet"]})) as api,
    ):
        yield api, copied


def posted(api: Api, *events: Any) -> str:
    """A landing token."""
    answer = api.request("POST", EVENTS, json=list(events) or {"event_type": "order.placed"})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["x-landing-token"])


def land_inbox(database: str) -> None:
    lander = Lander(database, name="landing-after")
    try:
        while lander.land_inbox(10_000, decode_inbox):
            pass
    finally:
        lander.close()


@pytest.mark.slow
@pytest.mark.parametrize("read", READS)
def test_an_answer_after_a_post_holds_it_whatever_is_cached(world: World, read: str) -> None:
    before = world.placed(read, after=world.post())
    for number in range(1, 6):
        world.placed(read)
        world.placed(read)  # cached
        assert world.placed(read, after=world.post()) == before + number


@pytest.mark.parametrize("read", ["metrics", "events", "dashboard"])
def test_an_answer_after_a_message_in_kafka_holds_it(world: World, read: str) -> None:
    before = world.placed(read, after=world.post())
    where = world.produce(json.dumps({"event_type": "order.placed"}).encode())
    assert world.placed(read, after=where) == before + 1
    assert world.placed(read, after=where) == before + 1  # it has landed already


def test_a_call_of_many_after_a_post_holds_it(world: World) -> None:
    def asked(**more: Any) -> tuple[int, int]:
        queries = [READS["metrics"][1], {"tiles": ["orders_placed"]}]
        answer = world.api.request("POST", "/api/v1/dashboard/query", json={"queries": queries, **more})
        assert answer.status_code == 200
        metric, tile = (one["body"] for one in answer.json()["results"])
        return placed(METRICS, metric), tile["orders_placed"]

    first, second = asked(after=world.post())
    for number in range(1, 4):
        asked()
        assert asked(after=world.post()) == (first + number, second + number)


def test_an_event_is_there_after_its_post(world: World) -> None:
    for number in range(5):
        answer = world.api.request(
            "POST", EVENTS, json={"event_type": "order.placed", "properties": {"n": number}}
        )
        path = f"{EVENTS}/{answer.json()['event_id']}"
        found = world.api.get(path, after=answer.headers["x-landing-token"])
        assert (found["id"], found["properties"]) == (answer.json()["event_id"], {"n": number})


def test_a_stream_after_a_post_holds_it(world: World) -> None:
    answer = world.api.request(
        "GET", EVENTS, params={"format": "ndjson", "after": world.post(), "limit": "1"}
    )
    before = len(answer.text.splitlines())
    again = world.api.request("GET", EVENTS, params={"format": "ndjson", "after": world.post()})
    assert len(again.text.splitlines()) == before + 1


def test_what_became_a_dead_letter_is_told_with_its_reason(world: World) -> None:
    where = world.produce(b"no event")
    for path, parameters in WAITING:
        answer = world.api.request("GET", path, params={**parameters, "after": where})
        assert answer.status_code == 409, answer.text
        problem = answer.json()
        assert (problem["type"], problem["reasons"]) == (
            "urn:b25-analytics:problem:dead-letter",
            ["not_json"],
        )
        assert problem["error"] == "Became a dead letter"


def test_what_was_waited_for_is_no_hit_of_the_cache_but_makes_one(world: World) -> None:
    token = world.post()
    path, parameters = READS["metrics"]
    first = world.api.request("GET", path, params={**parameters, "after": token})
    again = world.api.request("GET", path, params={**parameters, "after": token})
    assert first.headers["server-timing"].split(", ")[-2].startswith("wait;dur=")
    assert first.headers["etag"] == again.headers["etag"]
    assert (
        world.api.request(
            "GET",
            path,
            params={**parameters, "after": token},
            headers={"If-None-Match": first.headers["etag"]},
        ).status_code
        == 304
    )


def test_however_the_name_is_written_it_waits(world: World) -> None:
    before = world.placed("metrics", after=world.post())
    path, parameters = READS["metrics"]
    query = httpx.QueryParams(parameters)
    for name in ("%61fter", "af%74er", "%61%66%74%65%72"):
        before += 1
        answer = world.api.request("GET", f"{path}?{query}&{name}={world.post()}")
        assert placed(path, answer.json()) == before


@pytest.mark.slow
@pytest.mark.parametrize("read", READS)
def test_what_does_not_land_in_time_is_a_503_that_says_when_to_ask_again(
    idle: tuple[Api, str], monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    monkeypatch.setattr(arrivals, "MOST_SECONDS", 0.2)
    api, _ = idle
    path, parameters = READS[read]
    for after in (posted(api), "not.read.yet:0:5"):
        answer = api.request("GET", path, params={**parameters, "after": after})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["type"] == "urn:b25-analytics:problem:not-landed-yet"
        assert "wait;dur=" in answer.headers["server-timing"]


@pytest.mark.parametrize(
    "after",
    [
        "x", "10000", "10000-0-1-0", "10000-0-0", "-1-0-1", "10000-0-ffffff", "7fffffff00000000-0-1",  # no tokens
        "5000000000000000-0-1", "ffff0000-0-1",  # never given
        "nobody:0:1", "http:0:65536", ":0:1", "not.read.yet:-1:1", "not.read.yet:0:-1", "not.read.yet:0:x",
        "not.read.yet:0:9999999999999999999", "not.read.yet:٣:1", "a b:0:1", "not.read.yet:0", "'; DROP TABLE events",
        "\0", "x" * 600,
    ],
)  # fmt: skip
def test_what_cannot_be_waited_for_is_a_400(idle: tuple[Api, str], after: str) -> None:
    for path, parameters in WAITING:
        answer = idle[0].request("GET", path, params={**parameters, "after": after})
        assert (answer.status_code, answer.json()["parameter"]) == (400, "after"), answer.text
        assert "DROP" not in answer.text


def test_what_was_never_given_is_refused_without_waiting_for_the_versions(
    idle: tuple[Api, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_self: object, _moment: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Watcher, "since", hang)
    monkeypatch.setattr(arrivals, "MOST_SECONDS", 1)
    for path, parameters in WAITING:
        answer = idle[0].request("GET", path, params={**parameters, "after": "ffff0000-0-1"})
        assert (answer.status_code, answer.json()["parameter"]) == (400, "after"), answer.text


def test_a_wrong_question_does_not_wait(idle: tuple[Api, str]) -> None:
    token = posted(idle[0])
    for path, parameters in (
        (METRICS, {"interval": "7m", "metric_name": "a"}),
        (EVENTS, {"limit": "0"}),
        (STATS, {"start_time": "x"}),
    ):
        answer = idle[0].request("GET", path, params={**parameters, "after": token})
        assert answer.status_code == 400
        assert answer.json()["parameter"] != "after"


def queries(name: str) -> float:
    return REGISTRY.get_sample_value("analytics_query_duration_seconds_count", {"query": name}) or 0.0


def test_a_hundred_wait_with_a_query_for_all_of_them(idle: tuple[Api, str]) -> None:
    api, database = idle
    tokens = [posted(api) for _ in range(100)]
    path, parameters = READS["metrics"]
    looks, reads = queries("after"), queries("metrics")

    async def ask(token: str) -> httpx.Response:
        return await api.client.get(path, params={**parameters, "after": token})

    async def ask_all() -> list[httpx.Response]:
        answers = asyncio.gather(*map(ask, tokens))
        while api.services.arrivals.waiting < len(tokens):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.to_thread(land_inbox, database)
        return await answers

    started = datetime.now(UTC)
    answers = api.run(ask_all())
    elapsed = (datetime.now(UTC) - started).total_seconds()
    assert {answer.status_code for answer in answers} == {200}
    assert {placed(path, answer.json()) >= len(tokens) for answer in answers} == {True}
    assert queries("after") - looks <= elapsed / arrivals.LOOK + 2
    assert queries("metrics") - reads <= 10
    assert api.services.arrivals.waiting == 0


def test_who_asks_the_same_while_another_waits_waits_too(idle: tuple[Api, str]) -> None:
    """Both in one second, while the answer from before is in the cache."""
    api, database = idle
    path, parameters = READS["metrics"]
    token = posted(api)
    land_inbox(database)
    before = placed(path, api.get(path, **parameters, after=token))
    asked = {**parameters, "after": posted(api)}

    async def ask_twice() -> list[httpx.Response]:
        first = asyncio.create_task(api.client.get(path, params=asked))
        while api.services.arrivals.waiting < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        second = asyncio.create_task(api.client.get(path, params=asked))
        while api.services.arrivals.waiting < 2 and not second.done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.to_thread(land_inbox, database)
        return [await first, await second]

    assert [placed(path, answer.json()) for answer in api.run(ask_twice())] == [before + 1] * 2


def test_too_many_that_wait_are_turned_away(idle: tuple[Api, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_WAITING", 0)
    answer = idle[0].request("GET", STATS, params={"after": posted(idle[0])})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:b25-analytics:problem:overloaded")


def test_a_batch_of_which_some_died_is_answered(
    idle: tuple[Api, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two events one is refused by landing: its rules are stricter than those of POST were."""
    api, database = idle
    whole = posted(api, *({"event_type": "order.placed", "properties": {"n": n}} for n in range(2)))
    row = inbox.Landing.parse(whole)
    assert row is not None
    other = posted(api, {"event_type": "dead.after.all"})
    execute(
        database,
        "UPDATE http_inbox SET payload = convert_to(replace(convert_from(payload, 'UTF8'), '\"n\":1', '\"n\":1e999'),"
        " 'UTF8') WHERE id = %s",
        row.row,
    )
    execute(
        database,
        "UPDATE http_inbox SET payload = convert_to('no event', 'UTF8')"
        " WHERE position('dead.after.all' IN convert_from(payload, 'UTF8')) > 0",
    )
    land_inbox(database)
    path, parameters = READS["statistics"]
    assert api.request("GET", path, params={**parameters, "after": whole}).status_code == 200
    refused = api.request("GET", path, params={**parameters, "after": other})
    assert (refused.status_code, refused.json()["reasons"]) == (409, ["not_json"])


def test_without_the_cache_it_is_read_anew_even_while_another_reads_the_same(
    postgres: Postgres, template_database: str
) -> None:
    """A read that began before the landing is held up after it has read its points: nobody may share it."""
    path, parameters = READS["metrics"]
    with (
        database_copy(postgres, template_database, "api_after_uncached") as copied,
        running(settings_for(copied, analytics={"query": {"cache_enabled": False}})) as api,
        psycopg.connect(copied) as holding,
    ):

        def held_up() -> int:
            waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'metric_gaps'::regclass AND NOT granted"
            return int(value(copied, waiting))

        async def ask(**more: str) -> httpx.Response:
            return await api.client.get(path, params={**parameters, **more})

        async def ask_both() -> list[httpx.Response]:
            before = asyncio.create_task(ask())
            await asyncio.to_thread(wait_for, lambda: held_up() == 1)
            token = (await api.client.post(EVENTS, json={"event_type": "order.placed"})).headers[
                "x-landing-token"
            ]
            await asyncio.to_thread(land_inbox, copied)
            after = asyncio.create_task(ask(after=token))
            await asyncio.to_thread(wait_for, lambda: held_up() == 2 or after.done())
            holding.rollback()
            return [await before, await after]

        holding.execute("LOCK TABLE metric_gaps IN ACCESS EXCLUSIVE MODE")
        before, after = api.run(ask_both())
        assert (placed(path, before.json()), placed(path, after.json())) == (0, 1)


def test_a_key_that_sees_a_part_waits_too_and_is_told_no_reasons(
    postgres: Postgres, template_database: str
) -> None:
    with (
        database_copy(postgres, template_database, "api_after_keys") as copied,
        running(settings_for(copied, security={"api_key_enabled": True})) as api,
    ):
        orders = client_of(api, copied, "read", "write", event_types=["order.*"])
        answer = orders.request("POST", EVENTS, json={"event_type": "order.placed"})
        owner = claim(copied)
        lander = Lander(copied, name="landing-after")
        land(lander, owner, [message(0, b"no event"), message(1, event())])
        lander.close()
        land_inbox(copied)
        path, parameters = READS["metrics"]
        parameters = {**parameters, "after": answer.headers["x-landing-token"]}
        assert placed(path, orders.get(path, **parameters)) == 2
        # Whose message it was cannot be told.
        for offset in (0, 1):
            answer = orders.request("GET", path, params={**parameters, "after": f"{SOURCE}:0:{offset}"})
            assert answer.status_code == 200, answer.text
        posted_by_key = orders.request("POST", EVENTS, json={"event_type": "order.placed"})
        execute(copied, "UPDATE http_inbox SET payload = convert_to('no event', 'UTF8')")
        land_inbox(copied)
        parameters["after"] = posted_by_key.headers["x-landing-token"]
        refused = orders.request("GET", path, params=parameters)
        assert refused.status_code == 409
        assert "reasons" not in refused.json()
