"""Where the time of a request went."""

import asyncio
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from analytics_pipeline.settings import Settings
from api import timing
from api.timing import Timing, begin, spending
from tests.unit.api.test_edge import edge_of

Headers = dict[bytes, bytes]


def test_names_come_in_one_order_and_times_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.5, 2.0, 2.25, 3.0, 3.0005])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = begin()
    with spending("db"):
        pass
    with spending("cache"):
        pass
    with spending("db"):
        pass
    assert found.text(4.0) == b"cache;dur=250.000, db;dur=500.500, total;dur=4000.000"
    assert Timing().text(0.00001) == b"total;dur=0.010"


def test_work_of_nobody_is_not_counted() -> None:
    async def alone() -> None:
        with spending("db"):
            pass

    asyncio.run(alone())


def test_tasks_of_a_request_count_for_it_and_for_no_other() -> None:
    async def work() -> None:
        with spending("db"):
            await asyncio.sleep(0)

    async def request() -> Timing:
        found = begin()
        await asyncio.create_task(work())
        return found

    async def both() -> list[Timing]:
        return await asyncio.gather(asyncio.create_task(request()), asyncio.create_task(request()))

    one, two = asyncio.run(both())
    assert one.spent.keys() == two.spent.keys() == {"db"}
    assert one.spent is not two.spent


async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
    with spending("db"):
        raise RuntimeError("broken")


async def answering(_scope: Any, _receive: Any, send: Any) -> None:
    with spending("wait"):
        await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("application", "method", "path", "headers", "pattern"),
    [
        (answering, "GET", "/cached", {}, rb"cache;desc=hit, total;dur=[0-9.]+"),
        (answering, "GET", "/things/1", {}, rb"wait;dur=[0-9.]+, total;dur=[0-9.]+"),
        (answering, "POST", "/direct", {}, rb"total;dur=[0-9.]+"),
        (answering, "POST", "/direct", {b"content-encoding": b"br"}, rb"total;dur=[0-9.]+"),
        (answering, "GET", "/things/1", {b"host": b"example.org"}, rb"total;dur=[0-9.]+"),
        (failing, "GET", "/things/1", {}, rb"db;dur=[0-9.]+, total;dur=[0-9.]+"),
    ],
)
def test_every_answer_has_the_header_once(
    application: Callable[..., Any], method: str, path: str, headers: Headers, pattern: bytes
) -> None:
    found: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.extend(value for name, value in message["headers"] if name == b"server-timing")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "client": ("127.0.0.1", 1),
        "headers": list(headers.items()),
    }  # fmt: skip
    asyncio.run(edge_of(application, Settings())(scope, receive, send))
    [value] = found
    assert re.fullmatch(pattern, value), value
