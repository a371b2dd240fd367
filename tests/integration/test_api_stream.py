"""Server-sent events over real connections: what is told, in which order, and how a stream ends."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx
import psycopg
import pytest

from analytics_pipeline.events.reach import EVERYTHING
from analytics_pipeline.local_stack.postgres import Postgres
from api.events.cursors import Row
from api.events.listing import read_event_list
from api.stream.channels import EventTail, Metric
from tests.integration.api_process import Process, started
from tests.integration.api_support import Api, event, land, running, settings_for
from tests.integration.databases import fresh_database
from tests.waiting import wait_for

_FAST = {"B25_REALTIME__UPDATE_INTERVAL": "100ms"}


class Listener:
    """Reads one stream, message by message."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def next(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds: its data, and its id as `id`."""
        found: dict[str, str] = {}
        for line in self._lines:
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif found.get("event") in kinds:
                return json.loads(found["data"]) | {"id": found.get("id", "")}
            else:
                found = {}
        raise AssertionError(f"the stream ended before {kinds}")


@contextmanager
def listening(process: Process, path: str, **headers: str) -> Iterator[Listener]:
    url = f"http://127.0.0.1:{process.ports['SERVER']}/api/v1/stream/{path}"
    with httpx.stream("GET", url, timeout=20, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Listener(answer.iter_lines())


@pytest.fixture(scope="module")
def module_database(postgres: Postgres, template_database: str) -> Iterator[str]:
    yield from fresh_database(postgres, template_database)


@pytest.fixture(scope="module")
def process(module_database: str) -> Iterator[Process]:
    with started(module_database, **_FAST) as running:
        wait_for(lambda: running.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        yield running


def some(kind: str, seconds: float = 0.0, **properties: Any) -> dict[str, Any]:
    return event(kind, datetime.now(UTC) - timedelta(seconds=seconds), "u", **properties)


def test_the_dashboard_follows_what_lands(process: Process, module_database: str) -> None:
    with listening(process, "dashboard") as told:
        before = told.next("dashboard")["orders_placed"]
        land(module_database, [some("order.placed")])
        deadline = time.monotonic() + 10
        while told.next("dashboard")["orders_placed"] != before + 1:
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_a_dashboard_goes_on_behind_the_last_that_was_seen(process: Process, module_database: str) -> None:
    with listening(process, "dashboard") as told:
        seen = told.next("dashboard")
    for number in range(6):  # within the same second nothing is new, so whoever forgets would tell it again
        last = seen["id"]
        resumed = {"Last-Event-ID": last} if number % 2 else {}
        with listening(
            process, "dashboard" if resumed else f"dashboard?last_event_id={last}", **resumed
        ) as told:
            seen = told.next("dashboard")
        assert seen["id"] != last
    placed = seen["orders_placed"]
    land(module_database, [some("order.placed")])
    with listening(process, "dashboard", **{"Last-Event-ID": seen["id"]}) as told:
        deadline = time.monotonic() + 10
        while told.next("dashboard")["orders_placed"] != placed + 1:
            assert time.monotonic() < deadline


def test_a_metric_begins_whole_and_goes_on_with_its_changes(process: Process, module_database: str) -> None:
    land(module_database, [some("order.filled", 3_700), some("order.filled")])
    with listening(process, "metrics?metric_name=events.count.order.filled&interval=1h") as told:
        whole = told.next("snapshot")["result"]["data_points"]
        assert len(whole) >= 2
        land(module_database, [some("order.filled")])
        [changed] = told.next("points")["data_points"]
        assert changed["timestamp"] == max(point["timestamp"] for point in [*whole, changed])


def test_a_metric_is_told_again_only_if_it_is_another(process: Process, module_database: str) -> None:
    day = (datetime.now(UTC) - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    asked = urlencode({
        "metric_name": "events.count.order.canceled", "interval": "1h",
        "start_time": day.isoformat(), "end_time": (day + timedelta(hours=2)).isoformat(),
    })  # fmt: skip

    def count(answer: dict[str, Any]) -> float:
        return sum(point["value"] for point in answer.get("result", answer)["data_points"])

    def landed() -> None:
        ago = (datetime.now(UTC) - day - timedelta(minutes=30)).total_seconds()
        land(module_database, [some("order.canceled", ago)])

    landed()
    with listening(process, f"metrics?{asked}") as told:
        seen = told.next("snapshot")
    for number in range(4):
        last = seen["id"]
        again, header = (
            (asked, {"Last-Event-ID": last}) if number % 2 else (f"{asked}&last_event_id={last}", {})
        )
        with listening(process, f"metrics?{again}", **header) as told:
            landed()
            # Whole, if it landed before the first look.
            before, seen = seen, told.next("snapshot", "points")
        assert count(seen) == count(before) + 1


def test_events_are_told_as_they_land_and_again_from_the_last_one_on(
    process: Process, module_database: str
) -> None:
    with listening(process, "events?event_type=user.login&property=n:gte:1&fields=properties.n") as told:
        for number in (0, 1, 2):
            land(module_database, [some("user.login", n=number), some("user.logout", n=number)])
        seen: list[int] = []
        last = ""
        while len(seen) < 2:
            message = told.next("events")
            assert not message["has_gap"]
            seen += [row["properties.n"] for row in message["events"]]
            last = message["id"]
        assert seen == [1, 2]
    land(module_database, [some("user.login", n=3)])
    with listening(
        process, "events?event_type=user.login&fields=properties.n", **{"Last-Event-ID": last}
    ) as told:
        assert [row["properties.n"] for row in told.next("events")["events"]] == [3]


def test_more_than_can_be_told_leaves_a_gap(process: Process, module_database: str) -> None:
    with listening(process, "events?event_type=page.view") as told:
        land(module_database, [some("page.view", n=number) for number in range(300)])
        rows, has_gap = [], False
        while not rows or rows[-1]["properties"]["n"] != 299:
            message = told.next("events")
            rows, has_gap = rows + message["events"], has_gap or message["has_gap"]
        assert has_gap or len(rows) == 300


def test_who_comes_back_is_told_all_that_was_missed(process: Process, module_database: str) -> None:
    path = "events?event_type=button.click&fields=properties.n"
    with listening(process, path) as told:
        land(module_database, [some("button.click", n=-1)])
        last = told.next("events")["id"]
    land(module_database, [some("button.click", n=number) for number in range(6_500)])
    with listening(process, path, **{"Last-Event-ID": last}) as told:
        seen: list[int] = []
        while len(seen) < 6_500:
            message = told.next("events")
            assert not message["has_gap"]
            assert len(message["events"]) <= 200
            seen += [row["properties.n"] for row in message["events"]]
        assert sorted(seen) == list(range(6_500))


def test_a_rare_filter_misses_nothing_when_it_comes_back(api: Api, module_database: str) -> None:
    land(module_database, [some("seldom", 20 - n / 10, n=int(n == 25)) for n in range(30)])
    tail = tail_of(api, "seldom", most_seen=10)
    tail.is_catching_up = True
    assert [told(api, tail) for _ in range(3)] == [[], [], [(1, False)]]


def test_a_metric_is_told_whole_again_when_points_of_it_are_gone(api: Api, module_database: str) -> None:
    def fill(symbol: str, quantity: int) -> None:
        land(module_database, [some("order.filled", symbol=symbol, price=1, quantity=quantity)])

    query = b"metric_name=trading.total_volume&group_by=symbol&top=1&interval=1d&last=2d"
    channel = Metric(api.services.reads, "/api/v1/metrics", query, EVERYTHING)
    found: list[tuple[str, dict[str, float]]] = []

    def values() -> dict[str, float]:
        for change in api.run(channel.changes()):
            content = json.loads(change.data)
            points = content.get("result", content)["data_points"]
            found.append((change.event, {point["dimensions"]["symbol"]: point["value"] for point in points}))
        return found[-1][1] if found else {}

    fill("AA", 5)
    fill("BB", 3)
    wait_for(lambda: values() == {"AA": 5, "__other__": 3}, message="the first answer")
    fill("AA", 1)
    wait_for(lambda: values() == {"AA": 6}, message="the change of a point")
    assert found[-1][0] == "points"
    fill("BB", 9)
    wait_for(lambda: values() == {"BB": 12, "__other__": 6}, message="the change of the top")
    assert found[-1][0] == "snapshot"


@pytest.fixture
def api(module_database: str) -> Iterator[Api]:
    with running(settings_for(module_database)) as running_api:
        yield running_api


def tail_of(api: Api, kind: str, *, most_seen: int) -> EventTail:
    """Of events that have n=1, from a minute ago on."""
    begun = datetime.now(UTC) - timedelta(minutes=1)
    wanted = read_event_list(
        f"event_type={kind}&property=n:eq:1".encode(), now=begun, default_limit=1, max_results=1
    )
    return EventTail(api.services.database, wanted, Row(begun, UUID(int=0)), begun, most_seen)


def told(api: Api, tail: EventTail) -> list[tuple[int, bool]]:
    """How many events a look tells, and whether it says that others were left out."""
    contents = [json.loads(change.data) for change in api.run(tail.changes())]
    return [(len(content["events"]), content["has_gap"]) for content in contents]


def test_what_a_rare_filter_looked_through_is_not_looked_through_again(
    api: Api, module_database: str
) -> None:
    land(module_database, [some("rare", 20, n=0) for _ in range(30)])
    tail = tail_of(api, "rare", most_seen=10)
    assert told(api, tail) == [(0, True)]
    assert told(api, tail) == []
    whole = tail_of(api, "rare", most_seen=100)
    assert told(api, whole) == []
    land(module_database, [some("rare", 2, n=1)])  # on its way for two seconds
    assert told(api, whole) == [(1, False)]


def test_a_tail_goes_back_as_far_as_a_source_stands_still(api: Api, module_database: str) -> None:
    tail = tail_of(api, "behind", most_seen=100)
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ingest_offsets (source, partition, next_offset, caught_up_at) VALUES ('slow', 0, 0, %s)",
            (datetime.now(UTC) - timedelta(seconds=40),),
        )
        try:
            assert told(api, tail) == []
            land(module_database, [some("behind", 30, n=1)])
            assert told(api, tail) == [(1, False)]
        finally:
            connection.execute("DELETE FROM ingest_offsets WHERE source = 'slow'")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("metrics", 400),
        ("metrics?metric_name=events.count&interval=2h", 400),
        ("events?last_event_id=x", 400),
        ("other", 404),
    ],
)
def test_questions_that_make_no_sense_are_refused_at_once(process: Process, path: str, status: int) -> None:
    url = f"http://127.0.0.1:{process.ports['SERVER']}/api/v1/stream/{path}"
    answer = httpx.get(url, timeout=10)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.slow
