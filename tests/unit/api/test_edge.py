"""The edge of the API counts what it answers."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.settings import Settings
from analytics_pipeline.telemetry import HTTP_REQUESTS
from api.access import Rule
from api.audit import AuditTrail
from api.clock import utc_now
from api.database import Database
from api.edge import Edge
from api.gate import Gate
from api.keyring import Keyring
from api.reads import CachedReads


class Reads:
    """A cache that holds one path."""

    def peek(self, path: str, _query: bytes, _etag: bytes, _reach: Reach) -> SimpleNamespace | None:
        return SimpleNamespace(etag=b'"1"', body=b"{}") if path == "/cached" else None


async def application(scope: Any, _receive: Any, send: Any) -> None:
    scope["route"] = SimpleNamespace(path="/things/{id}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    if scope["path"] == "/things/broken":
        raise RuntimeError("broken")
    await send({"type": "http.response.body", "body": b"b"})


async def direct(
    _headers: Mapping[bytes, bytes], _receive: Any, _sender: Any
) -> tuple[int, bytes, list[Any]]:
    return 201, b"{}", []


def edge_of(app: Any, settings: Settings) -> Edge:
    keyring = Keyring(utc_now)
    return Edge(
        app,
        cast("CachedReads", Reads()),
        {"/direct": direct},
        settings,
        gate=Gate(settings, keyring, None),
        rules={("POST", "/direct"): Rule("write")},
        audit=AuditTrail(cast("Database", None), keyring, utc_now, timedelta(days=1)),
    )


def counted(method: str, route: str, status: int) -> float:
    return HTTP_REQUESTS.labels(method, route, str(status))._value.get()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("method", "path", "headers", "route", "status"),
    [
        ("GET", "/things/1", [], "/things/{id}", 200),
        ("GET", "/cached", [], "/cached", 200),
        ("POST", "/direct", [], "/direct", 201),
        ("POST", "/direct", [(b"content-encoding", b"br")], "/direct", 415),
        ("GET", "/things/broken", [], "/things/{id}", 200),
    ],
)
def test_a_request_is_counted_once_before_its_answer_is_complete(
    method: str, path: str, headers: list[tuple[bytes, bytes]], route: str, status: int
) -> None:
    edge = edge_of(application, Settings())
    before = counted(method, route, status)
    seen = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            seen.append((bool(message.get("more_body")), counted(method, route, status) - before))

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    asyncio.run(edge(scope, receive, send))

    assert all(count == (0 if more else 1) for more, count in seen)
    assert counted(method, route, status) - before == 1


def test_a_body_that_trickles_in_is_given_up_as_a_whole() -> None:
    settings = Settings.model_validate({"server": {"read_timeout": "200ms"}})
    answers: list[Any] = []

    async def reading(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        raise AssertionError("the body never ends")

    async def trickle() -> dict[str, object]:
        await asyncio.sleep(0.05)  # each part alone is in time
        return {"type": "http.request", "body": b"a", "more_body": True}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": []}
    asyncio.run(asyncio.wait_for(edge_of(reading, settings)(scope, trickle, send), 5))
    assert answers[0]["status"] == 408


def test_waiting_for_the_client_to_go_away_is_no_body() -> None:
    settings = Settings.model_validate({"server": {"read_timeout": "50ms"}})
    messages = iter(
        [
            (0.0, {"type": "http.request", "body": b"a", "more_body": False}),
            (0.2, {"type": "http.disconnect"}),
        ]
    )
    seen = []

    async def streaming(_scope: Any, receive: Any, send: Any) -> None:
        seen.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, object]:
        seconds, message = next(messages)
        await asyncio.sleep(seconds)
        return message

    async def send(_message: Any) -> None:
        return None

    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []}
    asyncio.run(edge_of(streaming, settings)(scope, receive, send))
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]


def asked(
    app: Any, settings: Settings, method: str = "GET", receive: Any = None
) -> tuple[dict[bytes, bytes], list[Any]]:
    """Headers and messages of an answer."""
    answers: list[Any] = []

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "method": method, "path": "/x", "query_string": b"", "headers": []}
    asyncio.run(asyncio.wait_for(edge_of(app, settings)(scope, receive or nothing, send), 5))
    return dict(answers[0]["headers"]), answers


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_that_does_not_begin_in_time_is_a_503(method: str) -> None:
    settings = Settings.model_validate({"server": {"request_timeout": "50ms"}})
    ended = []

    async def slow(_scope: Any, _receive: Any, _send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    headers, answers = asked(slow, settings, method)
    problem = json.loads(answers[1]["body"])
    assert (answers[0]["status"], headers[b"content-type"]) == (503, b"application/problem+json")
    assert problem["type"].endswith(":request-timeout")
    assert ("may have been done" in problem["detail"]) == (method == "POST")
    assert {b"retry-after", b"x-ratelimit-limit", b"x-ratelimit-remaining"} <= headers.keys()
    assert ended == [True]


def test_an_answer_that_has_begun_takes_its_time() -> None:
    settings = Settings.model_validate({"server": {"request_timeout": "50ms"}})

    async def streaming(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"all of it"})

    _, answers = asked(streaming, settings)
    assert answers[-1]["body"] == b"all of it"


def test_a_body_that_takes_all_the_time_of_its_request_is_a_408() -> None:
    settings = Settings.model_validate({"server": {"request_timeout": "50ms", "read_timeout": "10s"}})

    async def reading(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()

    async def never() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    _, answers = asked(reading, settings, "POST", never)
    assert answers[0]["status"] == 408
    assert "server.request_timeout" in json.loads(answers[1]["body"])["detail"]


def test_whoever_is_cancelled_from_outside_is_cancelled() -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def slow(_scope: Any, _receive: Any, _send: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def send(_message: Any) -> None:
            raise AssertionError("nobody is there to be answered")

        async def receive() -> dict[str, Any]:
            raise AssertionError("nobody reads")

        scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []}
        serving = asyncio.create_task(edge_of(slow, Settings())(scope, receive, send))
        await begun.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(run())
