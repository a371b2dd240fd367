"""The OpenAPI document, route by route: complete, and true to itself; the tests of the API compare it with answers."""

import json
from typing import Any

import jsonschema_rs
import pytest

from analytics_pipeline.settings import Settings
from api.access import rules_of
from api.app import create_app
from api.documentation import TAGS
from api.examples import EXAMPLES

APP: Any = create_app(Settings()).app  # type: ignore[attr-defined]
DOCUMENT: dict[str, Any] = APP.openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
HEALTH = {"GET /health", "GET /healthz", "GET /ready"}
POLLED = {
    "GET /api/v1/dead-letters", "GET /api/v1/dead-letters/groups", "GET /api/v1/ledger", "GET /api/v1/restatements",
    "GET /api/v1/pipeline/runs",
}  # fmt: skip
PROBLEM = "application/problem+json"

operations = pytest.mark.parametrize("name", OPERATIONS)


def validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.validator_for(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "components": DOCUMENT["components"],
        }
    )


@operations
def test_every_route_says_what_it_is(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert not operation["summary"].endswith(".")
    assert operation["description"]
    assert set(operation["tags"]) <= TAGS.keys()
    assert (operation["security"] == []) is (name in HEALTH)


def test_no_two_operations_have_one_id_and_every_tag_is_used() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    assert OPERATIONS["GET /api/v1/metrics"]["operationId"] == "get_metrics"
    assert not [one for one in ids if "api_v1" in one]
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == TAGS.keys()
    assert [tag["name"] for tag in DOCUMENT["tags"]] == list(TAGS)


def closed(schemas: dict[str, Any]) -> dict[str, Any]:
    """The same shapes, without room for fields that they do not name."""
    return {
        name: {"additionalProperties": False} | one if "properties" in one else one
        for name, one in schemas.items()
    }


def test_every_read_in_json_has_a_true_example_without_a_field_that_is_not_there() -> None:
    reads = {name.removeprefix("GET ") for name in OPERATIONS if name.startswith("GET ")}
    assert EXAMPLES.keys() <= reads
    assert {path for path in reads - EXAMPLES.keys() if "/stream/" not in path} == {
        "/health", "/healthz", "/ready", "/api/v1/dead-letters/export",
    }  # fmt: skip
    components = {"schemas": closed(DOCUMENT["components"]["schemas"])}
    for path, example in EXAMPLES.items():
        schema = OPERATIONS[f"GET {path}"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema_rs.validator_for(schema | {"components": components}).validate(example)


def test_the_example_of_metrics_is_a_possible_answer() -> None:
    content = OPERATIONS["GET /api/v1/metrics"]["responses"]["200"]["content"]["application/json"]
    found = content["example"]
    assert found.keys() == {"cached", "result"}
    result = found["result"]
    points = result["data_points"]
    assert result["total_count"] == len(points) > 0
    assert all(result["start_time"] <= point["timestamp"] < result["end_time"] for point in points)
    assert [point["timestamp"] for point in points] == sorted({point["timestamp"] for point in points})
    assert all(not point.get("pending") or point["state"] != "final" for point in points)
    assert not points[0].keys() & {"open", "filled", "unbounded", "incomplete"}


@pytest.mark.parametrize("name", ["dashboard", "metrics", "events"])
def test_streams_show_their_beginning(name: str) -> None:
    answer = OPERATIONS[f"GET /api/v1/stream/{name}"]["responses"]["200"]
    retry, message, rest = answer["content"]["text/event-stream"]["example"].split("\n\n")
    event, data = message.split("\n")
    assert (retry, rest) == ("retry: 2000", "")
    kind = {"dashboard": "dashboard", "metrics": "snapshot", "events": "events"}[name]
    assert event == f"event: {kind}"
    found = json.loads(data.removeprefix("data: "))
    if name != "events":
        path = {"dashboard": "dashboard/metrics", "metrics": "metrics"}[name]
        shown = OPERATIONS[f"GET /api/v1/{path}"]["responses"]["200"]["content"]["application/json"]
        validator(shown["schema"]).validate(found)


def test_examples_of_events_are_possible_answers() -> None:
    listed, counted = (
        OPERATIONS[f"GET /api/v1/{path}"]["responses"]["200"]["content"]["application/json"]["example"]
        for path in ("events", "events/stats")
    )
    assert listed["count"] == len(listed["events"])
    for event in listed["events"]:
        assert listed["start_time"] <= event["timestamp"] < listed["end_time"]
        assert event["timestamp"] < event["created_at"]
    assert counted["total_events"] == sum(counted["by_type"].values())
    assert counted["start_time"] < counted["end_time"]


def test_cookies_and_places_to_go_on_from_are_said() -> None:
    for name, status in (("POST /api/v1/session", "201"), ("DELETE /api/v1/session", "204")):
        header = OPERATIONS[name]["responses"][status]["headers"]["Set-Cookie"]
        assert header["example"].startswith("b25_session=")
    resumed = {
        name
        for name, operation in OPERATIONS.items()
        if ("header", "Last-Event-ID")
        in {(one["in"], one["name"]) for one in operation.get("parameters", [])}
    }
    assert resumed == {f"GET /api/v1/stream/{name}" for name in ("dashboard", "metrics", "events")}


@operations
def test_every_parameter_is_described(name: str) -> None:
    parameters = OPERATIONS[name].get("parameters", [])
    assert len({(one["in"], one["name"]) for one in parameters}) == len(parameters)
    for one in parameters:
        assert one["description"], one
        assert one["schema"].get("type"), one
        jsonschema_rs.meta.validate(one["schema"])
        if one["name"] not in {"cursor", "last_event_id", "Last-Event-ID"}:  # ours alone to make
            validator(one["schema"]).validate(one["example"])
    in_path = {one["name"] for one in parameters if one["in"] == "path"}
    assert in_path == {part.strip("{}") for part in name.split("/") if part.startswith("{")}
    assert all(one.keys() >= {"example", "schema"} for one in parameters if one["in"] == "path")


@operations
def test_every_answer_has_a_type_headers_and_an_example_that_fits(name: str) -> None:
    operation = OPERATIONS[name]
    assert list(operation["responses"]) == sorted(operation["responses"])
    for status, answer in operation["responses"].items():
        assert answer["description"]
        assert answer["headers"].keys() >= {
            "X-Request-ID",
            "X-RateLimit-Limit",
            "X-RateLimit-Remaining",
            "X-RateLimit-Reset",
            "Server-Timing",
        }
        for header in answer["headers"].values():
            validator(header["schema"]).validate(header["example"])
        content = answer.get("content", {})
        if status in {"204", "304"}:
            assert content == {}
            continue
        assert content
        if status >= "400" and name not in HEALTH:
            assert content.keys() == {PROBLEM}
            assert content[PROBLEM]["example"]["status"] == int(status)
        for media_type, shown in content.items():
            assert "schema" in shown
            if media_type.endswith("json") and media_type != "application/x-ndjson":
                validator(shown["schema"]).validate(shown["example"])


@operations
def test_every_route_says_what_keys_limits_and_sizes_refuse(name: str) -> None:
    answers, has_body = OPERATIONS[name]["responses"], "requestBody" in OPERATIONS[name]
    if name in HEALTH:
        assert list(answers) == ["200", "503"]
        return
    assert answers.keys() >= {"401", "403", "429", "503"}
    assert "WWW-Authenticate" in answers["401"]["headers"]
    assert all("Retry-After" in answers[status]["headers"] for status in ("429", "503"))
    is_write = not name.startswith("GET")
    assert ({"413", "415"} <= answers.keys()) is is_write
    assert ("408" in answers) is has_body
    is_cached = name.removeprefix("GET ") in APP.state.services.reads.paths
    is_conditional = name in POLLED or is_cached
    assert ("304" in answers) is is_conditional
    if is_conditional:
        assert answers["200"]["headers"].keys() >= {"ETag", "Cache-Control"}
        assert ("X-Cache" in answers["200"]["headers"]) is is_cached
        assert "If-None-Match" in {one["name"] for one in OPERATIONS[name]["parameters"]}


@operations
def test_examples_of_bodies_fit(name: str) -> None:
    body = OPERATIONS[name].get("requestBody")
    if body is None:
        return
    for media_type, shown in body["content"].items():
        assert shown["example"]
        if media_type == "application/json":
            jsonschema_rs.validator_for(shown["schema"]).validate(shown["example"])
        else:
            assert all(json.loads(line) for line in shown["example"].splitlines())


def test_an_answer_without_an_example_would_be_seen() -> None:
    assert not validator({"$ref": "#/components/schemas/ProblemAnswer"}).is_valid({"type": "about:blank"})
    assert {(method, path.replace(":path", "")) for method, path in rules_of(APP)} >= {
        tuple(name.split(" ")) for name in OPERATIONS
    }
