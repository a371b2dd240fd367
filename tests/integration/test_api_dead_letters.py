"""`/api/v1/dead-letters`: what is found, who sees what of it, and that a replay over REST is the one of the command."""

import base64
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage.landing import Lander
from api.dead_letters import repository
from tests.integration.api_support import Api, iso
from tests.integration.databases import database_copy
from tests.integration.keyed_api import Client, asking_for_keys, client_of
from tests.integration.landing_rig import check_books, claim, event, execute, land, message, rows, value

LETTERS = "/api/v1/dead-letters"
_SECRET = b"Bearer hunter2"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_dead_letters") as copied:
        execute(copied, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    with asking_for_keys(database, security={"rate_limit": {"enabled": False}}) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def reader(api: Api, database: str) -> Client:
    return client_of(api, database, "read")


@pytest.fixture(scope="module")
def admin(api: Api, database: str) -> Client:
    return client_of(api, database, "admin")


@pytest.fixture(scope="module")
def orders(api: Api, database: str) -> Client:
    return client_of(api, database, "read", event_types=["order.*"])


def letters(database: str, *contents: Any, **parts: Any) -> tuple[str, list[int]]:
    """Land messages of a topic of its own; the topic, and the ids of the letters they became."""
    source = f"topic-{next(_numbers)}"
    lander = Lander(database, name="landing-test")
    sent = [message(at, content, **parts) for at, content in enumerate(contents)]
    land(lander, claim(database, (source, 0)), sent, source=source)
    lander.close()
    found = rows(
        database, "SELECT id FROM dead_letter_events WHERE source = %s ORDER BY source_offset", source
    )
    return source, [row[0] for row in found]


def ids(answer: Any) -> list[int]:
    return [letter["id"] for letter in answer["dead_letters"]]


def test_filters_choose_and_pages_neither_skip_nor_repeat(database: str, reader: Client) -> None:
    mixed = [
        b"{",
        event(1, user_id=1),
        event(2, user_id=2, event_type="user.login"),
        b"",
        event(3, user_id=3),
    ]
    source, found = letters(database, *mixed)
    newest_first = found[::-1]

    walked, cursor = [], None
    while True:
        page = reader.get(LETTERS, source=source, limit=2, **({"cursor": cursor} if cursor else {}))
        assert page["count"] == len(page["dead_letters"]) <= 2
        walked += ids(page)
        letters(database, b"one more of another topic")
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert walked == newest_first

    def chosen(**parameters: Any) -> list[int]:
        return ids(reader.get(LETTERS, source=source, **parameters))

    assert chosen(reason="bad_user_id") == [found[4], found[2], found[1]]
    assert chosen(reason=["not_json", "empty_message"]) == [found[3], found[0]]
    assert chosen(event_type="user.login") == [found[2]]
    assert chosen(event_type=["order.*", "user.login"]) == [found[4], found[2], found[1]]
    assert chosen(id=[found[0], found[1]]) == [found[1], found[0]]
    assert chosen(status="replayed") == []
    assert chosen(status="all") == newest_first
    now = datetime.now(UTC)
    assert (
        chosen(start_time=iso(now - timedelta(hours=1)), end_time=iso(now + timedelta(hours=1)))
        == newest_first
    )
    assert chosen(end_time=iso(now - timedelta(hours=1))) == []
    [group] = {one["group"] for one in reader.get(LETTERS, id=found[0])["dead_letters"]}
    assert chosen(group=group) == [found[0]]


def test_groups_count_letters_of_one_shape(database: str, reader: Client) -> None:
    source, found = letters(database, *(event(number, user_id=number) for number in range(3)), b"{")
    answer = reader.get(f"{LETTERS}/groups", source=source)
    largest, other = answer["groups"]
    assert (largest["count"], largest["open"], largest["reason"], largest["sample"]) == (
        3, 3, "bad_user_id", found[2],
    )  # fmt: skip
    assert "user_id: number" in largest["shape"]
    assert largest["first_seen"] <= largest["last_seen"]
    assert (other["count"], other["reason"]) == (1, "not_json")
    assert reader.get(f"{LETTERS}/groups", source=source, limit=1)["groups"] == [largest]


def test_letters_are_chosen_by_their_producer(database: str, reader: Client, admin: Client) -> None:
    source, [first, second] = letters(database, b"{", event(1, user_id=1), extra=(("source", b"svc/a"),))
    _, [nameless] = letters(database, b"{")
    assert ids(reader.get(LETTERS, producer=["svc/a", "nobody"])) == [second, first]
    assert ids(reader.get(LETTERS, producer="svc/a", reason="not_json")) == [first]
    assert ids(reader.get(LETTERS, source="svc/a")) == []
    assert {one["producer"] for one in reader.get(LETTERS, source=source)["dead_letters"]} == {"svc/a"}
    assert reader.get(f"{LETTERS}/{first}")["producer"] == "svc/a"
    assert reader.get(f"{LETTERS}/{nameless}")["producer"] is None
    groups = reader.get(f"{LETTERS}/groups", producer="svc/a")["groups"]
    assert [(one["count"], one["producers"]) for one in groups] == [(1, ["svc/a"])] * 2
    assert [line["producer"] for line in lines(reader, producer="svc/a")] == ["svc/a"] * 2
    assert post(admin, "replay", producers=["svc/a"], dry_run=True)["tried"] == 2
    assert post(admin, "discard", producers=["svc/a"], note="private")["discarded"] == 2
    [line] = admin.get("/api/v1/audit", limit=1)["lines"]
    assert line["subject"] == "discard: 1 producers"


def test_one_letter_shows_its_bytes_as_base64_and_as_text_where_it_is_text(
    database: str, reader: Client, admin: Client
) -> None:
    headers = (("authorization", _SECRET), ("nothing", None))
    binary = b"\x1b[2J\x00\xff{broken"
    text = json.dumps({"note": "ü</script>"}).encode() + b"{"
    _, [first, second] = letters(database, binary, text, name=b"key\xff", extra=headers)

    shown = reader.get(f"{LETTERS}/{first}")
    assert shown["value"] == {
        "size": len(binary), "base64": base64.b64encode(binary).decode(), "text": None, "is_cut": False,
    }  # fmt: skip
    assert shown["key"]["text"] is None
    assert base64.b64decode(shown["key"]["base64"]) == b"key\xff"
    assert (shown["reason"], bool(shown["advice"])) == ("not_json", True)
    assert reader.get(f"{LETTERS}/{second}")["value"]["text"] == text.decode()
    cut = reader.get(f"{LETTERS}/{second}", max_bytes=text.index(b"\\u00fc") + 3)["value"]
    assert (cut["is_cut"], cut["size"], text.decode().startswith(cut["text"])) == (True, len(text), True)

    assert shown["headers"] == [
        {"name": "authorization", "size": len(_SECRET), "value": None},
        {"name": "nothing", "size": None, "value": None},
    ]
    whole = admin.get(f"{LETTERS}/{first}")
    assert base64.b64decode(whole["headers"][0]["value"]["base64"]) == _SECRET
    for nothing in ("0", "999999999999", "-1", "1e3", "x", "9" * 19, "9" * 30, "%00"):
        assert reader.request("GET", f"{LETTERS}/{nothing}").json()["title"] == "Dead letter not found"


def test_a_character_that_is_cut_through_is_still_text(database: str, reader: Client) -> None:
    _, [letter] = letters(database, "üü{".encode())
    assert reader.get(f"{LETTERS}/{letter}", max_bytes=3)["value"]["text"] == "ü"
    assert reader.get(f"{LETTERS}/{letter}", max_bytes=0)["value"]["text"] == ""


def lines(client: Client, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.request("GET", f"{LETTERS}/export", params=parameters)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_an_export_streams_every_byte_oldest_first(
    database: str, reader: Client, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [b"x" * size for size in (10, 3000, 0, 5000, 1, 20)]
    source, found = letters(database, *sent, name=b"k", extra=(("authorization", _SECRET),))
    sizes: list[int] = []
    real = repository.dead_letter_export.export_part

    def counting(*arguments: Any, **how: Any) -> Any:
        part = real(*arguments, **how)
        sizes.append(sum(len(content.value or b"") for _, content in part))
        return part

    monkeypatch.setattr(repository.dead_letter_export, "_PART_BYTES", 4_000)
    monkeypatch.setattr(repository.dead_letter_export, "export_part", counting)
    exported = lines(admin, source=source)
    assert [one["id"] for one in exported] == found
    assert [base64.b64decode(one["value_base64"] or "") for one in exported] == sent
    assert [base64.b64decode(one["headers_base64"][0][1]) for one in exported] == [_SECRET] * 6
    assert len(sizes) > 3
    assert max(sizes) <= 5_000, "no more of it is in memory than one part, or one message"
    assert [one["headers_base64"] for one in lines(reader, source=source, limit=2)] == [None, None]
    assert lines(reader, source="none") == []


def test_a_key_with_event_types_sees_letters_of_its_own_types_alone(
    database: str, api: Api, orders: Client, admin: Client
) -> None:
    source, [unreadable, own, foreign] = letters(
        database, b"{", event(1, user_id=1), event(2, user_id=2, event_type="user.login")
    )
    assert ids(orders.get(LETTERS, source=source)) == [own]
    assert ids(orders.get(LETTERS, source=source, event_type="*")) == [own]
    assert [one["sample"] for one in orders.get(f"{LETTERS}/groups", source=source)["groups"]] == [own]
    assert [one["id"] for one in lines(orders, source=source)] == [own]
    assert orders.get(f"{LETTERS}/{own}")["id"] == own
    for hidden in (unreadable, foreign):
        assert orders.request("GET", f"{LETTERS}/{hidden}").status_code == 404
        assert admin.request("GET", f"{LETTERS}/{hidden}").status_code == 200
    refused = orders.request("GET", LETTERS, params={"event_type": "user.login"})
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (403, "outside-key")

    team = client_of(api, database, "read", dimensions={"strategy_id": ["a"]})
    for path in (LETTERS, f"{LETTERS}/groups", f"{LETTERS}/export", f"{LETTERS}/{own}"):
        answer = team.request("GET", path)
        assert (answer.status_code, "strategy_id" in answer.json()["detail"]) == (403, True)
    writer = client_of(api, database, "read", "write", event_types=["order.*"])
    for command in ("replay", "discard"):
        assert (
            writer.request("POST", f"{LETTERS}/{command}", json={"ids": [own], "note": "x"}).status_code
            == 403
        )


def post(client: Client, command: str, expect: int = 200, **body: Any) -> Any:
    answer = client.request("POST", f"{LETTERS}/{command}", json=body)
    assert answer.status_code == expect, answer.text
    return answer.json()


def test_a_replay_lands_what_is_good_now_once(database: str, admin: Client, reader: Client) -> None:
    poisoned = [event(100 + number, user_id="poison") for number in range(5)]
    source, [*refused, wrong] = letters(database, *poisoned, event(200, user_id=1))
    assert ids(reader.get(LETTERS, source=source, event_type="order.*")) == [*refused[::-1], wrong]
    assert {one["reason"] for one in reader.get(LETTERS, id=refused)["dead_letters"]} == {
        "refused_by_database"
    }
    execute(database, "ALTER TABLE events DROP CONSTRAINT no_poison")
    stored = value(database, "SELECT count(*) FROM events")

    dry = post(admin, "replay", sources=[source], dry_run=True)
    assert (dry["dry_run"], dry["tried"], dry["stored"], dry["still_bad"]) == (True, 6, 5, {"bad_user_id": 1})
    assert value(database, "SELECT count(*) FROM events") == stored
    assert len(ids(reader.get(LETTERS, source=source))) == 6

    done: list[dict[str, Any]] = []
    after = 0
    while not done or after:
        done.append(post(admin, "replay", sources=[source], limit=4, after=after))
        after = done[-1]["next_after"]
    assert [(one["tried"], one["stored"], one["still_bad"]) for one in done] == [
        (4, 3, {"bad_user_id": 1}), (2, 2, {}),
    ]  # fmt: skip
    assert done[0]["next_after"] == refused[2]
    assert value(database, "SELECT count(*) FROM events") == stored + 5
    [still_open] = reader.get(LETTERS, source=source)["dead_letters"]
    assert (still_open["id"], still_open["attempts"]) == (wrong, 1)
    assert ids(reader.get(LETTERS, source=source, status="replayed")) == refused[::-1]

    again = post(admin, "replay", sources=[source])
    assert (again["tried"], again["stored"], again["still_bad"]) == (1, 0, {"bad_user_id": 1})
    assert post(admin, "replay", ids=refused)["tried"] == 0
    assert value(database, "SELECT count(*) FROM events") == stored + 5
    check_books(database)
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison') NOT VALID")


def test_a_replay_that_takes_long_stops_between_batches(
    database: str, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, found = letters(database, b"{", b"[", b"(")
    which = repository.Filter(sources=(source,))
    monkeypatch.setattr(repository.replay_runs.replays.replay, "__kwdefaults__", {
        **repository.replay_runs.replays.replay.__kwdefaults__, "batch_size": 1,
    })  # fmt: skip
    services = api.services
    done, has_more = api.run(
        repository.replay_letters(
            services.desk, services.settings, which, is_dry_run=False, limit=10, after=0, seconds=0
        )
    )
    assert (done.tried, done.reached, has_more) == (1, found[0], True)


def test_discarded_letters_stay_and_are_not_replayed(database: str, admin: Client, reader: Client) -> None:
    source, found = letters(database, b"{", b"[", b"(")
    dry = post(admin, "discard", sources=[source], note="test", dry_run=True)
    assert dry == {"dry_run": True, "discarded": 3, "has_more": False}
    assert len(ids(reader.get(LETTERS, source=source))) == 3
    first = post(admin, "discard", sources=[source], note="of a test", limit=2)
    assert first == {"dry_run": False, "discarded": 2, "has_more": True}
    assert ids(reader.get(LETTERS, source=source)) == [found[2]]
    gone = reader.get(f"{LETTERS}/{found[0]}")
    assert (gone["status"], gone["note"], gone["value"]["text"]) == ("discarded", "of a test", "{")
    assert post(admin, "replay", ids=found[:2])["tried"] == 0
    assert post(admin, "discard", ids=found[:2], note="again")["discarded"] == 0
    assert reader.get(f"{LETTERS}/{found[0]}")["note"] == "of a test"


def test_writes_are_in_the_audit_log_without_what_they_said(database: str, admin: Client) -> None:
    source, [letter] = letters(database, b"{")
    post(admin, "replay", ids=[letter], reasons=["not_json"], dry_run=True)
    post(admin, "discard", sources=[source], note="very private")
    [discard, replay] = admin.get("/api/v1/audit", limit=2)["lines"]
    assert (discard["route"], discard["subject"]) == (f"{LETTERS}/discard", "discard: 1 sources")
    assert (replay["route"], replay["subject"]) == (
        f"{LETTERS}/replay", "dry run of replay: 1 ids, reason not_json",
    )  # fmt: skip
    assert "private" not in json.dumps(admin.get("/api/v1/audit"))


BAD_BODIES: list[Any] = [
    b"", b"{", b"null", b"[]", b"1", b"\xff",
    {}, {"all": "yes"}, {"all": 1}, {"all": True, "reasons": ["not_json"]}, {"resons": ["not_json"]},
    {"reasons": []}, {"reasons": "not_json"}, {"reasons": ["'; DROP TABLE events"]}, {"reasons": [None]},
    {"ids": [0]}, {"ids": [-1]}, {"ids": [2**63]}, {"ids": [1.5]}, {"ids": [True]}, {"ids": ["1"]},
    {"ids": list(range(1, 10_002))}, {"event_types": ["a\u0000b"]}, {"sources": ["x" * 256]}, {"groups": [""]},
    {"ids": [1], "start_time": 1}, {"ids": [1], "end_time": "2026-02-30T00:00:00Z"}, {"ids": [1], "limit": 0},
    {"ids": [1], "limit": 10_001}, {"ids": [1], "limit": True}, {"ids": [1], "dry_run": None},
]  # fmt: skip


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_bad_bodies_are_refused_and_change_nothing(
    database: str, admin: Client, reader: Client, command: str
) -> None:
    before = rows(database, "SELECT id, status, attempts FROM dead_letter_events ORDER BY id")
    for body in [
        *BAD_BODIES,
        {"ids": [1], "after": -1},
        {"ids": [1], "note": "\n"},
        {"ids": [1], "note": "n" * 501},
    ]:
        content = body if isinstance(body, bytes) else json.dumps(
            body if command == "replay" else {"note": "why", **body}
        ).encode()  # fmt: skip
        answer = admin.request("POST", f"{LETTERS}/{command}", content=content)
        assert answer.status_code == 400, (body, answer.text)
        assert "DROP TABLE" not in answer.text
    assert rows(database, "SELECT id, status, attempts FROM dead_letter_events ORDER BY id") == before
    for client in (reader,):
        assert client.request("POST", f"{LETTERS}/{command}", json={"all": True}).status_code == 403
    assert admin.request("POST", f"{LETTERS}/discard", json={"all": True}).status_code == 400, "no note"


@pytest.mark.parametrize(
    "query",
    [
        "reason=x", "reason=%00", "status=gone", "limit=0", "limit=-1", "limit=1e9", "limit=999999999999",
        "start_time=yesterday", "end_time=1", "id=x", "id=0", "id=99999999999999999999", "cursor=x", "cursor=%00",
        "cursor=W10", "cursor=WyJkZWFkLWxldHRlcnMiLC0xXQ", "cursor=WyJkZWFkLWxldHRlcnMiLHRydWVd",
        "cursor=WyJkZWFkLWxldHRlcnMiLDkyMjMzNzIwMzY4NTQ3NzU4MDhd", "event_type=%ff", "source=a%0Ab",
        "group=" + "g" * 256, "status=open&status=all",
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(reader: Client, query: str) -> None:
    answer = reader.request("GET", f"{LETTERS}?{query}")
    assert answer.status_code == 400, (query, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"


def test_sql_in_a_filter_is_a_value(reader: Client) -> None:
    for name in ("source", "group", "event_type"):
        assert ids(reader.get(LETTERS, **{name: "x') OR true --"})) == []


def test_the_requests_and_answers_of_the_page_are_real(database: str, admin: Client) -> None:
    page = (Path(__file__).parents[2] / "docs/operations-over-rest.md").read_text()
    requests = [shlex.split(line) for line in re.findall(r"^curl .*", page, re.MULTILINE)]
    assert len(requests) > 10
    answers = {}
    for words in requests:
        path = next(word for word in words if word.startswith("http")).removeprefix("http://localhost:9097")
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        content = words[words.index("-d") + 1] if "-d" in words else None
        answer = admin.request(method, path, content=content)
        assert answer.status_code == 200, (words, answer.text)
        answers[path.partition("?")[0]] = answer
    [example] = re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    assert json.loads(example).keys() == answers[f"{LETTERS}/replay"].json().keys()


def test_every_route_of_operations_is_on_the_page(admin: Client) -> None:
    page = (Path(__file__).parents[2] / "docs/operations-over-rest.md").read_text()
    documented = set(re.findall(r"(?:GET|POST) `(/api/v1/[^`]+)`", page))
    paths = admin.get("/openapi.json")["paths"]
    assert documented <= paths.keys()
    assert documented == {
        path
        for path, methods in paths.items()
        if {"Operations", "Dead letters"} & set(next(iter(methods.values()))["tags"])
        and path != "/api/v1/audit"
    }


def test_examples_of_bodies_are_bodies(admin: Client) -> None:
    document = admin.get("/openapi.json")
    for name in ("replay", "discard"):
        body = document["paths"][f"{LETTERS}/{name}"]["post"]["requestBody"]["content"]["application/json"]
        assert body["example"].keys() <= body["schema"]["properties"].keys()
        assert (
            admin.request("POST", f"{LETTERS}/{name}", json=body["example"] | {"dry_run": True}).status_code
            == 200
        )
