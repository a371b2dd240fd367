"""Custom event definitions over REST: listed, changed by those who saw them, tried, and kept while they are used."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import orjson
import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.definition_uses import Uses
from api.access import rules_of
from api.app import create_app
from tests.integration.api_support import Api, event, land, running, settings_for
from tests.integration.databases import database_copy
from tests.integration.keyed_api import Client, asking_for_keys, client_of
from tests.integration.test_api_contract import BAD_DEFINITIONS, BAD_EVENTS
from tests.waiting import wait_for

CUSTOM, EVENTS = "/api/v1/custom-events", "/api/v1/events"
NUMBER = {"required": ["x"], "properties": {"x": {"type": "number"}}}
TEXT = {"required": ["x"], "properties": {"x": {"type": "string"}}}
PROBLEM = "urn:b25-analytics:problem:"


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "api_custom_events") as copied:
        yield copied


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Api]:
    with running(settings_for(database, server={"max_body_size": 200_000})) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def keyed(database: str) -> Iterator[Api]:
    with asking_for_keys(database, security={"rate_limit": {"enabled": False}}) as running_api:
        yield running_api


@pytest.fixture
def name() -> str:
    return f"custom.{uuid4().hex}"


def at(name: str, *more: str) -> str:
    return "/".join((f"{CUSTOM}/{quote(name, safe='')}", *more))


def define(api: Api, name: str, schema: Any = NUMBER, **more: Any) -> httpx.Response:
    answer = api.request("POST", CUSTOM, json={"name": name, "schema": schema, **more})
    assert answer.status_code == 201, answer.text
    return answer


def patch(api: Api, name: str, body: Any, expect: int = 200, **headers: str) -> httpx.Response:
    answer = api.request(
        "PATCH", at(name), json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    assert answer.status_code == expect, (answer.status_code, answer.text)
    return answer


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix(PROBLEM)


def execute(database: str, statement: Any, *values: Any) -> list[Any]:
    with psycopg.connect(database) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


# --- listing ------------------------------------------------------------------------------------------------------


def test_pages_are_by_name_and_neither_skip_nor_repeat(api: Api) -> None:
    mark = uuid4().hex
    names = [f"{mark}.{letter}" for letter in "aBc_é😀"]
    for one in reversed(names):
        define(api, one, is_active=one != f"{mark}.c")
    in_order = sorted(names)

    def page(**more: Any) -> tuple[list[str], Any]:
        answer = api.get(CUSTOM, prefix=mark, **more)
        assert answer["count"] == len(answer["custom_events"])
        return [one["name"] for one in answer["custom_events"]], answer["next_cursor"]

    assert page() == (in_order, None)
    assert page(limit=6) == (in_order, None)
    assert page(is_active="false") == ([f"{mark}.c"], None)
    assert page(is_active="true", limit=200)[0] == [one for one in in_order if one != f"{mark}.c"]
    seen, cursor = page(limit=2)
    define(api, f"{mark}.A0")  # before the place of the cursor: belongs to no page any more
    assert api.request("DELETE", at(seen[-1])).status_code == 204  # the row that the cursor names
    while cursor:
        found, cursor = page(limit=2, cursor=cursor)
        seen += found
    assert seen == in_order
    assert api.get(CUSTOM, prefix=f"{mark}.%")["custom_events"] == []
    assert api.get(CUSTOM, prefix=mark)["custom_events"][0] == api.get(at(f"{mark}.A0"))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("is_active", "yes"), ("is_active", "TRUE"), ("prefix", "x" * 256), ("prefix", "a\nb"), ("limit", "0"),
        ("limit", "201"), ("limit", "x"), ("cursor", "x"), ("cursor", "%"), ("cursor", "AQ"), ("cursor", "AQD_"),
        ("cursor", "AAAA"), ("cursor", "ä"), ("cursor", "A" * 3000),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_meant(api: Api, parameter: str, value: str) -> None:
    problem = api.get(CUSTOM, expect=400, **{parameter: value})
    assert problem["parameter"] == parameter


# --- changing -----------------------------------------------------------------------------------------------------


def test_a_change_is_made_by_whoever_saw_what_it_changes(api: Api, database: str, name: str) -> None:
    made = define(api, name, display_name="Mine")
    first = made.headers["etag"]
    assert api.request("GET", at(name)).headers["etag"] == first
    assert kind(patch(api, name, {"schema": TEXT}, 428)) == (428, "precondition-required")
    changed = patch(api, name, {"schema": TEXT}, If_Match=first)
    second = changed.headers["etag"]
    present = changed.json()
    assert present.pop("would_have_refused")["judged"] == 0
    assert (present.pop("warnings"), made.json()["warnings"]) == ([], [])
    assert present.pop("metrics") is not None
    assert present | {"warnings": []} == made.json() | {
        "schema": TEXT,
        "version": 2,
        "updated_at": present["updated_at"],
    }
    assert api.get(at(name)) == present
    stale = patch(api, name, {"schema": NUMBER}, 412, If_Match=first)
    assert kind(stale) == (412, "precondition-failed")
    for wrong in (f"W/{second}", "", "nonsense", '"', f"{second}, oops", second.strip('"'), "**"):
        assert patch(api, name, {"schema": NUMBER}, 412, If_Match=wrong).json()["status"] == 412
    conflict = patch(api, name, {"schema": NUMBER, "version": 1}, 409)
    assert kind(conflict) == (409, "version-conflict")
    assert conflict.json()["version"] == 2
    assert api.get(at(name)) == present, "a refused change changes nothing"

    # Texts make no version, but another tag: two people may not overwrite each other's words either.
    third = patch(api, name, {"description": "two\nlines"}, If_Match=f'"other", {second}')
    assert (third.json()["version"], third.json()["display_name"]) == (2, "Mine")
    assert third.headers["etag"] not in {first, second}
    patch(api, name, {"display_name": "", "version": 2})
    assert patch(api, name, {"schema": NUMBER}, If_Match="*").json()["version"] == 3
    assert patch(api, name, {"schema": NUMBER, "version": 3}).json()["version"] == 3
    schemas = execute(
        database,
        "SELECT schema FROM custom_event_definition_versions WHERE name = %s ORDER BY version",
        name,
    )
    assert [schema for (schema,) in schemas] == [NUMBER, TEXT, NUMBER]


def test_of_two_changes_of_the_same_one_is_refused(api: Api, name: str) -> None:
    tag = define(api, name).headers["etag"]

    async def both() -> list[int]:
        answers = await asyncio.gather(
            *(
                api.client.patch(at(name), json={"schema": {"title": str(n)}}, headers={"If-Match": tag})
                for n in range(4)
            )
        )
        return sorted(answer.status_code for answer in answers)

    assert api.run(both()) == [200, 412, 412, 412]
    assert api.get(at(name))["version"] == 2


def test_a_change_waits_for_another_and_then_sees_it(api: Api, database: str, name: str) -> None:
    tag = define(api, name).headers["etag"]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database) as other:
        other.execute("UPDATE custom_event_definitions SET description = 'theirs' WHERE name = %s", (name,))
        ours = pool.submit(patch, api, name, {"description": "ours"}, 412, If_Match=tag)
        wait_for(lambda: execute(database, waiting) == [(1,)], message="the change waits")
        other.commit()
        ours.result(10)
    assert api.get(at(name))["description"] == "theirs"


def test_every_process_hears_of_a_change(api: Api, database: str, name: str) -> None:
    define(api, name)
    number, text = ({"event_type": name, "properties": {"x": x}} for x in (1, "a"))

    def status(body: Any) -> int:
        return int(api.request("POST", EVENTS, json=body).status_code)

    api.soon(lambda: status(text), 400)
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("LISTEN custom_events")
        patch(api, name, {"schema": TEXT, "version": 1})
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
    api.soon(lambda: (status(text), status(number)), (201, 400))
    off = api.request("POST", at(name, "deactivate"))
    assert (off.status_code, off.json()["is_active"], off.json()["version"]) == (200, False, 2)
    api.soon(lambda: status(number), 201)
    stale = api.request("POST", at(name, "activate"), headers={"If-Match": '"1-0"'})
    assert kind(stale) == (412, "precondition-failed")
    on = api.request("POST", at(name, "activate"), headers={"If-Match": off.headers["etag"]})
    assert on.json()["is_active"]
    api.soon(lambda: status(number), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"null", b"{}", b'{"version": 1}', {"name": "other", "version": 1}, {"is_active": False},
        {"schema": TEXT, "version": 0}, {"schema": TEXT, "version": True}, {"schema": TEXT, "version": "1"},
        {"schema": TEXT, "version": 2**31}, {"schema": TEXT, "version": 1.0}, {"schema": TEXT, "version": None},
        {"schema": None}, {"display_name": None}, {"description": 5}, {"display_name": "x" * 256},
        {"display_name": "a\0"}, {"schema": TEXT, "sch\u00e9ma": {}},
    ],
)  # fmt: skip
def test_bodies_that_change_nothing(api: Api, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = api.request("PATCH", at("nothing"), content=content, headers={"If-Match": "*"})
    assert kind(answer) == (400, "invalid-definition")


def test_what_looks_like_a_typing_error_is_told_wherever_a_schema_comes_in(api: Api, name: str) -> None:
    misspelt = {"properties": {"requird": {"minlength": 3}}, "requird": ["a"]}
    expected = [
        "at #: requird is no keyword of JSON Schema and has no effect; did you mean required?",
        "at #/properties/requird: minlength is no keyword of JSON Schema and has no effect; did you mean minLength?",
    ]
    made = define(api, name, misspelt).json()
    assert (made["warnings"], made["is_active"], made["schema"]) == (expected, True, misspelt)
    assert patch(api, name, {"schema": misspelt, "version": 1}).json()["warnings"] == expected
    assert patch(api, name, {"description": "x", "version": 1}).json()["warnings"] == []
    event = {"event_type": name}
    for more, body in (("compatibility", {}), ("validate", {"event": event})):
        assert api.post(at(name, more), body, expect=200)["warnings"] == expected, "of the stored schema"
        assert api.post(at(name, more), {**body, "schema": misspelt}, expect=200)["warnings"] == expected
        assert api.post(at(name, more), {**body, "schema": NUMBER}, expect=200)["warnings"] == []


def test_a_definition_may_be_sent_as_it_was_answered_and_says_nothing_else(api: Api, name: str) -> None:
    made = define(api, name, NUMBER, description="x").json()
    changed = patch(api, name, {"schema": TEXT, "version": 1}).json()
    assert api.request("DELETE", at(name)).status_code == 204
    for answered in (made, changed):
        again = api.request("POST", CUSTOM, json=answered)
        assert (again.status_code, again.json()["schema"]) == (201, answered["schema"]), again.text
        api.request("DELETE", at(name))
    for wrong in ({"shema": {}}, {"schema": NUMBER, "is_activ": False}):
        refused = api.request("POST", CUSTOM, json={"name": name, **wrong})
        assert kind(refused) == (400, "invalid-definition")
        assert (
            "fields other than description, display_name, is_active, name, schema" in refused.json()["detail"]
        )
    assert api.request("GET", at(name)).status_code == 404


def schemas_refused() -> Iterator[Any]:
    for label, body in BAD_DEFINITIONS.items():
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if b'"schema"' in content and "no name" not in label:
            yield pytest.param(content.partition(b'"schema":')[2].strip()[:-1], id=label)


@pytest.mark.parametrize("schema", list(schemas_refused()))
def test_schemas_are_checked_wherever_they_come_in(api: Api, schema: bytes) -> None:
    for method, path, body in (
        ("PATCH", at("any"), b'{"schema":%b}'),
        ("POST", at("any", "compatibility"), b'{"schema":%b}'),
        ("POST", at("any", "validate"), b'{"event":{},"schema":%b}'),
    ):
        answer = api.request(method, path, content=body % schema, headers={"If-Match": "*"})
        assert answer.status_code in {400, 413}, (path, answer.text)
        assert b"etc/passwd" not in answer.content


# --- deleting -----------------------------------------------------------------------------------------------------


def test_a_definition_that_nothing_needs_is_deleted(api: Api, name: str) -> None:
    tag = define(api, name).headers["etag"]
    patch(api, name, {"schema": TEXT, "version": 1})
    assert kind(api.request("DELETE", at(name), headers={"If-Match": tag})) == (412, "precondition-failed")
    gone = api.request("DELETE", at(name))
    assert (gone.status_code, gone.content) == (204, b"")
    assert kind(api.request("DELETE", at(name))) == (404, "not-found")
    api.get(at(name), expect=404)
    versions = api.get(at(name, "versions"))["versions"]
    assert [(one["version"], one["is_current"]) for one in versions] == [(2, False), (1, False)]
    assert define(api, name).json()["version"] == 3, "no two schemas share a name and a version"
    assert [one["is_current"] for one in api.get(at(name, "versions"))["versions"]] == [True, False, False]


def refused_for(api: Api, name: str) -> Any:
    answer = api.request("DELETE", at(name))
    assert kind(answer) == (409, "definition-in-use"), answer.text
    assert api.get(at(name))["name"] == name
    return answer.json()["used_by"]


def test_a_definition_is_kept_while_it_is_used(api: Api, database: str, name: str) -> None:
    define(api, name)
    define(api, f"{name}.x")  # its name begins so, and it is another
    now = datetime.now(UTC)
    land(database, [event(name, now)])
    assert refused_for(api, name) == ["events"]
    letter = (
        "INSERT INTO dead_letter_events (batch_id, source, partition, reason, event_type, status, fingerprint)"
        " VALUES (1, 'a', 0, %s, %s, %s, 0)"
    )
    execute(database, letter, "schema_violation", name, "open")
    assert refused_for(api, name) == ["events", "dead_letters"]
    execute(database, "DELETE FROM events WHERE event_type = %s", name)
    assert refused_for(api, name) == ["dead_letters"]
    execute(
        database,
        "UPDATE dead_letter_events SET status = 'discarded', settled_at = now() WHERE event_type = %s",
        name,
    )
    execute(database, letter, "bad_id", name, "open")

    metric = f"custom.{name}.x"
    for used, event_type in ((metric, name), (f"custom.{name}.x.y", f"{name}.x")):
        execute(
            database,
            "INSERT INTO metric_versions (metric_name, metric_id, kind, event_types, available_from)"
            " VALUES (%s, %s, 'number', %s, now())",
            used, used + "#id", [event_type],
        )  # fmt: skip
    execute(
        database,
        "INSERT INTO rollup_deltas"
        " (hour, batch_id, minute, metric_id, metric_name, dimension_set, dimensions, kind, count)"
        " VALUES (date_trunc('hour', now()), 1, now(), %s, %s, '', '{}', 'number', 1)",
        metric + "#id", metric,
    )  # fmt: skip
    assert refused_for(api, name) == ["metrics"]
    settled = (
        "INSERT INTO metric_aggregations (metric_name, metric_id, interval, time_bucket, count)"
        " VALUES (%s, %s, '1d', date_trunc('day', now(), 'UTC'), 1)"
    )
    execute(database, "DELETE FROM rollup_deltas WHERE metric_name = %s", metric)
    execute(database, settled, metric, metric + "#id")
    assert refused_for(api, name) == ["metrics"]
    execute(database, "DELETE FROM metric_aggregations WHERE metric_name = %s", metric)
    execute(database, settled, f"custom.{name}.x.y", f"custom.{name}.x.y#id")
    assert api.request("DELETE", at(name)).status_code == 204
    assert refused_for(api, f"{name}.x") == ["metrics"]


# --- versions -----------------------------------------------------------------------------------------------------


def test_versions_stay_readable(api: Api, name: str) -> None:
    define(api, name)
    for number in range(1, 4):
        patch(api, name, {"schema": {"title": f"{number}"}, "version": number})
    found = api.get(at(name, "versions"))
    assert (found["name"], found["count"]) == (name, 4)
    assert [one["version"] for one in found["versions"]] == [4, 3, 2, 1]
    assert [one["is_current"] for one in found["versions"]] == [True, False, False, False]
    assert [one["version"] for one in api.get(at(name, "versions"), before=4, limit=2)["versions"]] == [3, 2]
    assert api.get(at(name, "versions"), before=1)["versions"] == []
    assert api.get(at(name, "versions", "1")) == found["versions"][3]
    assert found["versions"][3]["schema"] == NUMBER
    for absent in ("0", "5", "-1", "x", "1.0", "٣", "9" * 30, "2147483647", "2147483648", "%00"):
        assert kind(api.request("GET", at(name, "versions", absent))) == (404, "not-found")
    assert kind(api.request("GET", at("no.such.type", "versions"))) == (404, "not-found")
    for wrong in ({"before": "0"}, {"limit": "101"}, {"before": "2147483648"}):
        api.get(at(name, "versions"), expect=400, **wrong)


def test_a_name_may_look_like_a_path(api: Api) -> None:
    for odd in ("a/versions", "a/versions/1", "a/activate", "a", "ä b/%2F"):
        define(api, odd, {"title": odd})
    for odd in ("a/versions", "a/versions/1", "a/activate", "a", "ä b/%2F"):
        assert api.get(at(odd))["schema"]["title"] == odd
        assert api.get(at(odd, "versions"))["name"] == odd
        assert api.get(at(odd, "versions", "1"))["schema"]["title"] == odd
        assert patch(api, odd, {"description": "x"}, If_Match="*").json()["name"] == odd
        assert api.request("POST", at(odd, "deactivate")).json()["name"] == odd
    for odd in ("a/activate", "a/deactivate", "a/validate", "a/compatibility"):
        assert api.request("POST", at(odd)).status_code == 404, "the slash belongs to the name"
    for odd in ("a/versions", "a/versions/1", "a/activate"):
        assert api.request("DELETE", at(odd)).status_code == 204
    assert api.get(at("a"))["name"] == "a"


@pytest.mark.parametrize("absent", ["%00", "a%00b", "%FF", "%ED%A0%80", "x" * 256, "", ".."])
def test_names_that_no_event_can_have(api: Api, absent: str) -> None:
    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"schema": TEXT}), ("DELETE", "", None), ("GET", "/versions", None),
        ("POST", "/activate", None), ("POST", "/validate", {"event": {}}), ("POST", "/compatibility", {"last": 5}),
    ):  # fmt: skip
        answer = api.request(method, f"{CUSTOM}/{absent}{path}", json=body, headers={"If-Match": "*"})
        assert answer.status_code in {404, 405}, (method, path, answer.text)


# --- trying -------------------------------------------------------------------------------------------------------


def test_a_schema_is_tried_on_stored_events(api: Api, database: str, name: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    rows = [event(name, now - timedelta(seconds=n), x=n) for n in range(300)]
    rows += [event(name, now - timedelta(seconds=400 + n), x="text", y=[1]) for n in range(3)]
    land(database, [*rows, event(name, now - timedelta(seconds=500)), event(f"{name}.other", now, x="text")])
    # Before there is a definition.
    report = api.post(at(name, "compatibility"), {"schema": NUMBER}, expect=200)
    assert report == {
        "name": name, "is_compatible": False, "is_complete": True, "judged": 304, "refused": 4,
        "kinds": [
            {"path": "$.properties.x", "keyword": "type", "sentence": "must be number", "events": 3},
            {
                "path": "$.properties", "keyword": "required", "sentence": "the required property x is missing",
                "events": 1,
            },
        ],
        "oldest": report["oldest"], "newest": report["newest"], "warnings": [],
    }  # fmt: skip
    assert datetime.fromisoformat(report["newest"]) - datetime.fromisoformat(report["oldest"]) == timedelta(
        seconds=500
    )
    newest = api.post(at(name, "compatibility"), {"schema": NUMBER, "last": 250}, expect=200)
    assert (newest["judged"], newest["is_compatible"]) == (250, True)
    assert kind(api.request("POST", at(name, "compatibility"))) == (404, "not-found")
    define(api, name, TEXT)
    assert api.post(at(name, "compatibility"), b"", expect=200)["refused"] == 301
    nothing = api.post(at("no.such.type", "compatibility"), {"schema": {}}, expect=200)
    assert (nothing["judged"], nothing["is_compatible"], nothing["oldest"]) == (0, True, None)
    for wrong in ({"last": 0}, {"last": 100_001}, {"last": "1"}, {"last": True}, {"first": 5}, []):
        assert api.request("POST", at(name, "compatibility"), json=wrong).status_code == 400


def test_a_change_says_what_its_schema_would_have_refused(api: Api, database: str, name: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    land(database, [event(name, now - timedelta(seconds=n), x=n if n % 3 else "text") for n in range(9)])
    tag = define(api, name, TEXT).headers["etag"]
    changed = patch(api, name, {"schema": NUMBER, "description": "x"}, If_Match=tag).json()
    report = changed["would_have_refused"]
    assert changed["metrics"] == {"added": [f"custom.{name}.x"], "removed": []}
    assert (changed["version"], changed["schema"]) == (2, NUMBER), "it is in force all the same"
    assert (report["judged"], report["refused"], report["is_compatible"]) == (9, 3, False)
    beforehand = api.post(at(name, "compatibility"), {"schema": NUMBER}, expect=200)
    assert report | {"warnings": []} == beforehand
    other = patch(api, name, {"schema": {"type": "object"}, "version": 2}).json()
    fits = other["would_have_refused"]
    assert other["metrics"] == {"added": [], "removed": [f"custom.{name}.x"]}
    assert (fits["judged"], fits["refused"], fits["is_compatible"], fits["is_complete"]) == (9, 0, True, True)
    texts = patch(api, name, {"description": "y"}, If_Match="*").json()
    assert (texts["would_have_refused"], texts["metrics"]) == (None, None)
    assert "would_have_refused" not in api.get(at(name))


@pytest.mark.slow
def test_a_report_ends_in_time_and_says_so(database: str, name: str) -> None:
    execute(
        database,
        "INSERT INTO events (id, event_type, properties, timestamp)"
        " SELECT gen_random_uuid(), %s, wide.properties, now() FROM (SELECT jsonb_object_agg('p' || n,"
        " repeat('a', 1000)) AS properties FROM generate_series(1, 50) AS n) AS wide, generate_series(1, 3000)",
        name,
    )
    slow = {"patternProperties": {f"^p{n}": {"not": {"pattern": "b[a-c]{40}$"}} for n in range(8)}}
    with running(settings_for(database, analytics={"query": {"timeout": "250ms"}})) as hasty:
        report = hasty.post(at(name, "compatibility"), {"schema": slow, "last": 3000}, expect=200)
    assert not report["is_complete"]
    assert report["judged"] < 3000


JUDGED = {
    "fits": b'{"x": 5}',
    "wrong type": b'{"x": "5"}',
    "missing": b"{}",
    "not an object": b"[]",
    "nan": b'{"x": NaN}',
    "1e400": b'{"x": 1e400}',
    "nul": b'{"x": 1, "y": "\\u0000"}',
    "long value": b'{"x": 1, "y": "' + b"a" * 1_025 + b'"}',
    "twice": b'{"x": "5", "x": 5}',
}


def test_an_event_is_tried_as_it_would_be_landed(api: Api, database: str, name: str) -> None:
    define(api, name)
    template = b'{"event_type": "%b", "properties": %b}'
    bodies = {label: template % (name.encode(), text) for label, text in JUDGED.items()}
    # As text inside a JSON body: what is no JSON at all makes no body either.
    bodies = {label: body for label, body in (bodies | BAD_EVENTS).items() if is_json(body)}
    api.soon(lambda: api.request("POST", EVENTS, content=bodies["missing"]).status_code, 400)
    before = execute(database, "SELECT count(*) FROM http_inbox")
    seen = set()
    for label, body in bodies.items():
        tried = api.post(at(name, "validate"), b'{"event":%b}' % body, expect=200)
        assert tried["version"] == 1
        assert execute(database, "SELECT count(*) FROM http_inbox") == before, "nothing is stored"
        posted = api.request("POST", EVENTS, content=body)
        if posted.status_code == 201:
            assert (tried["is_valid"], tried["reason"]) == (True, None), label
            before = execute(database, "SELECT count(*) FROM http_inbox")
        elif label not in {"array of an array", "empty array"}:  # several events, over HTTP
            problem = posted.json()
            assert (tried["is_valid"], tried["reason"], tried["path"]) == (
                False, problem["reason"], problem["path"],
            ), label  # fmt: skip
            if tried["reason"] != "too_far_in_future":  # says by how much, and the clock goes on
                assert problem["detail"] == f"{tried['path']}: {tried['detail']}"
        seen.add(tried["reason"])
    assert len(seen) > 8


def is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def test_an_event_is_tried_on_versions_and_on_schemas_that_are_not_stored(api: Api, name: str) -> None:
    number = {"event_type": name, "properties": {"x": 5}}

    def tried(expect: int = 200, **body: Any) -> Any:
        answer = api.request("POST", at(name, "validate"), json={"event": number, **body})
        assert answer.status_code == expect, answer.text
        return answer.json()

    assert tried(expect=404)["title"] == "Custom event not found"
    assert tried(schema=TEXT) == {
        "is_valid": False, "reason": "schema_violation", "path": "$.properties.x",
        "detail": "version 1: must be string", "version": 1, "warnings": [],
    }  # fmt: skip
    define(api, name, is_active=False)
    patch(api, name, {"schema": TEXT, "version": 1})
    assert (tried()["is_valid"], tried()["version"]) == (False, 2)
    assert (tried(version=1)["is_valid"], tried(version=2)["is_valid"]) == (True, False)
    assert (tried(schema=NUMBER)["version"], tried(schema=NUMBER)["is_valid"]) == (3, True)
    tried(expect=404, version=3)
    for wrong in (
        {"version": 0},
        {"version": "1"},
        {"version": 2**40},
        {"version": 1, "schema": {}},
        {"events": []},
    ):
        tried(expect=400, **wrong)
    other = api.request("POST", at(name, "validate"), json={"event": {"event_type": "other"}})
    assert (kind(other), other.json()["field"]) == ((400, "invalid-definition"), "event")
    for body in (
        b"",
        b"{}",
        b"[]",
        b'{"event":}',
        b'{"event":' + b"[" * 90_000 + b"]" * 90_000 + b"}",
        b"\xff",
    ):
        assert api.request("POST", at(name, "validate"), content=body).status_code in {200, 400}


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_key_sees_and_changes_the_definitions_of_its_types(
    keyed: Api, api: Api, database: str, name: str
) -> None:
    scopes = ("read", "write")
    own = client_of(keyed, database, *scopes, event_types=[f"{name}.*"])
    part = client_of(keyed, database, *scopes, dimensions={"strategy_id": ["s1"]})
    for suffix in ("mine", "also"):
        define(api, f"{name}.{suffix}")
    define(api, name)
    assert [one["name"] for one in own.get(CUSTOM)["custom_events"]] == [f"{name}.also", f"{name}.mine"]
    assert len(part.get(CUSTOM, prefix=name)["custom_events"]) == 3
    calls = (
        ("GET", "", None, True), ("GET", "/versions", None, True), ("GET", "/versions/1", None, True),
        ("POST", "/validate", {"event": {}}, True), ("POST", "/compatibility", {}, False),
        ("PATCH", "", {"description": "x"}, False), ("POST", "/deactivate", None, False),
        ("POST", "/activate", None, False), ("DELETE", "", None, False),
    )  # fmt: skip
    for method, below, body, is_for_parts in calls:

        def ask(client: Client, of: str, method: str = method, below: str = below, body: Any = body) -> int:
            return client.request(method, at(of) + below, json=body, headers={"If-Match": "*"}).status_code

        assert ask(own, name) == 403, (method, below)
        assert (ask(part, f"{name}.also") != 403) is is_for_parts, (method, below)
        assert ask(own, f"{name}.mine") in {200, 204}


def test_changes_are_in_the_audit_log_and_trials_are_not(keyed: Api, database: str, name: str) -> None:
    writer = client_of(keyed, database, "read", "write")
    admin = client_of(keyed, database, "admin")
    writer.request("POST", CUSTOM, json={"name": name})
    for method, below, body in (
        ("PATCH", "", {"schema": {"title": "hunter2"}}), ("POST", "/validate", {"event": "hunter2"}),
        ("POST", "/compatibility", {}), ("POST", "/deactivate", None), ("DELETE", "", None),
    ):  # fmt: skip
        answer = writer.request(method, at(name) + below, json=body, headers={"If-Match": "*"})
        assert answer.status_code in {200, 204}, answer.text
    key_id = writer.headers["X-API-Key"].split("_")[1]
    lines = admin.get("/api/v1/audit", key_id=key_id)["lines"]
    one = CUSTOM + "/{name:path}"
    assert [(line["method"], line["route"], line["status"], line["subject"]) for line in reversed(lines)] == [
        ("POST", CUSTOM, 201, name), ("PATCH", one, 200, name), ("POST", one + "/deactivate", 200, name),
        ("DELETE", one, 204, name),
    ]  # fmt: skip


# --- the page -----------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "custom-events.md"


def test_the_examples_of_the_page_work(api: Api) -> None:
    define(api, "custom.trading.signal", {"properties": {"signal_strength": {"type": "number"}}})
    found = re.findall(r"curl -X (\w+) http://localhost:9097(\S+) -d '(.*?)'", PAGE.read_text(), re.DOTALL)
    answers = [api.request(method, path, content=body) for method, path, body in found]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    changed, survey, trial = (answer.json() for answer in answers)
    assert (changed["version"], survey["is_complete"]) == (2, True)
    assert (trial["reason"], trial["path"]) == ("schema_violation", "$.properties.signal_strength")


def test_the_page_names_every_route_and_every_use() -> None:
    text = PAGE.read_text()
    app: Any = create_app(Settings())
    below = {
        (method, re.sub(":path", "", path).removeprefix(CUSTOM))
        for method, path in rules_of(app.app)
        if path.startswith(CUSTOM)
    }
    described = set()
    for methods, paths in re.findall(r"^\| ([A-Z, ]+) (`.+?`) \| (?:read|write) \|", text, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", paths)
        start = first.removeprefix(CUSTOM)
        described |= {(method, start) for method in methods.split(", ")}
        described |= {(methods, re.sub(r"/\w+$", "", start) + other) for other in others if "{" not in other}
        described |= {(methods, start + other.removeprefix("/versions")) for other in others if "{" in other}
    assert described == below
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == {"used_by", *Uses._fields}
