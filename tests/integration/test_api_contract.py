"""The original's endpoints, field by field, and what bad HTTP input gets: a clear 4xx, never a 500, never an echo."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from api.access import rules_of
from tests.integration.api_support import Api, event, iso, land, running, settings_for
from tests.integration.databases import database_copy

EVENTS, STATS, METRICS = "/api/v1/events", "/api/v1/events/stats", "/api/v1/metrics"
DASHBOARD, CUSTOM, INGESTION = (
    "/api/v1/dashboard/metrics",
    "/api/v1/custom-events",
    "/api/v1/internal/ingestion-metrics",
)
SEED_EVENT = {
    "event_type": "order.placed",
    "user_id": "user123",
    "session_id": "session456",
    "properties": {"symbol": "BTCUSDT", "price": 50000, "quantity": 0.1},
}
SEED_DEFINITION = {
    "name": "custom.trading.signal",
    "display_name": "Trading Signal",
    "description": "Custom trading signal event",
    "schema": {"properties": {"signal_strength": {"type": "number"}, "strategy": {"type": "string"}}},
    "is_active": True,
}


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with running(settings_for(database, server={"max_body_size": 20_000})) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def shared_api(postgres: Postgres, template_database: str) -> Iterator[Api]:
    """For tests that leave nothing behind that another would notice."""
    with database_copy(postgres, template_database, "api_contract") as copied:
        settings = settings_for(copied, server={"max_body_size": 20_000})
        with running(settings) as running_api:
            yield running_api


def inbox(database: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return [
            json.loads(line)
            for (payload,) in connection.execute("SELECT payload FROM http_inbox ORDER BY id")
            for line in payload.splitlines()
        ]


def test_post_event_is_durable_before_201(api: Api, database: str) -> None:
    at = iso(datetime.now(UTC).replace(microsecond=0))
    answer = api.post(EVENTS, SEED_EVENT | {"timestamp": at})
    assert answer.keys() == {"success", "event_id"}
    assert answer["success"] is True
    [stored] = inbox(database)
    assert UUID(stored["id"]) == UUID(answer["event_id"])
    assert {**SEED_EVENT, "id": stored["id"], "timestamp": stored["timestamp"]} == stored
    assert datetime.fromisoformat(stored["timestamp"]) == datetime.fromisoformat(at)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT sum(accepted) FROM http_accepted").fetchone() == (1,)


def test_concurrent_posts_share_transactions_and_all_arrive(api: Api, database: str) -> None:
    async def post_all() -> list[int]:
        answers = await asyncio.gather(
            *(
                api.client.post(EVENTS, json={"event_type": "load", "properties": {"n": n}})
                for n in range(200)
            )
        )
        return [answer.status_code for answer in answers]

    with psycopg.connect(database) as connection:
        before = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert api.run(post_all()) == [201] * 200
    assert sorted(stored["properties"]["n"] for stored in inbox(database)) == list(range(200))
    with psycopg.connect(database) as connection:
        after = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] < 50


def test_events_and_metrics_and_stats_defaults(api: Api, database: str) -> None:
    now = datetime.now(UTC)
    land(
        database,
        [event("order.placed", now - timedelta(hours=2), "u"), event("old", now - timedelta(hours=30))],
    )
    listed = api.get(EVENTS)
    assert listed.keys() == {"events", "count", "start_time", "end_time"}
    assert listed["count"] == 1
    start, end = (datetime.fromisoformat(listed[key]) for key in ("start_time", "end_time"))
    assert end - start == timedelta(days=1)

    api.soon(lambda: api.get(STATS)["total_events"], 1)
    stats = api.get(STATS)
    assert stats.keys() == {"start_time", "end_time", "total_events", "by_type"}
    assert stats["by_type"] == {"order.placed": 1}

    metrics = api.get(METRICS, metric_name="events.count.order.placed")
    assert metrics.keys() == {"cached", "result"}
    result = metrics["result"]
    assert list(result) == [
        "metric_name", "interval", "start_time", "end_time", "data_points", "total_count", "aggregation",
        "time_zone", "precision", "relative_error",
    ]  # fmt: skip
    assert (result["metric_name"], result["interval"], result["total_count"], result["aggregation"]) == (
        "events.count.order.placed", "1h", 1, "count",
    )  # fmt: skip
    hour = (now - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    assert result["data_points"] == [
        {
            "timestamp": iso(hour), "value": 1, "dimensions": {},
            "state": "open", "revision": 0, "pending": True,
        }
    ]  # fmt: skip


def test_custom_events(api: Api, database: str) -> None:
    created = api.post(CUSTOM, SEED_DEFINITION)
    assert created.pop("warnings") == [], "more than the original said"
    assert created.keys() == {*SEED_DEFINITION, "id", "version", "created_at", "updated_at"}
    assert {key: created[key] for key in SEED_DEFINITION} == SEED_DEFINITION
    assert created["version"] == 1
    assert api.get(f"{CUSTOM}/custom.trading.signal") == created
    assert api.get(f"{CUSTOM}/nothing", expect=404)["error"] == "Custom event not found"
    assert api.post(CUSTOM, SEED_DEFINITION, expect=409)["status"] == 409

    def judged() -> int:
        bad = {"event_type": "custom.trading.signal", "properties": {"signal_strength": "strong"}}
        return int(api.request("POST", EVENTS, json=bad).status_code)

    api.soon(judged, 400)
    api.post(EVENTS, {"event_type": "custom.trading.signal", "properties": {"signal_strength": 0.7}})


@pytest.mark.parametrize("name", ["a/b", "with space", "ünï", "a'b\"c", "%2F", "x" * 255, "."])
def test_any_clean_name_can_be_defined_and_read(shared_api: Api, name: str) -> None:
    api = shared_api
    api.post(CUSTOM, {"name": name})
    if name != ".":
        assert api.get(f"{CUSTOM}/{quote(name, safe='')}")["name"] == name


BAD_DEFINITIONS: dict[str, Any] = {
    "no body": b"",
    "not json": b"{",
    "array": [],
    "no name": {"schema": {}},
    "empty name": {"name": ""},
    "name of 256": {"name": "x" * 256},
    "newline": {"name": "a\nb"},
    "nul": {"name": "a\0b"},
    "name is a number": {"name": 7},
    "is_active is text": {"name": "n", "is_active": "yes"},
    "schema is text": {"name": "n", "schema": "object"},
    "schema is an array": {"name": "n", "schema": []},
    "unknown type": {"name": "n", "schema": {"type": "objekt"}},
    "properties is a list": {"name": "n", "schema": {"properties": []}},
    "http ref": {"name": "n", "schema": {"$ref": "http://example.com/schema"}},
    "file ref": {"name": "n", "schema": {"properties": {"a": {"$ref": "file:///etc/passwd"}}}},
    "relative ref": {"name": "n", "schema": {"properties": {"a": {"$ref": "other.json"}}}},
    "dangling ref": {"name": "n", "schema": {"$ref": "#/$defs/none"}},
    "foreign meta schema": {"name": "n", "schema": {"$schema": "http://example.com/meta"}},
    "look-behind": {"name": "n", "schema": {"properties": {"a": {"pattern": "(?<=a)b"}}}},
    "back-reference": {"name": "n", "schema": {"properties": {"a": {"pattern": "(a+)\\1"}}}},
    "not a pattern": {"name": "n", "schema": {"properties": {"a": {"pattern": "("}}}},
    "nul inside": {"name": "n", "schema": {"title": "a\0"}},
    "deep": {"name": "n", "schema": json.loads('{"not":' * 50 + "{}" + "}" * 50)},
    "1 MB": b'{"name":"n","schema":{"title":"' + b"x" * 1_000_000 + b'"}}',
    "nan": b'{"name":"n","schema":{"minimum":NaN}}',
    "depth 100,000": b'{"name":"n","schema":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
}


@pytest.mark.parametrize("body", BAD_DEFINITIONS.values(), ids=BAD_DEFINITIONS)
def test_bad_definitions(shared_api: Api, body: Any) -> None:
    api = shared_api
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = api.request("POST", CUSTOM, content=content)
    assert answer.status_code in {400, 413}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_slow_pattern_does_not_stop_the_service(api: Api) -> None:
    api.post(
        CUSTOM, {"name": "redos", "schema": {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}}
    )
    bad = {"event_type": "redos", "properties": {"a": "a" * 900 + "!"}}
    api.soon(lambda: api.request("POST", EVENTS, json=bad).status_code, 400)


BAD_EVENTS: dict[str, bytes] = {
    "no body": b"",
    "random": bytes(range(256)),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "null": b"null",
    "array of an array": b'[[{"event_type":"a"}]]',
    "array cut off": b'[{"event_type":"a"}',
    "empty array": b"[]",
    "empty object": b"{}",
    "trailing comma": b'{"event_type":"a",}',
    "two documents": b'{"event_type":"a"}{"event_type":"b"}',
    "bom": b'\xef\xbb\xbf{"event_type":"a"}',
    "utf-16": '{"event_type":"a"}'.encode("utf-16"),
    "latin-1": b'{"event_type":"\xe4"}',
    "lone surrogate": b'{"event_type":"\\ud800"}',
    "nul": b'{"event_type":"a\\u0000"}',
    "nan": b'{"event_type":"a","properties":{"x":NaN}}',
    "1e400": b'{"event_type":"a","properties":{"x":1e400}}',
    "depth": b'{"event_type":"a","properties":{"x":' + b"[" * 9_000 + b"]" * 9_000 + b"}}",
    "user is a number": b'{"event_type":"a","user_id":7}',
    "not a uuid": b'{"event_type":"a","id":"7"}',
    "no zone": b'{"event_type":"a","timestamp":"2026-01-01T00:00:00"}',
    "epoch": b'{"event_type":"a","timestamp":1700000000}',
    "year 1": b'{"event_type":"a","timestamp":"0001-01-01T00:00:00Z"}',
    "year 9999": b'{"event_type":"a","timestamp":"9999-12-31T23:59:59Z"}',
    "february 30": b'{"event_type":"a","timestamp":"2026-02-30T00:00:00Z"}',
    "100,000 keys": b'{"event_type":"a","properties":{'
    + b",".join(b'"%d":1' % n for n in range(2_000))
    + b"}}",
    "type of 256": b'{"event_type":"' + b"x" * 256 + b'"}',
}


@pytest.mark.parametrize("body", BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_bad_events_are_400_between_two_good_ones(shared_api: Api, body: bytes) -> None:
    shared_api.post(EVENTS, {"event_type": "before"})
    answer = shared_api.request("POST", EVENTS, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json().keys() >= {
        "type",
        "title",
        "status",
        "detail",
        "error",
        "request_id",
        "reason",
        "path",
    }
    assert answer.json()["error"] == "Invalid request body"
    shared_api.post(EVENTS, {"event_type": "after"})


BAD_QUERIES = [
    *(
        (EVENTS, {"limit": limit})
        for limit in ("0", "-1", "1e9", "1000000000", "abc", "٣", "10001", "1.0", " 1", "+1")
    ),
    *(
        (path, {"start_time": text})
        for path in (EVENTS, STATS)
        for text in ("yesterday", "1700000000", "2026-01-01")
    ),
    *(
        (EVENTS, {"end_time": text})
        for text in ("2026-01-01T00:00:00", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z")
    ),
    (EVENTS, {"start_time": "2026-02-30T00:00:00Z"}),
    (EVENTS, {"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}),
    (STATS, {"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}),
    (STATS, {"interval": "2m"}),
    (
        STATS,
        {"interval": "1m", "start_time": "2016-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"},
    ),
    (f"{EVENTS}/no-such-id", {}),
    (f"{EVENTS}/00000000-0000-4000-8000-000000000000", {}),
    (f"{EVENTS}/00000000-0000-4000-8000-000000000000", {"timestamp": "1700000000"}),
    (EVENTS, {"event_type": "x" * 256}),
    (EVENTS, {"event_type": "a\0b"}),
    (METRICS, {}),
    (METRICS, {"metric_name": ""}),
    (METRICS, {"metric_name": "x" * 521}),
    (METRICS, {"metric_name": "events.count", "interval": "2m"}),
    (METRICS, {"metric_name": "events.count", "aggregation": "median"}),
    (METRICS, {"metric_name": "events.count", "aggregation": "p99"}),
    (METRICS, {"metric_name": "events.count", "group_by": "symbol"}),
    (METRICS, {"metric_name": "users.active", "group_by": "user_id"}),
    (METRICS, {"metric_name": "events.count", "time_zone": "Mars/Olympus"}),
    (
        METRICS,
        {
            "metric_name": "events.count",
            "interval": "1m",
            "start_time": "2016-01-01T00:00:00Z",
            "end_time": "2026-01-01T00:00:00Z",
        },
    ),
]


@pytest.mark.parametrize(("path", "parameters"), BAD_QUERIES)
def test_bad_parameters_are_400_and_name_the_parameter(
    shared_api: Api, path: str, parameters: dict[str, str]
) -> None:
    problem = shared_api.get(path, expect=400, **parameters)
    assert problem["status"] == 400
    assert problem["parameter"] in problem["detail"]
    for value in parameters.values():
        assert len(value) < 6 or value not in json.dumps(problem["detail"]), "input is never repeated"


def test_too_many_points_names_the_setting(api: Api) -> None:
    problem = api.get(
        METRICS, expect=400, metric_name="events.count", interval="1m",
        start_time="2016-01-01T00:00:00Z", end_time="2026-01-01T00:00:00Z",
    )  # fmt: skip
    assert "analytics.query.max_points" in problem["detail"]


def test_empty_parameters_are_ignored_and_unknown_and_repeated_ones_refused(api: Api) -> None:
    assert api.get(EVENTS, _="17", event_type="", start_time="")["count"] == 0
    assert api.request("GET", f"{EVENTS}?userid=u1").status_code == 400
    assert api.request("GET", f"{EVENTS}?limit=1&limit=2").status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "event_type=%ff",
        "event_type=%ed%a0%80",
        "=&&&;==",
        "&".join("a=1" for _ in range(500)),
        "limit=%00",
        "%00=%00",
    ],
)
def test_odd_query_strings_never_give_a_500(shared_api: Api, query: str) -> None:
    for path in (EVENTS, STATS, METRICS, DASHBOARD):
        assert shared_api.request("GET", f"{path}?{query}").status_code in {200, 400}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["'; DROP TABLE events; --", '" OR 1=1', "%s", "%(limit)s", "{}", "\\x00", "‮", "😀"]
)
def test_sql_in_text_fields_is_only_text(api: Api, database: str, text: str) -> None:
    now = datetime.now(UTC)
    land(database, [event(text, now, text, symbol=text)])
    assert [
        e["event_type"] for e in api.get(EVENTS, event_type=text, end_time=iso(now + timedelta(1)))["events"]
    ] == [text]
    api.soon(lambda: api.value(f"events.count.{text}", now), 1)
    assert api.get(METRICS, metric_name=text)["result"]["data_points"] == []
    api.get(f"{CUSTOM}/{text}", expect=404)


@pytest.mark.slow
def test_body_limit_counts_while_streaming(api: Api, database: str) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 1_000

    for path in (EVENTS, CUSTOM):
        assert api.request("POST", path, content=b" " * 20_001).status_code == 413
        answer = api.request("POST", path, content=chunks())
        assert answer.status_code == 413
        assert answer.json()["detail"] == "The body is longer than 20000 bytes (server.max_body_size)."
    assert inbox(database) == []


def test_other_encodings_are_refused(shared_api: Api) -> None:
    for path, encoding in ((CUSTOM, "gzip"), (EVENTS, "br"), (EVENTS, "gzip, gzip")):
        answer = shared_api.request("POST", path, content=b"\x1f\x8b", headers={"Content-Encoding": encoding})
        assert answer.status_code == 415


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", 201),
        ("text/plain; charset=utf-8", 201),
        ("application/x-www-form-urlencoded", 201),  # what `curl -d` sends
        ("application/vnd.b25+json", 201),
        ("APPLICATION/JSON ; charset=UTF-8", 201),
        ("multipart/form-data; boundary=x", 415),
        ("text/csv", 415),
        ("application/octet-stream", 415),
        ("\xff", 415),
    ],
)
def test_what_may_be_meant_as_json_is_read_as_json(shared_api: Api, content_type: str, expected: int) -> None:
    headers = {"Content-Type": content_type.encode("latin-1")}
    answer = shared_api.request("POST", EVENTS, content=b'{"event_type":"a"}', headers=headers)
    assert answer.status_code == expected


def test_a_page_of_another_site_cannot_write(api: Api, database: str) -> None:
    for path, body in ((EVENTS, {"event_type": "a"}), (CUSTOM, {"name": "a"})):
        answer = api.request("POST", path, json=body, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert (
            api.request("POST", path, json=body, headers={"Origin": "http://127.0.0.1:9097"}).status_code
            == 201
        )


def test_unknown_paths_and_methods(api: Api) -> None:
    assert api.get("/nothing/here", expect=404)["error"] == "Not found"
    for method, path in (("DELETE", EVENTS), ("PUT", METRICS), ("POST", DASHBOARD), ("PATCH", CUSTOM)):
        answer = api.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
        declared = rules_of(api.app.app)
        methods = {one for one, at in declared if at == path}
        assert answer.headers["allow"].split(", ") == sorted(methods | {"HEAD"})
    one = api.request("PUT", CUSTOM + "/a")
    assert one.headers["allow"] == "DELETE, GET, HEAD, PATCH"


@pytest.mark.slow
def test_head_is_get_without_a_body(api: Api) -> None:
    for path, status in (
        ("/health", 200), ("/ready", 200), (METRICS + "?metric_name=events.count", 200), (DASHBOARD, 200),
        (EVENTS + "?limit=3", 200), ("/openapi.json", 200), ("/docs", 200), (METRICS, 400), ("/nothing", 404),
        ("/dashboard", 200),
    ):  # fmt: skip
        get, head = (api.request(method, path) for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (status, b""), path
        assert {*get.headers} - {"x-cache"} == {*head.headers} - {"x-cache"}, path
        assert get.headers["content-type"] == head.headers["content-type"]
    for path in (EVENTS + "?format=ndjson", "/api/v1/dead-letters/export"):
        head = api.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"].startswith("application/x-ndjson")
    stream = api.request("HEAD", "/api/v1/stream/dashboard")
    assert (stream.status_code, stream.headers["allow"]) == (405, "GET")
    assert api.request("HEAD", CUSTOM + "/none").status_code == 404


@pytest.mark.parametrize(
    "path", [EVENTS, METRICS + "?metric_name=events.count", DASHBOARD, "/health", "/nothing"]
)
def test_every_answer_has_the_headers(shared_api: Api, path: str) -> None:
    answers = [shared_api.request("GET", path, headers={"X-Request-ID": "abc-1.2:3"}) for _ in range(2)]
    for answer in answers:
        assert answer.headers["x-request-id"] == "abc-1.2:3"
        assert [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == [
            "100",
            "100",
            "0",
        ]


@pytest.mark.parametrize("offered", [b"", b"x" * 129, b"a b", b"\xc3\xa4", b"<script>", b"a;b", b"\xff"])
def test_unsafe_request_ids_are_replaced(shared_api: Api, offered: bytes) -> None:
    answer = shared_api.request("GET", "/nothing", headers={b"X-Request-ID": offered})
    assert answer.headers["x-request-id"].encode() != offered
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_rate_limit_of_a_remote_client(database: str) -> None:
    limit = {"rate_limit": {"requests_per_minute": 60, "burst": 3}}
    with running(settings_for(database, security=limit), address="203.0.113.7", ready=False) as api:
        answers = [api.request("GET", "/nothing") for _ in range(4)]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
        assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"3"}
        assert [answer.headers["x-ratelimit-reset"] for answer in answers] == ["1", "2", "3", "3"]
        refused = answers[-1]
        assert refused.status_code == 429
        assert refused.json()["retry_after"] == 1
        assert refused.json()["error"] == "rate limit exceeded"
        assert refused.headers["retry-after"] == "1"
        assert api.request("GET", "/health").status_code in {200, 503}


@pytest.mark.slow
def test_documentation_describes_every_path(api: Api) -> None:
    document = api.get("/openapi.json")
    declared = {(method.lower(), re.sub(":path}", "}", path)) for method, path in rules_of(api.app.app)}
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    for_people = {
        "/",
        "/docs",
        "/openapi.json",
        "/dashboard",
        "/dashboard/{view}",
        "/dashboard/assets/{path}",
    }
    assert described == {one for one in declared if one[1] not in for_people}
    assert {path for _, path in described} >= {
        EVENTS,
        STATS,
        METRICS,
        DASHBOARD,
        CUSTOM,
        INGESTION,
        "/health",
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            assert "HTTPValidationError" not in str(operation["responses"])
            assert "503" in operation["responses"]
    page = api.request("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "src=" not in page.text
    assert "/api/v1/dashboard/metrics" in page.text
