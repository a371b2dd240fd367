"""The client's questions against the real service, blocking and for asyncio alike."""

import csv
import io
import json
import re
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pytest

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.storage.landing import Lander
from b25_client import (
    Conflict,
    EventsMessage,
    Filter,
    Forbidden,
    InvalidRequest,
    NotFound,
    Notice,
    NoticeKind,
    NotLanded,
    Producer,
    RateLimited,
    Result,
    ScanBudgetExceeded,
    StreamBroken,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
)
from b25_client.events import uuid7
from tests.integration.api_process import Process, started
from tests.integration.api_support import event, land
from tests.integration.client_support import Line, known_key, making, unique
from tests.integration.databases import fresh_database
from tests.integration.keyed_api import WRONG, revoke
from tests.integration.landing_rig import decode_inbox
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
HOUR = (datetime.now(UTC) - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
"""Start of an hour that no other event of these tests is in."""


@pytest.fixture(scope="module")
def module_database(postgres: Postgres, template_database: str) -> Iterator[str]:
    yield from fresh_database(postgres, template_database)


@pytest.fixture(scope="module")
def process(module_database: str, redis_server: Redis) -> Iterator[Process]:
    """With keys, a request a second beyond the first 100, news every 100 ms, and no patience with slow clients."""
    land(
        module_database,
        [
            event(
                "order.filled", HOUR + timedelta(minutes=minute), "u", symbol=symbol, price=price, quantity=2
            )
            for minute, symbol, price in ((1, "BTCUSDT", 10.5), (2, "ETHUSDT", 4), (61, "BTCUSDT", 11))
        ],
    )
    changes = {
        "B25_REDIS__ENABLED": "true",
        "B25_REDIS__HOST": redis_server.host,
        "B25_REDIS__PORT": str(redis_server.port),
        "B25_REDIS__PASSWORD": redis_server.password,
        "B25_SECURITY__API_KEY_ENABLED": "true",
        "B25_REALTIME__UPDATE_INTERVAL": "100ms",
        "B25_SECURITY__RATE_LIMIT__REQUESTS_PER_MINUTE": "60",
        "B25_SERVER__WRITE_TIMEOUT": "1s",
        "B25_ANALYTICS__QUERY__MAX_SCANNED": "1000",
    }
    with started(module_database, **changes) as running:
        wait_for(lambda: running.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        yield running


@pytest.fixture(scope="module")
def url(process: Process) -> str:
    return f"http://127.0.0.1:{process.ports['SERVER']}"


@pytest.fixture(params=["blocking", "asyncio"])
def make(request: pytest.FixtureRequest, url: str) -> Iterator[Callable[..., Any]]:
    """Makes clients: with `api_key` and other arguments; of either kind, called the same way."""
    with making(url, request.param) as client:
        yield client


@pytest.fixture
def key(module_database: str, url: str) -> Any:
    """Of this test alone, so that tests do not share a rate limit."""
    return known_key(module_database, url, "read", "write")


@pytest.fixture
def client(make: Callable[..., Any], key: Any) -> Any:
    return make(api_key=key.text)


def fill(database: str, kind: str, count: int, *, start: datetime, bytes: int = 900) -> None:
    """Events of a type, one a millisecond, without metrics."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO events (event_type, user_id, properties, timestamp)"
            " SELECT %s, 'u', jsonb_build_object('n', n, 'x', repeat('x', %s)), %s + n * interval '1 ms'"
            " FROM generate_series(0, %s - 1) AS n",
            (kind, bytes, start, count),
        )


def land_posted(database: str) -> None:
    lander = Lander(database, name="landing-test")
    while lander.land_inbox(20_000, decode_inbox) is not None:
        pass
    lander.close()


@pytest.mark.slow
def test_a_metric_comes_as_points_and_as_a_table(client: Any) -> None:
    asked = {"start_time": HOUR, "end_time": HOUR + timedelta(hours=2), "interval": "1h"}
    found = client.metrics("trading.total_volume", **asked)
    assert (found.metric_name, found.interval, found.aggregation) == ("trading.total_volume", "1h", "sum")
    assert (found.start_time, found.end_time) == (HOUR, HOUR + timedelta(hours=2))
    assert [(point.timestamp, point.value, point.dimensions) for point in found.points] == [
        (HOUR, 29.0, {}),
        (HOUR + timedelta(hours=1), 22.0, {}),
    ]
    table = client.metrics("trading.total_volume", group_by=["symbol"], **asked).to_arrow()
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert sorted(table.select(["timestamp", "symbol", "value"]).to_pylist(), key=str) == sorted(
        [
            {"timestamp": HOUR, "symbol": "BTCUSDT", "value": 21.0},
            {"timestamp": HOUR, "symbol": "ETHUSDT", "value": 8.0},
            {"timestamp": HOUR + timedelta(hours=1), "symbol": "BTCUSDT", "value": 22.0},
        ],
        key=str,
    )
    assert client.metrics("no.such.metric").warnings
    assert client.metrics("no.such.metric").to_arrow().num_rows == 0


def test_metrics_take_every_parameter(client: Any) -> None:
    asked = {"start_time": HOUR, "end_time": HOUR + timedelta(hours=2), "interval": "1h"}
    volume, fills = client.several_metrics(["trading.total_volume", "events.count.order.filled"], **asked)
    assert [point.value for point in volume.points] == [29.0, 22.0]
    assert (fills.metric_name, [point.value for point in fills.points]) == (
        "events.count.order.filled",
        [2, 1],
    )
    assert (volume.precision, volume.relative_error, volume.time_zone) == ("exact", 0.0, "UTC")
    [of_eth] = client.metrics(
        "trading.total_volume", dimension=Filter("symbol", "eq", "ETHUSDT"), **asked
    ).points
    assert (of_eth.value, of_eth.is_pending) == (8.0, True)
    top = client.metrics("trading.total_volume", group_by="symbol", top=1, order="desc", **asked)
    assert {(point.dimensions["symbol"], point.value) for point in top.points} == {
        ("BTCUSDT", 21.0),
        ("BTCUSDT", 22.0),
        ("__other__", 8.0),
    }
    pages = list(client.metric_pages("trading.total_volume", group_by="symbol", limit=1, **asked))
    assert [len(page.points) for page in pages] == [1, 1, 1]
    compared = client.metrics("trading.total_volume", compare="1d", fill="null", explain=True, **asked)
    assert compared.explain
    assert [(point.value, point.compared) for point in compared.points] == [(29.0, None), (22.0, None)]
    assert {"compared", "change", "change_percent", "state"} <= set(compared.to_arrow().schema.names)
    filled = client.metrics("events.count.user.logout", fill="zero", **asked)
    assert [(point.value, point.is_filled) for point in filled.points] == [(0, True), (0, True)]
    berlin = client.metrics(
        "trading.total_volume", interval="1d", time_zone="Europe/Berlin", last=timedelta(days=1)
    )
    assert berlin.time_zone == "Europe/Berlin"


def test_a_question_that_makes_no_sense_is_an_error_with_everything_the_service_said(client: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.metrics("events.count", interval="2h")
    error = caught.value
    assert (error.status, error.kind, error.extra["parameter"]) == (400, "invalid-parameter", "interval")
    assert error.type.startswith("urn:")
    assert error.request_id
    assert error.detail in str(error)
    with pytest.raises(TypeError, match="colour"):
        client.metrics("events.count", colour="red")
    with pytest.raises(ValueError, match="zone"):
        client.metrics("events.count", start_time=datetime(2026, 1, 1))  # noqa: DTZ001


def test_pages_lead_through_all_events_both_ways_while_others_arrive(
    client: Any, module_database: str
) -> None:
    kind, start = unique("walk"), datetime.now(UTC) - timedelta(hours=1)
    fill(module_database, kind, 25, start=start, bytes=1)
    seen = []
    for stored in client.events(event_type=kind, limit=10):
        if not seen:
            fill(module_database, kind, 5, start=datetime.now(UTC) - timedelta(minutes=1), bytes=1)
        seen.append(stored.properties["n"])
    assert seen == list(range(24, -1, -1))
    asked = {"event_type": kind, "user_id": "u", "limit": 10, "end_time": start + timedelta(minutes=1)}
    pages = list(client.event_pages(**asked, total="exact"))
    assert [len(page.events) for page in pages] == [10, 10, 5]
    assert (pages[0].total, pages[0].is_total_exact, pages[1].total) == (25, True, None)
    back = list(client.event_pages(**asked, cursor=pages[-1].previous_cursor, is_back=True))
    assert [page.events for page in back] == [pages[1].events, pages[0].events]


def test_filters_find_by_type_and_value(client: Any, module_database: str) -> None:
    kind = unique("filter")
    rows = [("a", 5), ("b", "5"), ("c, d", True), ("prefix-e", None), ("f", 7.5)]
    land(module_database, [event(kind, datetime.now(UTC), "u", name=name, v=value) for name, value in rows])

    def names(*filters: Filter | str) -> set[str]:
        found = client.events(
            event_type=kind, property=list(filters), fields=["properties.name", "timestamp"]
        )
        events = list(found)
        assert all(one.id is None and one.timestamp is not None for one in events)
        return {one.values["name"] for one in events}

    assert names(Filter("v", "eq", 5)) == {"a"}
    assert names(Filter("v", "eq", "5")) == {"b"}
    assert names(Filter("v", "eq", True)) == {"c, d"}
    assert names(Filter("v", "eq", None)) == {"prefix-e"}
    assert names(Filter("name", "eq", "c, d")) == {"c, d"}
    assert names(Filter("v", "gt", 5), Filter("v", "lte", 7.5)) == {"f"}
    assert names(Filter("v", "in", [5, "5"])) == {"a", "b"}
    assert names(Filter("name", "prefix", "prefix-")) == {"prefix-e"}
    assert names(Filter("v", "exists", True), "name:ne:a") == {"b", "c, d", "prefix-e", "f"}
    assert list(client.events(event_type=[unique("x"), kind], user_id="other")) == []


def test_a_search_goes_on_beyond_its_budget(client: Any, module_database: str) -> None:
    kind, start = unique("search"), datetime.now(UTC) - timedelta(hours=2)
    fill(module_database, kind, 3_500, start=start, bytes=1)
    asked = {"event_type": kind, "property": Filter("n", "eq", 3)}
    with pytest.raises(ScanBudgetExceeded) as caught:
        client.events_page(**asked)
    assert caught.value.next_cursor
    assert [found.properties["n"] for found in client.events(**asked)] == [3]


@pytest.mark.slow
def test_exports_are_whole_and_take_no_memory_for_more(client: Any, module_database: str) -> None:
    kind, start = unique("export"), datetime.now(UTC) - timedelta(hours=1)
    fill(module_database, kind, 6_000, start=start, bytes=2_000)
    asked = {"event_type": kind, "order": "asc"}
    tracemalloc.start()
    try:
        count = size = 0
        for stored in client.export_events(**asked):
            assert stored.properties["n"] == count
            count += 1
            size += len(stored.properties["x"])
        assert (count, size) == (6_000, 6_000 * 2_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    batches = client.export_batches(**asked, fields=["timestamp", "properties.n"])
    table = pa.Table.from_batches(list(batches))
    assert table["timestamp"][0].as_py() == start
    assert [int(n) for n in table["properties.n"].to_pylist()] == list(range(6_000))
    text = b"".join(client.export_bytes("csv", **asked, fields="properties.n")).decode()
    assert [row["properties.n"] for row in csv.DictReader(io.StringIO(text))] == [
        str(n) for n in range(6_000)
    ]
    lines = b"".join(client.export_bytes("ndjson", **asked, fields="properties.n")).splitlines()
    assert json.loads(lines[-1]) == {"properties.n": 5_999}


def test_an_export_that_broke_off_is_not_taken_for_a_whole_one(
    make: Callable[..., Any], key: Any, process: Process, module_database: str
) -> None:
    kind = unique("broken")
    fill(module_database, kind, 20_000, start=datetime.now(UTC) - timedelta(hours=1))
    line = Line(process.ports["SERVER"])
    client = make(f"http://127.0.0.1:{line.port}", api_key=key.text)
    for form in ("events", "batches"):
        stored = getattr(client, f"export_{form}")(event_type=kind)
        next(stored)
        line.cut()
        with pytest.raises(StreamBroken):
            list(stored)
    line.close()


def test_counts_dashboard_and_health(client: Any) -> None:
    counts = client.event_statistics(start_time=HOUR, end_time=HOUR + timedelta(hours=2), interval="1h")
    assert (counts.total_events, counts.by_type) == (3, {"order.filled": 3})
    assert [(one.timestamp, one.total_events) for one in counts.buckets] == [
        (HOUR, 2),
        (HOUR + timedelta(hours=1), 1),
    ]
    assert client.event_statistics().end_time > HOUR
    shown = client.dashboard()
    assert shown.active_users >= 0
    assert abs(shown.last_updated - datetime.now(UTC)) < timedelta(seconds=30)
    health = client.health()
    assert (health.status, health.database, health.cache, health.is_ready) == (
        "healthy",
        "connected",
        "connected",
        True,
    )


def test_what_was_posted_is_read_as_soon_as_it_has_landed(
    client: Any, key: Any, url: str, module_database: str
) -> None:
    kind = unique("posted")
    results: list[Result] = []
    with Producer(url, api_key=key.text, on_result=results.append) as producer:
        producer.send(kind, {"n": 1})
    [result] = results
    assert result.landing is not None
    waiting = client.landing(result.landing)
    assert (waiting.has_landed, waiting.events) == (False, 1)
    with pytest.raises(NotLanded):
        client.wait_for_landing(result.landing, timeout=0)
    landing = threading.Thread(target=land_posted, args=(module_database,))
    landing.start()
    landed = client.wait_for_landing(result.landing, timeout=20)
    landing.join()
    assert client.metrics(f"events.count.{kind}", interval="1m", after=result.landing).points[0].value == 1
    assert client.dashboard(after=result.landing).events_per_second > 0
    assert client.event_statistics(after=result.landing).by_type[kind] == 1
    assert [one.id for one in client.events(after=result.landing, event_type=kind)] == [result.id]
    assert client.event(result.id).properties == {"n": 1}
    assert client.event(result.id, timestamp=result.timestamp).event_type == kind
    with pytest.raises(NotFound):
        client.event(uuid7(result.timestamp))
    assert (landed.has_landed, landed.stored, landed.dead, landed.exceptions) == (True, 1, 0, ())
    assert [stored.id for stored in client.events(event_type=kind)] == [result.id]
    with pytest.raises(NotFound):
        client.landing("nonsense")


def test_definitions_of_custom_events(client: Any) -> None:
    name, schema = unique("my/signal ü"), {"properties": {"strength": {"type": "number"}}}
    made = client.create_custom_event(name, schema, display_name="Signal", is_active=False)
    assert (made.name, made.schema, made.display_name, made.is_active, made.version) == (
        name,
        schema,
        "Signal",
        False,
        1,
    )
    assert client.custom_event(name) == made
    with pytest.raises(Conflict):
        client.create_custom_event(name, schema)
    with pytest.raises(NotFound):
        client.custom_event(unique("other"))


def test_a_key_is_asked_for_and_never_shown(
    make: Callable[..., Any],
    url: str,
    module_database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(Unauthorized) as caught:
        make().dashboard()
    assert caught.value.kind == "api-key-required"
    with pytest.raises(Unauthorized) as caught:
        make(api_key=WRONG).dashboard()
    assert caught.value.kind == "invalid-api-key"
    writer = known_key(module_database, url, "write")
    with pytest.raises(Forbidden):
        make(api_key=writer.text).dashboard()
    reader = known_key(module_database, url, "read")
    monkeypatch.setenv("ANALYTICS_API_KEY", reader.text)
    client = make()
    assert client.dashboard()
    inner = getattr(client, "_client", client)
    shown = repr(client) + str(vars(inner)) + repr(inner._transport.http.headers) + caplog.text
    assert url in repr(client)
    for text in (reader.text, writer.text, WRONG):
        assert text.rpartition("_")[2] not in shown


@pytest.mark.slow
def test_what_a_key_does_not_see_is_refused(make: Callable[..., Any], url: str, module_database: str) -> None:
    part = known_key(module_database, url, "read", event_types=["order.*"])
    client = make(api_key=part.text)
    assert {stored.event_type for stored in client.events(start_time=HOUR)} == {"order.filled"}
    with pytest.raises(Forbidden) as caught:
        client.dashboard()
    assert caught.value.kind == "outside-key"


@pytest.mark.slow
@pytest.mark.parametrize("make", ["asyncio"], indirect=True)
def test_a_read_above_the_rate_limit_waits_and_is_answered(
    make: Callable[..., Any], key: Any, url: str
) -> None:
    def exhaust() -> None:
        with httpx.Client(headers={"X-API-Key": key.text}) as other:
            while other.get(f"{url}/api/v1/session").status_code != 429:
                pass

    exhaust()
    with pytest.raises(RateLimited) as caught:
        make(api_key=key.text, retries=0).dashboard()
    assert caught.value.retry_after == 1
    with pytest.raises(RateLimited):
        make(api_key=key.text, longest_wait=0.5).dashboard()
    assert make(api_key=key.text).dashboard()


def test_where_nobody_answers_or_somebody_else_does(make: Callable[..., Any]) -> None:
    with pytest.raises(Unreachable, match="3 attempts"):
        make(f"http://127.0.0.1:{free_port()}", retries=2).dashboard()
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(Unreachable, match="ReadTimeout"):
        make(f"http://127.0.0.1:{deaf.getsockname()[1]}", retries=0, timeout=0.2).dashboard()


def test_another_service_is_not_understood(make: Callable[..., Any], process: Process) -> None:
    with pytest.raises(NotFound):
        make(f"http://127.0.0.1:{process.ports['METRICS']}").dashboard()
    with pytest.raises(UnexpectedAnswer):
        make(f"http://127.0.0.1:{process.ports['METRICS']}/metrics?x=").dashboard()


@pytest.mark.slow
def test_a_tail_goes_on_behind_the_last_event_when_the_connection_breaks(
    make: Callable[..., Any], key: Any, process: Process, module_database: str
) -> None:
    kind = unique("tail")
    line = Line(process.ports["SERVER"])
    client = make(f"http://127.0.0.1:{line.port}", api_key=key.text)
    notices: list[Notice] = []
    told = client.stream_events(event_type=[kind], fields=["properties.n"], on_notice=notices.append)
    first = begin(told, lambda n: land(module_database, [event(kind, datetime.now(UTC), "u", n=n)]))
    line.cut()
    land(module_database, [event(kind, datetime.now(UTC), "u", n=n) for n in ("a", "b")])
    numbers = [one.values["n"] for one in next(told).events]
    while numbers[-2:] != ["a", "b"]:
        numbers += [one.values["n"] for one in next(told).events]
    assert [notice.kind for notice in notices] == [NoticeKind.BROKEN]
    numbers += [one.values["n"] for one in first.events]
    assert len(set(numbers)) == len(numbers)
    told.close()
    line.close()


def begin(told: Iterator[Any], land_one: Callable[[int], Any]) -> EventsMessage:
    """Land one event after the other until the stream tells of one."""
    is_told = threading.Event()

    def keep_landing() -> None:
        number = 0
        while not is_told.wait(0.2):
            land_one(number)
            number += 1

    landing = threading.Thread(target=keep_landing)
    landing.start()
    try:
        return next(told)
    finally:
        is_told.set()
        landing.join()


@pytest.mark.slow
@pytest.mark.parametrize("make", ["blocking"], indirect=True)
def test_a_reader_that_is_too_slow_is_told_so_and_misses_nothing(
    make: Callable[..., Any], key: Any, process: Process, module_database: str
) -> None:
    kind = unique("heavy")
    notices: list[Notice] = []
    told = make(api_key=key.text).stream_events(event_type=kind, on_notice=notices.append)
    seen = [
        one.id
        for one in begin(told, lambda n: fill(module_database, kind, 1, start=datetime.now(UTC))).events
    ]

    def is_dropped_after_more() -> bool:
        """What is told fills the buffers on the way until the service can say no more."""
        fill(module_database, kind, 3, start=datetime.now(UTC), bytes=600_000)
        return "analytics_api_open_streams 0.0" in process.ask("METRICS", "/metrics")[1]

    wait_for(is_dropped_after_more, timeout=20, message="dropped")
    assert notices == []
    with psycopg.connect(module_database) as connection:
        rows = connection.execute("SELECT id FROM events WHERE event_type = %s", (kind,)).fetchall()
    while len(seen) < len(rows):
        message = next(told)
        assert not message.has_gap
        seen += [one.id for one in message.events]
    assert {*seen} == {row[0] for row in rows}
    assert [notice.kind for notice in notices] == [NoticeKind.TOO_SLOW]
    assert notices[0].behind > 1
    told.close()


@pytest.mark.slow
@pytest.mark.parametrize("make", ["asyncio"], indirect=True)
def test_a_stream_ends_with_its_key(
    make: Callable[..., Any], url: str, process: Process, module_database: str
) -> None:
    mine = known_key(module_database, url, "read")
    notices: list[Notice] = []
    told = make(api_key=mine.text).stream_dashboard(on_notice=notices.append)
    assert next(told).active_users >= 0
    revoke(module_database, mine)
    with pytest.raises(Unauthorized):
        list(told)
    assert [notice.kind for notice in notices] == [NoticeKind.ENDED]
    assert "key" in notices[0].detail


def test_a_metric_is_told_whole_and_then_by_its_changes(client: Any, module_database: str) -> None:
    told = client.stream_metrics("events.count.user.login", interval="1h")
    whole = next(told)
    assert [one.points for one in whole.metrics] == [whole.points]
    land(module_database, [event("user.login", datetime.now(UTC), "u")])
    changed = next(told)
    assert changed.metrics == ()
    assert changed.points[-1].value >= 1
    told.close()


def test_a_stream_that_makes_no_sense_is_refused_at_once(client: Any) -> None:
    with pytest.raises(InvalidRequest):
        next(client.stream_events(last_event_id="x"))
    with pytest.raises(InvalidRequest):
        next(client.stream_metrics("events.count", interval="2h"))


def test_a_stream_to_nobody_is_given_up(make: Callable[..., Any]) -> None:
    told = make(f"http://127.0.0.1:{free_port()}", api_key="x").stream_dashboard(give_up_after=0.05)
    with pytest.raises(Unreachable):
        next(told)


EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python-client.md").read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_a_documented_program_runs(
    number: int,
    url: str,
    module_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ANALYTICS_API_KEY", known_key(module_database, url, "admin").text)
    monkeypatch.chdir(tmp_path)
    program = EXAMPLES[number].replace("http://localhost:9097", url)
    with happening(module_database):
        exec(compile(program, f"example {number}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


_RESTATEMENT = """
INSERT INTO metric_restatements (
    reason, run_id, interval, time_bucket, revision, metric_id, metric_name, old_count, old_sum, new_count, new_sum
) VALUES ('late', 'run', '1h', %s, 2, 'm', 'trading.total_volume', 1, 10, 2, 21)
"""


@contextmanager
def happening(database: str) -> Iterator[None]:
    """Orders are filled, what was posted lands, and a bucket of the past changes again and again."""
    is_over = threading.Event()

    def keep_landing() -> None:
        while not is_over.wait(0.1):
            values = {"symbol": "BTCUSDT", "price": 11, "quantity": 1, "latency_ms": 3}
            land(database, [event("order.filled", datetime.now(UTC), "u", **values)])
            land_posted(database)
            with psycopg.connect(database) as connection:
                connection.execute(_RESTATEMENT, (HOUR - timedelta(days=2),))

    landing = threading.Thread(target=keep_landing)
    landing.start()
    try:
        yield
    finally:
        is_over.set()
        landing.join()
