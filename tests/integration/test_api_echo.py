"""No refusal repeats what was sent: a marker in each parameter, header and field of a body that the document names."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Settings
from api.app import create_app
from tests.integration.databases import database_copy
from tests.integration.keyed_api import Client, asking_for_keys, client_of

TOLD = "qjxwv"
"""Of the marker, what no answer holds by itself: a part of the marker would be found, too."""
MARKER = f"zz<script>{TOLD}"
DOCUMENT: dict[str, Any] = create_app(Settings()).app.openapi()  # type: ignore[attr-defined]
DEFINITION = DOCUMENT["paths"]["/api/v1/custom-events"]["post"]["requestBody"]["content"]["application/json"][
    "example"
]
READS = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods]
CREATING = [("post", "/api/v1/custom-events"), ("post", "/api/v1/keys")]
WRITES = [
    *(
        (method, path)
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if method != "get" and (method, path) not in CREATING
    ),
    *CREATING,  # what they make has the marker for a name
]
SHOWN = {
    (
        "GET /api/v1/metrics",
        "metric_name",
    ),  # as the original: an unknown metric has no points, under its name
    ("POST /api/v1/dashboard/query", "queries"),
    ("POST /api/v1/custom-events", "name"),
    ("POST /api/v1/custom-events", "description"),
    ("POST /api/v1/custom-events", "display_name"),
    ("POST /api/v1/custom-events", "schema"),
    ("POST /api/v1/custom-events/{name}/compatibility", "name"),
    ("POST /api/v1/custom-events/{name}/compatibility", "schema"),
    ("PATCH /api/v1/custom-events/{name}", "description"),
    ("PATCH /api/v1/custom-events/{name}", "display_name"),
    ("PATCH /api/v1/custom-events/{name}", "schema"),
    ("POST /api/v1/keys", "name"),
    ("POST /api/v1/keys", "event_types"),
    ("POST /api/v1/keys", "dimensions"),
}
"""Where any text is right, and part of what was asked for or stored: JSON of an answer that is no refusal."""


class Request(NamedTuple):
    """One request with the marker at one place, the first name of which is `place`."""

    place: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    content: bytes = b""


@pytest.fixture(scope="module")
def client(postgres: Postgres, template_database: str) -> Iterator[Client]:
    """Who may do everything."""
    with (
        database_copy(postgres, template_database, "api_echo") as database,
        asking_for_keys(database, security={"rate_limit": {"enabled": False}}) as api,
    ):
        found = client_of(api, database, "admin")
        assert found.request("POST", "/api/v1/custom-events", json=DEFINITION).status_code == 201
        yield found


def example(parameter: dict[str, Any]) -> str:
    found = parameter.get("example", parameter["schema"].get("examples", ["1"])[0])
    return str(found[0] if isinstance(found, list) else found)


def marked(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """A value with the marker in the place of each of its parts, and as the name of something more.

    That is a schema, so that it is right inside of one: the way to what is wrong in a schema is told, by its names.
    """
    yield (), MARKER
    if isinstance(value, dict):
        yield (), value | {MARKER: {}}
    items = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    for name, part in items:
        for place, changed in marked(part):
            whole = deepcopy(value)
            whole[name] = changed
            yield (name, *place), whole


def requests(method: str, path: str) -> Iterator[Request]:
    operation = DOCUMENT["paths"][path][method]
    parameters = operation.get("parameters", [])
    own = {one["name"]: example(one) for one in parameters if one["in"] == "path"}
    needed = {one["name"]: example(one) for one in parameters if one["in"] == "query" and one.get("required")}
    address = path.format(**own)
    bodies = [
        (kind, content["example"])
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    ]
    kind, body = bodies[0] if bodies else ("", None)
    typed = {"Content-Type": kind} if kind else {}
    content = json.dumps(body).encode() if bodies else b""
    yield Request("", address, needed | {MARKER: "1"}, typed, content)
    yield Request("X-Request-ID", address, needed, typed | {"X-Request-ID": MARKER}, content)
    if bodies:
        yield Request("Content-Type", address, needed, {"Content-Type": f"text/{MARKER}"}, content)
        yield Request("Content-Encoding", address, needed, typed | {"Content-Encoding": MARKER}, content)
    for one in parameters:
        name = one["name"]
        for text in (MARKER, f"{example(one)}{MARKER}", f"a:{MARKER}:1", f"{MARKER}:eq:1", f"a,{MARKER}"):
            match one["in"]:
                case "query":
                    yield Request(name, address, needed | {name: text}, typed, content)
                case "path":
                    place = path.format(**own | {name: quote(text, safe="")})
                    yield Request(name, place, needed, typed, content)
                case "header":
                    yield Request(name, address, needed, typed | {name: text}, content)
    for kind, body in bodies:
        typed = {"Content-Type": kind}
        yield Request("", address, needed, typed, MARKER.encode())
        yield Request("", address, needed, typed, f'{{"a": {MARKER}'.encode())
        if isinstance(body, str):
            continue
        for place, changed in marked(body):
            first = str(place[0]) if place else ""
            yield Request(first, address, needed, typed, json.dumps(changed).encode())


def check(client: Client, method: str, path: str) -> None:
    name = f"{method.upper()} {path}"
    for request in requests(method, path):
        answer = client.request(
            method, request.path, params=request.query, headers=request.headers, content=request.content
        )
        assert answer.status_code < 500, (name, request, answer.text)
        is_refused = answer.status_code >= 400
        if (name, request.place) in SHOWN and not is_refused:
            assert answer.headers["content-type"] == "application/json", (name, request)
            assert answer.headers["x-content-type-options"] == "nosniff", (name, request)
        else:
            assert TOLD not in answer.text, (name, request, answer.text)
        assert TOLD not in str(answer.headers.raw), (name, request, answer.headers)


@pytest.mark.parametrize("path", READS)
def test_no_read_repeats_what_was_wrong(client: Client, path: str) -> None:
    check(client, "get", path)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), WRITES)
def test_no_write_repeats_what_was_wrong(client: Client, method: str, path: str) -> None:
    check(client, method, path)


@pytest.mark.parametrize("path", [f"/api/v1/{quote(MARKER)}", f"/{quote(MARKER)}", f"/docs/{quote(MARKER)}"])
def test_no_path_is_repeated(client: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = client.request(method, path)
        assert answer.status_code in {404, 405}
        assert TOLD not in answer.text