def test_streams_are_counted_limited_and_end_with_the_process(database: str) -> None:
    with started(database, **_FAST, B25_REALTIME__MAX_CONNECTIONS="2") as process:
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        with listening(process, "dashboard") as first, listening(process, "dashboard") as second:
            first.next("dashboard")
            second.next("dashboard")
            refused = httpx.get(
                f"http://127.0.0.1:{process.ports['SERVER']}/api/v1/stream/dashboard", timeout=10
            )
            assert refused.status_code == 503
            assert refused.json()["type"].endswith("too-many-streams")
            assert refused.headers["retry-after"]
            assert "analytics_api_open_streams 2.0" in process.ask("METRICS", "/metrics")[1]
            began = time.monotonic()
            process.running.send_signal(signal.SIGTERM)
            first.next("bye")
            second.next("bye")
        assert process.running.wait(20) == 0
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_client_that_goes_leaves_its_place(database: str) -> None:
    with started(database, **_FAST, B25_REALTIME__MAX_CONNECTIONS="1") as process:
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        for _ in range(3):
            with listening(process, "dashboard") as told:
                told.next("dashboard")
            wait_for(
                lambda: "analytics_api_open_streams 0.0" in process.ask("METRICS", "/metrics")[1],
                timeout=10,
                message="no open streams",
            )


