"""The whole table of strange inputs on the real Kafka, the real API and the real Postgres.

Each stands between two good ones. What lands is read back from Postgres and compared with what was sent; what does not
is a dead letter with its bytes, or a 4xx with the same reason.
"""

import contextlib
import gzip
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage.definitions import put_definition
from tests.integration.api_process import Process, started
from tests.integration.databases import database_copy
from tests.integration.ingest_process import Ingest, ingest, produce, wait_until_landed, write_config
from tests.integration.landing_rig import check_books, event, rows, value
from tests.unit.events.bad_inputs import DEFINED, JUDGED, OK, Case, live
from tests.unit.events.test_json_schema import ACCEPTED, REFUSED
from tests.waiting import wait_for

EVENTS, CUSTOM = "/api/v1/events", "/api/v1/custom-events"
RETENTION = timedelta(days=2)
TOPIC = "bad.inputs"
MOST_BYTES = 4_000_000


class Pipe(NamedTuple):
    """Everything between a producer and `events`."""

    database: str
    kafka: str
    ingest: Ingest
    api: Process

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.api.ports["SERVER"], timeout=20)
        try:
            connection.putrequest(method, path)
            is_chunked = isinstance(body, Iterator)
            parts = body if is_chunked else [body.encode() if isinstance(body, str) else body or b""]
            framing = (
                {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(len(parts[0]))}
            )
            for name, text in {**framing, **(headers or {})}.items():
                connection.putheader(name, text)
            connection.endheaders()
            # An answer may come before everything is sent.
            with contextlib.suppress(ConnectionError):
                for part in [*parts, b""] if is_chunked else parts:
                    connection.send(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status < 500, (answer.status, content)
            if answer.status >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
            return answer.status, json.loads(content) if content else None
        finally:
            connection.close()


@pytest.fixture(scope="module")
def pipe(
    postgres: Postgres, template_database: str, kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipe]:
    folder = tmp_path_factory.mktemp("bad-inputs")
    admin = AdminClient({"bootstrap.servers": kafka})
    new = NewTopic(TOPIC, 1, 1, config={"max.message.bytes": str(MOST_BYTES)})
    for future in admin.create_topics([new]).values():
        future.result(20)
    with database_copy(postgres, template_database, "bad_inputs") as database:
        with psycopg.connect(database) as connection:
            put_definition(connection, "defined.type", DEFINED)
        config = write_config(folder, database, kafka, [TOPIC], dead_letter_consecutive=100_000)
        changes = {
            "B25_ANALYTICS__RETENTION__RAW_EVENTS": "2d",
            "B25_SERVER__MAX_BODY_SIZE": str(MOST_BYTES),
            "B25_SECURITY__RATE_LIMIT__ENABLED": "false",
        }
        with ingest(config) as process, started(database, **changes) as api:
            made = Pipe(database, kafka, process, api)
            wait_for(lambda: api.ask("SERVER", "/ready")[0] == 200, 60, "/ready")
            wait_for(lambda: "partitions assigned" in process.log, 60, "partitions")
            yield made
            assert process.is_running
            assert process.stop() == 0
            assert "Traceback" not in process.log
            check_books(database)


def table() -> list[Case]:
    return [*live(datetime.now(UTC), RETENTION), *live_judged()]


def live_judged() -> list[Case]:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    return [
        case._replace(value=case.value and re.sub(rb"2024-05-15T11:59:30.25Z", now.encode(), case.value))
        for case in JUDGED
    ]


def exactly(text: str | bytes) -> Any:
    """JSON with every digit; of equal keys the last, as jsonb keeps it."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def test_kafka(pipe: Pipe) -> None:
    cases, start = (
        table(),
        int(value(pipe.database, "SELECT coalesce(max(next_offset), 0) FROM ingest_offsets")),
    )
    sent: list[bytes | None] = []
    for number, case in enumerate(cases):
        sent += [json.dumps(event(number)).encode(), case.value]
    sent.append(json.dumps(event(len(cases))).encode())
    produce(pipe.kafka, TOPIC, sent, max_message=MOST_BYTES)
    wait_until_landed(pipe.database, TOPIC, start + len(sent))
    stored = {
        offset - start: (event_type, properties)
        for offset, event_type, properties in rows(
            pipe.database,
            "SELECT source_offset, event_type, properties::text FROM events WHERE source = %s AND source_offset >= %s",
            TOPIC,
            start,
        )
    }
    dead = {
        offset - start: (reason, content)
        for offset, reason, content in rows(
            pipe.database,
            "SELECT source_offset, reason, value FROM dead_letter_events WHERE source = %s",
            TOPIC,
        )
    }
    wrong = []
    for number, case in enumerate(cases):
        at = 2 * number + 1
        assert at - 1 in stored, f"the neighbour before {case.name}"
        found = OK if at in stored else dead.get(at, ("lost",))[0]
        if found != case.outcome or (at in stored and at in dead):
            wrong.append((case.name, found))
        elif found == OK and case.value is not None:
            tree = exactly(case.value)
            assert stored[at] == (tree["event_type"], stored[at][1]), case.name
            assert exactly(stored[at][1]) == (tree.get("properties") or {}), case.name
        else:
            assert dead[at][1] == case.value, case.name
    assert wrong == []
    assert len(sent) - 1 in stored


def test_post(pipe: Pipe) -> None:
    accepted, wrong = [], []
    started_at = value(pipe.database, "SELECT count(*) FROM events WHERE source = 'http'")

    def post_good() -> None:
        status, answer = pipe.ask("POST", EVENTS, json.dumps({"event_type": "good"}))
        assert status == 201
        accepted.append(answer["event_id"])

    for case in table():
        post_good()
        status, answer = pipe.ask("POST", EVENTS, case.value or b"")
        if status == 201:
            found = OK
            accepted += [item["event_id"] for item in answer.get("results", [answer])]
        else:
            assert status == 400, (case.name, status)
            found = answer["reason"]
            assert answer["error"] == "Invalid request body"
            assert len(answer["detail"]) < 400, "the input is not repeated"
        if found != case.posted_outcome:
            wrong.append((case.name, status, found))
    post_good()
    assert wrong == []
    wait_for(
        lambda: (
            value(pipe.database, "SELECT count(*) FROM events WHERE source = 'http'")
            >= started_at + len(set(accepted))
        ),
        30,
        "what was accepted lands",
    )
    landed = {row[0] for row in rows(pipe.database, "SELECT id::text FROM events WHERE source = 'http'")}
    assert set(accepted) <= landed
    assert value(pipe.database, "SELECT count(*) FROM dead_letter_events WHERE source = 'http'") == 0


class Ask(NamedTuple):
    """One request and what has to come of it; `kind` is the end of the problem's type."""

    name: str
    status: int
    kind: str = ""
    method: str = "POST"
    path: str = EVENTS
    body: Any = b'{"event_type":"a"}'
    headers: dict[str, Any] = {}  # noqa: RUF012


SQL = "'; DROP TABLE events; --"
BOMB = gzip.compress(b" " * (MOST_BYTES + 1))
HUGE = b'{"event_type":"a","x":"' + b"x" * MOST_BYTES + b'"}'


def chunked(content: bytes) -> Iterator[bytes]:
    yield from (content[at : at + 65_536] for at in range(0, len(content), 65_536))


def read(status: int, **parameters: Any) -> Ask:
    path = parameters.pop("_path", EVENTS)
    query = "&".join(f"{name}={text}" for name, text in parameters.items())
    kind = "invalid-parameter" if status == 400 else ""
    return Ask(f"GET {path.rsplit('/')[-1]} {query[:60]}", status, kind, "GET", f"{path}?{query}", None)


METRICS = "/api/v1/metrics"
HTTP = [
    Ask("no body", 400, "invalid-event", body=b""),
    Ask("XML", 415, "unsupported-media-type", headers={"Content-Type": "application/xml"}),
    Ask("no type", 201, headers={"Content-Type": ""}),
    Ask("a form's type, as curl sends it", 201, headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Ask("type of 8,000 characters", 415, "unsupported-media-type", headers={"Content-Type": "x" * 8000}),
    Ask("gzip", 201, body=gzip.compress(b'{"event_type":"a"}'), headers={"Content-Encoding": "gzip"}),
    Ask("no gzip", 400, "bad-gzip", headers={"Content-Encoding": "gzip"}),
    Ask("gzip, cut off", 400, "bad-gzip", body=gzip.compress(b'{"event_type":"a"}')[:-9],
        headers={"Content-Encoding": "gzip"}),
    Ask("gzip bomb", 413, "body-too-large", body=BOMB, headers={"Content-Encoding": "gzip"}),
    Ask("brotli", 415, "unsupported-encoding", headers={"Content-Encoding": "br"}),
    Ask("over the limit", 413, "body-too-large", body=HUGE),
    Ask("over the limit, in chunks", 413, "body-too-large", body=chunked(HUGE)),
    Ask("in chunks", 201, body=chunked(b'{"event_type":"a"}')),
    Ask("1,000,000 items", 413, "too-many-events", body=b"[" + b"0," * 1_000_000 + b"0]"),
    Ask("10,000 items, none an event", 400, "invalid-events", body=b"[" + b"0," * 9_999 + b"0]"),
    Ask("one good, one bad", 207, body=b'[{"event_type":"a"},{}]'),
    Ask("wrong method", 405, "method-not-allowed", method="DELETE"),
    Ask("unknown path", 404, "no-such-path", path="/api/v1/nothing/../%00"),
    Ask("header bytes that are not ASCII", 201, headers={"X-Client": "ü\xff", "X-Request-ID": "\xff"}),
    Ask("a key nobody knows", 201, headers={"Authorization": "Bearer nobody", "X-API-Key": "é"}),
    Ask("SQL in every field", 201, body=json.dumps(
        {"event_type": SQL, "user_id": SQL, "session_id": SQL, "properties": {SQL: SQL}})),
    Ask("SQL in the id", 400, "invalid-event", body=json.dumps({"event_type": "a", "id": SQL})),
    *(read(400, limit=text) for text in ("0", "-1", "1e9", "1000000000", "abc", "%D9%A3", "1.0", "+1", "%00")),
    Ask("unknown parameter", 400, "unknown-parameter", "GET", f"{EVENTS}?limit=1&nobody=knows", None),
    read(200, event_type="", start_time=""),
    Ask("limit twice", 400, "invalid-parameter", "GET", f"{EVENTS}?limit=1&limit=2", None),
    read(200, event_type="%27%3B+DROP+TABLE+events%3B+--"),
    read(400, event_type="x" * 256),
    read(400, start_time="yesterday"),
    read(400, start_time="2026-01-02T00:00:00Z", end_time="2026-01-01T00:00:00Z"),
    read(400, start_time="2026-02-30T00:00:00Z"),
    read(400, _path=METRICS),
    read(400, _path=METRICS, metric_name="events.count", interval="2m"),
    read(400, _path=METRICS, metric_name="events.count", aggregation="median"),
    read(400, _path=METRICS, metric_name="events.count", time_zone="Mars/Olympus"),
    read(400, _path=METRICS, metric_name="events.count", group_by="%27%3B--"),
    read(400, _path=METRICS, metric_name="events.count", interval="1m", start_time="2016-01-01T00:00:00Z",
         end_time="2026-01-01T00:00:00Z"),
    read(200, _path=METRICS, metric_name="%27%3B+DROP+TABLE+events%3B+--"),
    Ask("unknown definition", 404, "not-found", "GET", f"{CUSTOM}/{SQL.replace(' ', '%20')}", None),
    Ask("definition with a NUL", 404, "not-found", "GET", f"{CUSTOM}/%00", None),
]  # fmt: skip


def test_http(pipe: Pipe) -> None:
    wrong = []
    for ask in HTTP:
        assert pipe.ask("POST", EVENTS, b'{"event_type":"good"}')[0] == 201, f"before {ask.name}"
        try:
            status, answer = pipe.ask(ask.method, ask.path, ask.body, ask.headers)
        except (ConnectionError, http.client.HTTPException) as error:
            wrong.append((ask.name, type(error).__name__))
            continue
        kind = "" if status < 400 else answer["type"].rsplit(":", 1)[-1]
        if (status, kind) != (ask.status, ask.kind):
            wrong.append((ask.name, status, kind))
    assert pipe.ask("POST", EVENTS, b'{"event_type":"good"}')[0] == 201
    assert wrong == []
    assert value(pipe.database, "SELECT count(*) FROM events WHERE event_type = %s", SQL) in {0, 1}


@pytest.mark.parametrize(
    "text",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 18, 19\r\n\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/v1/events?event_type=\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["garbage", "negative length", "two lengths", "bad chunk", "NUL", "headers", "path", "bytes", "TLS"],
)
def test_requests_that_are_no_http(pipe: Pipe, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", pipe.api.ports["SERVER"]), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except TimeoutError:
            raise
        except OSError as error:
            print(f"it hung up: {error}")
    assert answer == b"" or answer.split(b" ")[1][:1] in {b"2", b"4"}, answer[:100]
    assert pipe.ask("POST", EVENTS, b'{"event_type":"good"}')[0] == 201


def test_schemas(pipe: Pipe) -> None:
    """Nothing is fetched: somebody listens where the references lead, and nobody comes."""
    visitors = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])

        def listen() -> None:
            while True:
                try:
                    visitors.append(listener.accept()[0].close())
                except OSError:
                    return

        threading.Thread(target=listen, daemon=True).start()
        wrong = []
        for number, (name, schema) in enumerate(ACCEPTED.items()):
            body = json.dumps({"name": f"accepted.{number}", "schema": schema}).replace(
                "127.0.0.1:1/", f"127.0.0.1:{port}/"
            )
            if (status := pipe.ask("POST", CUSTOM, body)[0]) != 201:
                wrong.append((name, status))
        for number, (name, (schema, _)) in enumerate(REFUSED.items()):
            body = json.dumps({"name": f"refused.{number}", "schema": schema}).replace(
                "127.0.0.1:1/", f"127.0.0.1:{port}/"
            )
            status, answer = pipe.ask("POST", CUSTOM, body)
            if status != 400 or not answer["type"].endswith("invalid-definition"):
                wrong.append((name, status))
        assert wrong == []
        wait_for(lambda: f"accepted.{len(ACCEPTED) - 1}" in pipe.ingest.log, 20, "ingest has loaded them")
        assert "a definition is left out" not in pipe.ingest.log
        shown = pipe.ask("GET", f"{CUSTOM}/accepted.0")
        listener.shutdown(socket.SHUT_RDWR)
    assert shown[0] == 200
    assert visitors == []
    assert (
        value(pipe.database, "SELECT count(*) FROM custom_event_definitions WHERE name LIKE 'refused%'") == 0
    )


@pytest.mark.slow
def test_one_event_in_each_of_5000_days(pipe: Pipe, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    before = value(pipe.database, "SELECT count(*) FROM events")
    start = int(value(pipe.database, "SELECT max(next_offset) FROM ingest_offsets"))
    sent = [
        json.dumps(event(100_000 + day, timestamp=(now - timedelta(days=day)).isoformat())).encode()
        for day in range(5000)
    ]
    produce(pipe.kafka, TOPIC, sent)
    wait_until_landed(pipe.database, TOPIC, start + 5000)
    dead = rows(
        pipe.database,
        "SELECT reason, count(*) FROM dead_letter_events WHERE source = %s AND source_offset >= %s GROUP BY 1",
        TOPIC,
        start,
    )
    assert dead == [("too_old", 4997)]
    assert value(pipe.database, "SELECT count(*) FROM events") >= before + 3
