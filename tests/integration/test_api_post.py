"""Posting events: arrays, NDJSON, gzip, verdicts per item, keys, and what becomes of what was posted."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from analytics_pipeline.events.limits import MAX_DEPTH
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.storage.landing import Lander
from tests.integration.api_support import Api, iso, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.landing_rig import check_books, decode_inbox, execute, message, rows, value
from tests.waiting import wait_for

EVENTS = "/api/v1/events"
NDJSON = {"Content-Type": "application/x-ndjson"}
MOST = 50


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with running(settings_for(database, server={"max_batch_events": MOST})) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def shared_api(postgres: Postgres, template_database: str) -> Iterator[Api]:
    """For tests that leave nothing behind that another would notice."""
    with database_copy(postgres, template_database, "api_post") as copied:
        limits = {"max_batch_events": MOST, "max_body_size": 20_000}
        with running(settings_for(copied, server=limits)) as running_api:
            yield running_api


@pytest.fixture
def lander(database: str) -> Iterator[Lander]:
    # The first deltas of a process take long, and this would be inside the transaction.
    compute_deltas(decode_inbox([message(1, event())]).events, BUILT_IN)
    made = Lander(database, name="landing-test")
    yield made
    made.close()


def event(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {"event_type": "a", "id": str(UUID(int=number + (1 << 64))), "properties": {"n": number}, **fields}


def lines(*events: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in events)


def waiting(database: str) -> list[dict[str, Any]]:
    found = rows(database, "SELECT payload FROM http_inbox ORDER BY id")
    return [json.loads(line) for (payload,) in found for line in bytes(payload).split(b"\n")]


def post(api: Api, content: bytes, expect: int, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    answer = api.request("POST", EVENTS, content=content, headers=named)
    assert answer.status_code == expect, (answer.status_code, answer.text)
    return answer


@pytest.mark.parametrize("kind", ["array", "ndjson"])
def test_a_batch_is_stored_in_one_row_and_answered_item_by_item(api: Api, database: str, kind: str) -> None:
    events = [event(1), {"event_type": "b"}, event(2, timestamp=iso(datetime.now(UTC)))]
    content = json.dumps(events).encode() if kind == "array" else lines(*events) + b"\n"
    answer = api.request("POST", EVENTS, content=content, headers=NDJSON if kind == "ndjson" else {})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["success"], body["accepted"], body["rejected"]) == (True, 3, 0)
    assert [one["status"] for one in body["results"]] == [201] * 3
    stored = waiting(database)
    assert [one["event_id"] for one in body["results"]] == [one["id"] for one in stored]
    assert [one["event_type"] for one in stored] == ["a", "b", "a"]
    assert all("timestamp" in one for one in stored)
    assert answer.headers["x-landing-token"] == body["landing"]
    assert value(database, "SELECT count(*) FROM http_inbox") == 1
    assert value(database, "SELECT sum(accepted) FROM http_accepted") == 3


def test_a_mixed_batch_is_207_and_says_which_and_why(api: Api, database: str) -> None:
    old = iso(datetime.now(UTC) - timedelta(days=1000))
    items: list[Any] = [
        event(1), b'{"event_type":', event(2, id="7"), b"[]", event(3, timestamp=old), {"properties": {}}, event(4),
        event(5, properties=[1]), b'{"event_type":"a","properties":{"x":1e999}}', b'{"event_type":"\xff"}',
    ]  # fmt: skip
    body = post(api, lines(*items), 207, content_type=NDJSON["Content-Type"]).json()
    assert (body["success"], body["accepted"], body["rejected"]) == (False, 2, 8)
    refused = {one["index"]: (one["reason"], one["path"]) for one in body["results"] if one["status"] == 400}
    assert refused == {
        1: ("not_json", "$"), 2: ("bad_id", "$.id"), 3: ("not_an_object", "$"), 4: ("too_old", "$.timestamp"),
        5: ("missing_event_type", "$.event_type"), 7: ("bad_properties", "$.properties"),
        8: ("number_out_of_range", "$"), 9: ("bad_encoding", "$"),
    }  # fmt: skip
    assert [one["index"] for one in body["results"] if one["status"] == 201] == [0, 6]
    assert [one["properties"]["n"] for one in waiting(database)] == [1, 4]
    brief = post(api, lines(*items), 207, content_type=NDJSON["Content-Type"], prefer="return=minimal").json()
    assert [one["index"] for one in brief["results"]] == sorted(refused)


def test_a_batch_without_an_event_is_400(api: Api, database: str) -> None:
    body = post(api, b'[1,{"event_type":7}]', 400).json()
    assert (body["accepted"], body["rejected"]) == (0, 2)
    assert [one["reason"] for one in body["results"]] == ["not_an_object", "bad_event_type"]
    for content in (b"[]", b" [ ] "):
        assert post(api, content, 400).json()["reason"] == "empty_message"
    for content in (b"", b"\n\n  \r\n"):
        assert (
            post(api, content, 400, **{"content-type": NDJSON["Content-Type"]}).json()["reason"]
            == "empty_message"
        )
    assert waiting(database) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[{"event_type":"a"}', "not_json"),
        (b'[{"event_type":"a"},]', "not_json"),
        (b'[{"event_type":"a"}]]', "not_json"),
        (b"[" * 50_00 + b"]" * 50_00, "too_deep"),
        (b'[{"event_type":"\xff"}', "bad_encoding"),
        (b'\xef\xbb\xbf[{"event_type":"a"}]', "bad_encoding"),
    ],
    ids=["cut off", "trailing comma", "one too many", "deep", "not UTF-8", "byte order mark"],
)
def test_what_is_no_array_after_all(shared_api: Api, content: bytes, reason: str) -> None:
    assert post(shared_api, content, 400).json()["reason"] == reason
    post(shared_api, lines(event()), 201)


_ONE, _OTHER = b'{"event_type":"a"}', b'{"event_type":"b"}'
_AS_NDJSON = "; send several documents as application/x-ndjson, one a line"
_KEEPING_BREAKS = _AS_NDJSON + ": curl keeps line breaks with --data-binary, not with -d"
_AS_GZIP = "the value looks like gzip; send Content-Encoding: gzip"


@pytest.mark.parametrize(
    ("content", "content_type", "hint"),
    [
        (lines(_ONE, _OTHER), "application/json", _AS_NDJSON),
        (lines(_ONE, b"", _OTHER, b""), "application/x-www-form-urlencoded", _AS_NDJSON),
        (b"[" + _ONE + b"]\r\n[" + _OTHER + b"]", "application/json", _AS_NDJSON),
        (_ONE + _OTHER, "application/x-www-form-urlencoded", _KEEPING_BREAKS),
        (_ONE + b" " + _OTHER + b"\n", "application/x-ndjson", _KEEPING_BREAKS),
        (gzip.compress(_ONE, mtime=0), "application/json", _AS_GZIP),
        (gzip.compress(lines(_ONE, _OTHER), mtime=0), "application/x-ndjson", _AS_GZIP),
    ],
)
def test_the_usual_mistakes_of_sending_are_told(
    shared_api: Api, content: bytes, content_type: str, hint: str
) -> None:
    problem = post(shared_api, content, 400, content_type=content_type).json()
    assert problem["reason"] == "not_json"
    assert problem["detail"].endswith(hint)


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (_ONE + b" x", {}),
        (_ONE + b"]", {}),
        (b'{\n"event_type":"a",\n}', {}),
        (b"'a'", {}),
        (lines(_ONE[:-1], _OTHER[:-1]), NDJSON),
        (gzip.compress(gzip.compress(_ONE, mtime=0), mtime=0), {"Content-Encoding": "gzip"}),
    ],
)
def test_other_mistakes_are_not_taken_for_those(
    shared_api: Api, content: bytes, headers: dict[str, str]
) -> None:
    answer = shared_api.request("POST", EVENTS, content=content, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (400, "not_json")
    assert "send " not in answer.json()["detail"]


def test_nesting_counts_from_the_event(shared_api: Api) -> None:
    inside = b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2)
    one = b'{"event_type":"a","properties":{"x":%b}}'
    assert post(shared_api, b"[" + one % inside + b"]", 201).json()["accepted"] == 1
    answer = post(shared_api, b"[" + one % (b"[" + inside + b"]") + b"]", 400)
    assert answer.json()["reason"] == "too_deep"


def test_line_breaks_inside_events_do_not_tear_them(api: Api, database: str, lander: Lander) -> None:
    """Pretty-printed events share a row, whose events stand one a line."""
    pretty = json.dumps([event(n, properties={"n": n, "text": "a\nb"}) for n in range(5)], indent=2).encode()
    post(api, pretty.replace(b"\n", b"\r\n"), 201)
    post(api, json.dumps(event(5), indent=1).encode(), 201)
    while lander.land_inbox(100, decode_inbox) is not None:
        pass
    stored = rows(database, "SELECT properties ->> 'n', properties ->> 'text' FROM events ORDER BY 1")
    assert stored == [*((str(n), "a\nb") for n in range(5)), ("5", None)]


def test_blank_lines_are_no_items(api: Api, database: str) -> None:
    body = post(
        api, b"\r\n" + lines(event(1), b"  ", event(2)) + b"\r\n\r\n", 201, content_type="application/jsonl"
    ).json()
    assert [one["index"] for one in body["results"]] == [0, 1]


def test_a_null_id_or_timestamp_is_filled_in(api: Api, database: str, lander: Lander) -> None:
    content = b'{"id":null,"event_type":"a","timestamp":null,"properties":{}}  \n'
    answer = post(api, content, 201).json()
    lander.land_inbox(10, decode_inbox)
    assert [str(found) for (found,) in rows(database, "SELECT id FROM events")] == [answer["event_id"]]


def test_too_many_events_are_413_before_anything_is_made_of_them(api: Api, database: str) -> None:
    for content, kind in (
        (lines(*(event(n) for n in range(MOST + 1))), "application/x-ndjson"),
        (json.dumps([event(n) for n in range(MOST + 1)]).encode(), "application/json"),
        (b"[" + b"1," * 100_000 + b"1]", "application/json"),
    ):
        answer = post(api, content, 413, content_type=kind)
        assert "server.max_batch_events" in answer.json()["detail"]
    assert waiting(database) == []
    post(api, lines(*(event(n) for n in range(MOST))) + b"\n", 201, content_type="application/x-ndjson")


def test_gzip(api: Api, database: str) -> None:
    post(api, gzip.compress(lines(event(1))), 201, content_encoding="gzip")
    members = gzip.compress(lines(event(2)) + b"\n") + gzip.compress(lines(event(3)))
    post(api, members, 201, content_encoding="x-gzip", content_type="application/x-ndjson")
    assert [one["properties"]["n"] for one in waiting(database)] == [1, 2, 3]


def test_a_gzip_bomb_is_413_and_costs_nothing(shared_api: Api) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 20_000
    answer = post(shared_api, bomb, 413, content_encoding="gzip")
    assert answer.json()["detail"].endswith("(server.max_body_size).")
    assert shared_api.services.poster._memory._held == 0

    async def chunks() -> Any:
        for start in range(0, len(bomb), 500):
            yield bomb[start : start + 500]

    answer = shared_api.request("POST", EVENTS, content=chunks(), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        gzip.compress(lines(event()))[:-3],
        gzip.compress(lines(event()))[:-8] + b"\0" * 8,
        zlib.compress(lines(event())),
        gzip.compress(lines(event())) + b"trash",
    ],
    ids=["empty", "plain", "cut off", "wrong checksum", "zlib", "trash after it"],
)
def test_bad_gzip_is_400(shared_api: Api, content: bytes) -> None:
    assert post(shared_api, content, 400, content_encoding="gzip").json()["type"].endswith("bad-gzip")
    assert shared_api.services.poster._memory._held == 0


def test_bodies_held_at_once_are_bounded(database: str) -> None:
    with running(settings_for(database, server={"post_memory": 100_000})) as api:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            yield b"x" * 90_000
            begun.set()
            await gate.wait()
            yield b"x"

        async def post_both() -> list[int]:
            first = asyncio.ensure_future(api.client.post(EVENTS, content=slow()))
            await begun.wait()
            second = await api.client.post(EVENTS, content=b"x" * 20_000)
            assert second.headers["retry-after"] == "1"
            assert "server.post_memory" in second.json()["detail"]
            gate.set()
            return [(await first).status_code, second.status_code]

        assert api.run(post_both()) == [400, 503]
        assert api.services.poster._memory._held == 0
        post(api, b" " * 200_000 + lines(event()), 201)


def test_a_key_stores_once_and_answers_the_same(api: Api, database: str) -> None:
    for content, kind, status in (
        (lines({"event_type": "a"}), "application/json", 201),
        (lines({"event_type": "b"}, {"event_type": "c"}, {}), "application/x-ndjson", 207),
    ):
        headers = {"idempotency_key": str(uuid4()), "content_type": kind}
        before = len(waiting(database))
        first = post(api, content, status, **headers)
        assert "idempotent-replayed" not in first.headers
        stored = len(waiting(database))
        again = post(api, content, status, **headers)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.content == first.content
        assert again.headers["x-landing-token"] == first.headers["x-landing-token"]
        packed = post(api, gzip.compress(content), status, content_encoding="gzip", **headers)
        assert packed.content == first.content
        assert len(waiting(database)) == stored > before
        other = post(api, lines({"event_type": "other"}), 422, **headers)
        assert other.json()["type"].endswith("idempotency-key-reused")
        assert len(waiting(database)) == stored
    assert value(database, "SELECT sum(accepted) FROM http_accepted") == 3


def test_a_key_answers_the_same_when_the_rules_have_changed_since(api: Api, database: str) -> None:
    headers = {"idempotency_key": "k"}
    first = post(api, lines({"event_type": "shape", "properties": {"a": 1}}), 201, **headers)
    api.post("/api/v1/custom-events", {"name": "shape", "schema": {"required": ["b"]}})
    content = lines({"event_type": "shape", "properties": {"a": 1}})
    api.soon(lambda: api.request("POST", EVENTS, content=content).status_code, 400)
    assert post(api, content, 201, **headers).content == first.content


@pytest.mark.slow
def test_the_same_key_at_once_stores_once(api: Api, database: str) -> None:
    """In one process, and in two."""

    async def post_all(*clients: httpx.AsyncClient) -> list[tuple[int, bytes]]:
        answers = await asyncio.gather(
            *(
                client.post(
                    EVENTS, content=b'{"event_type":"a"}', headers={"Idempotency-Key": f"key-{n % 5}"}
                )
                for n in range(40)
                for client in clients
            )
        )
        return [(answer.status_code, answer.content) for answer in answers]

    with running(settings_for(database)) as second:
        # The application of the other process runs in its own loop.
        others = asyncio.run_coroutine_threadsafe(post_all(second.client), second._loop)
        ours = api.run(post_all(api.client))
        answers = {*ours, *others.result(30)}
    assert {status for status, _ in answers} == {201}
    assert len(answers) == 5
    assert len(waiting(database)) == 5
    assert value(database, "SELECT sum(accepted) FROM http_accepted") == 5


def test_a_key_is_forgotten_after_its_time(database: str) -> None:
    with running(settings_for(database, server={"idempotency_retention": "1h"})) as api:
        first = post(api, lines({"event_type": "a"}), 201, idempotency_key="k").json()
        execute(database, "UPDATE http_idempotency SET created_at = created_at - interval '2 hours'")
        second = post(api, lines({"event_type": "b"}), 201, idempotency_key="k").json()
        assert first["event_id"] != second["event_id"]
        execute(database, "UPDATE http_idempotency SET created_at = created_at - interval '2 hours'")
        api.run(api.services.inbox._forget())
        assert value(database, "SELECT count(*) FROM http_idempotency") == 0


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\xe4", "\x7f"])
def test_bad_keys_are_400(shared_api: Api, key: str) -> None:
    answer = shared_api.request(
        "POST", EVENTS, content=lines(event()), headers={"Idempotency-Key": key.encode("latin-1")}
    )
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("bad-idempotency-key")


def test_a_landing_tells_stored_duplicate_and_dead(api: Api, database: str, lander: Lander) -> None:
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    at = {"timestamp": iso(datetime.now(UTC))}
    token = post(api, lines(event(1, **at)), 201).headers["x-landing-token"]
    path = f"{EVENTS}/landings"
    assert api.get(f"{path}/{token}") == {
        "landing": token, "state": "waiting", "events": 1, "stored": 0, "duplicate": 0, "dead": 0, "exceptions": [],
    }  # fmt: skip
    lander.land_inbox(100, decode_inbox)
    assert api.get(f"{path}/{token}")["state"] == "landed"
    assert api.get(f"{path}/{token}")["stored"] == 1

    events = [
        event(2, **at),
        event(1, **at),
        event(3, user_id="poison", **at),
        event(2, **at),
        event(4, **at),
    ]
    before = post(api, lines(event(9, **at)), 201).headers["x-landing-token"]
    batch = post(api, json.dumps(events).encode(), 201).json()["landing"]
    lander.land_inbox(100, decode_inbox)
    told = api.get(f"{path}/{batch}")
    assert (told["state"], told["stored"], told["duplicate"], told["dead"]) == ("landed", 2, 2, 1)
    assert told["exceptions"] == [
        {"position": 1, "outcome": "duplicate"},
        {"position": 2, "outcome": "dead", "reason": "refused_by_database"},
        {"position": 3, "outcome": "duplicate"},
    ]
    assert api.get(f"{path}/{before}")["stored"] == 1
    check_books(database)


def test_events_of_requests_that_share_a_row_are_told_apart(api: Api, database: str, lander: Lander) -> None:
    at = {"timestamp": iso(datetime.now(UTC))}

    async def post_all() -> list[str]:
        answers = await asyncio.gather(*(api.client.post(EVENTS, json=event(n % 7, **at)) for n in range(30)))
        return [answer.headers["x-landing-token"] for answer in answers]

    tokens = api.run(post_all())
    assert len(set(tokens)) == 30
    assert value(database, "SELECT count(*) FROM http_inbox") < 30
    while lander.land_inbox(1000, decode_inbox) is not None:
        pass
    told = [api.get(f"{EVENTS}/landings/{token}") for token in tokens]
    assert sum(one["stored"] for one in told) == 7
    assert sum(one["duplicate"] for one in told) == 23
    assert value(database, "SELECT count(*) FROM events") == 7


def test_a_landing_can_be_waited_for(api: Api, database: str, lander: Lander) -> None:
    token = post(api, lines(event(1)), 201).headers["x-landing-token"]

    async def ask() -> tuple[Any, Any]:
        waiting = asyncio.ensure_future(api.client.get(f"{EVENTS}/landings/{token}", params={"wait": 20}))
        await asyncio.sleep(0)
        await asyncio.to_thread(lander.land_inbox, 10, decode_inbox)
        return (await waiting).json(), (await api.client.get(f"{EVENTS}/landings/{token}?wait=0")).json()

    late, now = api.run(ask())
    assert late == now
    assert late["stored"] == 1


@pytest.mark.parametrize(
    "token",
    ["x", "1", "1-2", "1-0-0", "0-0-1", "-1-0-1", "01-0-1", "1-0-10001", "f" * 17 + "-0-1", "7fffffff-0-1"],
)
def test_unknown_landings_are_404(shared_api: Api, token: str) -> None:
    shared_api.get(f"{EVENTS}/landings/{token}", expect=404)


@pytest.mark.parametrize("wait", ["-1", "31", "1.5", "x"])
def test_bad_waits_are_400(shared_api: Api, wait: str) -> None:
    token = post(shared_api, lines(event()), 201).headers["x-landing-token"]
    shared_api.get(f"{EVENTS}/landings/{token}", expect=400, wait=wait)


def test_a_full_inbox_is_a_503_until_it_is_landed(database: str, lander: Lander) -> None:
    limits = {"ingestion": {"inbox_limit": 20}}
    with running(settings_for(database, analytics=limits)) as api:
        content = lines(*(event(n) for n in range(15)))
        for _ in range(2):
            post(api, content, 201, content_type="application/x-ndjson")
        for _ in range(3):
            answer = post(api, content, 503, content_type="application/x-ndjson")
            assert answer.json()["type"].endswith("inbox-full")
            assert answer.headers["retry-after"] == "2"
            post(api, lines(event()), 503, idempotency_key="k")
        lander.land_inbox(100, decode_inbox)
        wait_for(
            lambda: api.request("POST", EVENTS, content=lines(event())).status_code == 201, 5, "room again"
        )
        while lander.land_inbox(100, decode_inbox) is not None:
            pass
    accepted = value(database, "SELECT sum(accepted) FROM http_accepted")
    assert accepted == value(database, "SELECT sum(read) FROM ingest_batches")


def test_another_process_that_fills_the_inbox_is_noticed(database: str) -> None:
    limits = {"ingestion": {"inbox_limit": 20}}
    with running(settings_for(database, analytics=limits)) as api:
        execute(database, "INSERT INTO http_inbox (payload, events) VALUES ('', 1000)")
        post(api, lines(event()), 201)
        wait_for(lambda: api.request("POST", EVENTS, content=lines(event())).status_code == 503, 5, "noticed")


def test_a_client_that_goes_away_leaves_nothing_half(api: Api, database: str) -> None:
    async def post_and_go() -> None:
        tasks = [asyncio.ensure_future(api.client.post(EVENTS, json=event(n))) for n in range(20)]
        await asyncio.sleep(0.002)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    api.run(post_and_go())
    post(api, lines(event(99)), 201)
    assert api.services.poster._memory._held == 0
    accepted = value(database, "SELECT sum(accepted) FROM http_accepted")
    assert accepted == len(waiting(database))


@pytest.mark.slow
def test_posting_while_postgres_is_away(database: str, postgres_server: str) -> None:
    with running(settings_for(database)) as api, psycopg.connect(postgres_server, autocommit=True) as root:
        name = value(database, "SELECT current_database()")
        root.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        root.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        for more in ({}, {"idempotency_key": "k"}):
            answer = post(api, lines(event()), 503, **more)
            assert "retry-after" in answer.headers
        root.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_for(lambda: api.request("POST", EVENTS, content=lines(event())).status_code == 201, 20, "back")