@pytest.mark.slow
def test_a_listener_that_does_not_read_is_dropped_and_others_are_told(database: str) -> None:
    """What lands meanwhile fills the connection of the one, and comes to the other."""
    with started(database, B25_SERVER__WRITE_TIMEOUT="1s", B25_REALTIME__UPDATE_INTERVAL="10ms") as process:
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        path = "events?event_type=user.login"

        def opened(wanted: int) -> bool:
            return f"analytics_api_open_streams {wanted}.0" in process.ask("METRICS", "/metrics")[1]

        with socket.socket() as deaf, listening(process, path) as told:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", process.ports["SERVER"]))
            deaf.sendall(f"GET /api/v1/stream/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            deaf.settimeout(20)
            deaf.recv(100)
            wait_for(lambda: opened(2), timeout=10, message="two streams")
            deadline, number = time.monotonic() + 60, 0
            while not opened(1):
                assert time.monotonic() < deadline, "the deaf listener was kept"
                number += 1
                land(database, [some("user.login", n=number, x="x" * 30_000) for _ in range(20)])
                while told.next("events")["events"][-1]["properties"]["n"] != number:
                    assert time.monotonic() < deadline, "the other listener was not told"


@pytest.mark.slow
def test_a_client_that_does_not_read_is_dropped(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO events (event_type, properties, timestamp)"
            " SELECT 'a', jsonb_build_object('x', repeat('x', 900)), now() - interval '1 minute' + n * interval '1 ms'"
            " FROM generate_series(1, 60000) AS n"
        )
    with started(database, B25_SERVER__WRITE_TIMEOUT="1s", B25_REALTIME__UPDATE_INTERVAL="10ms") as process:
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        with socket.create_connection(("127.0.0.1", process.ports["SERVER"])) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            start = (datetime.now(UTC) - timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
            deaf.sendall(
                f"GET /api/v1/events?format=ndjson&start_time={start} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            deaf.settimeout(20)
            deaf.recv(100)
            # Counted when it is over, as broken off: while it goes on, it is not in the metrics.
            counted = 'route="/api/v1/events",status="200"'
            wait_for(lambda: counted in process.ask("METRICS", "/metrics")[1], timeout=20, message="dropped")
