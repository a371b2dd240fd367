"""Asking again, by both transports: what is worth it, how long, and when it is enough."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from b25_client import AsyncClient, Client, ServiceUnavailable, StreamBroken, Unreachable
from b25_client.errors import ApiError
from b25_client.retries import Retries
from b25_client.stored_events import page_request

DASHBOARD = {
    "active_users": 1,
    "events_per_second": 1.0,
    "orders_placed": 1,
    "orders_filled": 1,
    "active_strategies": 1,
    "total_volume": 1.0,
    "average_latency": 1.0,
    "error_rate": 0.0,
    "custom_metrics": {},
    "last_updated": "2026-01-01T00:00:00Z",
}
HEALTH = {"status": "unhealthy", "database": "disconnected", "cache": "connected", "service": "analytics"}

Script = list[httpx.Response | type[httpx.RequestError]]


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a method of a client whose service answers by a script; `waits` gets the seconds waited."""

    def call(
        script: Script, method: str, *arguments: Any, waits: list[float] | None = None, **options: Any
    ) -> Any:
        steps = iter(script)
        slept = waits if waits is not None else []

        def answer(request: httpx.Request) -> httpx.Response:
            step = next(steps)
            if isinstance(step, httpx.Response):
                return step
            raise step("no", request=request)

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        transport = httpx.MockTransport(answer)
        if request.param == "blocking":
            monkeypatch.setattr("b25_client.transport.time.sleep", slept.append)
            with Client("http://service", transport=transport, **options) as client:
                found = getattr(client, method)(*arguments)
                return list(found) if isinstance(found, Iterator) else found
        monkeypatch.setattr("b25_client.transport.asyncio.sleep", sleep)

        async def run() -> Any:
            async with AsyncClient("http://service", transport=transport, **options) as client:
                found = getattr(client, method)(*arguments)
                return await found if inspect.isawaitable(found) else [one async for one in found]

        return asyncio.run(run())

    return call


def busy(status: int = 503, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"title": "busy"}, headers=headers)


def test_a_read_is_asked_again_after_what_passes(ask: Callable[..., Any]) -> None:
    waits: list[float] = []
    script: Script = [
        httpx.ConnectError,
        busy(429, **{"retry-after": "2"}),
        httpx.ReadTimeout,
        busy(502),
        httpx.Response(200, json=DASHBOARD),
    ]
    assert ask(script, "dashboard", retries=4, waits=waits).orders_filled == 1
    assert len(waits) == 4
    assert 2 <= waits[1] <= 2.7
    assert max(waits[0], waits[2], waits[3]) < 1


def test_enough_is_enough(ask: Callable[..., Any]) -> None:
    with pytest.raises(Unreachable, match="2 attempts"):
        ask([httpx.ConnectError] * 2, "dashboard", retries=1)
    with pytest.raises(ServiceUnavailable, match="busy"):
        ask([busy()] * 4, "dashboard")
    waits: list[float] = []
    with pytest.raises(ServiceUnavailable) as caught:
        ask([busy(**{"retry-after": "31"})], "dashboard", waits=waits)
    assert caught.value.retry_after == 31
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 501])
def test_what_does_not_pass_is_not_asked_again(ask: Callable[..., Any], status: int) -> None:
    with pytest.raises(ApiError) as caught:
        ask([busy(status)], "dashboard")
    assert caught.value.status == status


def test_a_write_is_never_sent_twice(ask: Callable[..., Any]) -> None:
    with pytest.raises(Unreachable):
        ask([httpx.ReadTimeout], "create_custom_event", "a", {})
    with pytest.raises(ServiceUnavailable):
        ask([busy()], "create_custom_event", "a", {})


def test_that_the_service_is_not_well_is_an_answer(ask: Callable[..., Any]) -> None:
    health = HEALTH | {"timestamp": "2026-01-01T00:00:00Z", "detail": "Postgres is away"}
    found = ask([httpx.Response(503, json=health)], "health")
    assert (found.is_ready, found.detail) == (False, "Postgres is away")
    problem = httpx.Response(503, json={"title": "t"}, headers={"content-type": "application/problem+json"})
    with pytest.raises(ServiceUnavailable):
        ask([problem], "health", retries=0)


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.ReadError("gone")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        raise httpx.ReadError("gone")


def test_an_export_is_asked_again_until_it_has_begun_and_never_after(ask: Callable[..., Any]) -> None:
    whole = httpx.Response(200, content=b'{"event_type":"a"}\n{"event_type":"b"}\n')
    found = ask([busy(), httpx.ConnectError, httpx.Response(200, stream=Pieces()), whole], "export_events")
    assert [one.event_type for one in found] == ["a", "b"]
    with pytest.raises(StreamBroken, match="broke off"):
        ask([httpx.Response(200, stream=Pieces(b'{"event_type":"a"}\n')), whole], "export_events")
    with pytest.raises(StreamBroken, match="no end"):
        ask([httpx.Response(200, content=b'{"event_type":"a"}\n{"ev')], "export_events")
    with pytest.raises(StreamBroken, match="no event"):
        ask([httpx.Response(200, content=b"<html>\n")], "export_events")
    with pytest.raises(StreamBroken, match="Arrow"):
        ask([httpx.Response(200, content=b"<html>")], "export_batches")


def test_waits_grow_and_are_spread() -> None:
    retries = Retries(most=5, random=lambda: 0.999)
    attempts = retries.attempts(page_request({}))
    waits = [attempts.after(httpx.ConnectError("no")) for _ in range(5)]
    assert waits == sorted(waits)
    assert 1 < waits[-1] < 2
    attempts = Retries(most=1, random=lambda: 0.0).attempts(page_request({}))
    assert attempts.after(httpx.ConnectError("no")) == 0
