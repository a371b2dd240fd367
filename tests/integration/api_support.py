"""What the API's integration tests share: a running application, and events that are really there.

`land` writes what a landing writes (events, deltas, pending batches, the ledger), so that a test decides exactly what
is settled and what is pending.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pyarrow as pa

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.rollups import merge_hour, pending_hours
from api.app import create_app
from api.clock import utc_now
from api.dependencies import Services
from api.edge import Edge
from tests.waiting import wait_for

EVENTS = pa.schema(
    [
        ("id", pa.binary(16)),
        ("event_type", pa.string()),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("properties", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("is_late", pa.bool_()),
    ]
)
_EVENT = """
INSERT INTO events (id, event_type, user_id, session_id, properties, timestamp) VALUES (%s, %s, %s, %s, %s, %s)
"""
_LEDGER = """
INSERT INTO ingest_batches (batch_id, source, partition, read, stored, duplicate, dead, catalog_version, seconds)
VALUES (%s, 'orders', 0, %s, %s, 0, %s, 'x', %s)
"""
_DELTAS = """
COPY rollup_deltas (
    batch_id, hour, minute, metric_id, metric_name, dimension_set, dimensions, kind, count, sum, min, max, state
) FROM STDIN
"""


def event(event_type: str, at: datetime, user: str | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "id": uuid4().bytes,
        "event_type": event_type,
        "user_id": user,
        "session_id": None,
        "properties": json.dumps(properties),
        "timestamp": at,
        "is_late": False,
    }


def land(conninfo: str, events: Iterable[dict[str, Any]], *, dead: int = 0, seconds: float = 0.0611) -> int:
    """Store events as one batch and return its id."""
    rows = list(events)
    deltas = compute_deltas(pa.Table.from_pylist(rows, EVENTS), BUILT_IN)
    with psycopg.connect(conninfo, options="-c timezone=UTC") as connection:
        found = connection.execute("SELECT nextval('ingest_batch_id_seq')").fetchone()
        assert found is not None
        batch = int(found[0])
        with connection.cursor() as cursor:
            cursor.executemany(
                _EVENT,
                [
                    (
                        UUID(bytes=r["id"]),
                        r["event_type"],
                        r["user_id"],
                        r["session_id"],
                        r["properties"],
                        r["timestamp"],
                    )
                    for r in rows
                ],
            )
            with cursor.copy(_DELTAS) as copy:
                for delta in deltas.to_pylist():
                    hour = delta.pop("hour")
                    delta["sum"] = delta["sum"] or 0
                    copy.write_row((batch, hour, *delta.values()))
        connection.cursor().executemany(
            "INSERT INTO pending_batches (hour, batch_id) VALUES (%s, %s)",
            [(hour, batch) for hour in sorted(set(deltas.column("hour").to_pylist()))],
        )
        read = len(rows) + dead
        connection.execute(
            _LEDGER,
            (batch, read, len(rows), dead, seconds),
        )
    return batch


def settle(conninfo: str) -> None:
    """Merge everything that is pending."""
    with psycopg.connect(conninfo, autocommit=True, options="-c timezone=UTC") as connection:
        for hour in pending_hours(connection):
            merge_hour(connection, hour.hour, run_id="test")


def settings_for(conninfo: str, redis: Any = None, **changes: Any) -> Settings:
    redis_section: dict[str, Any] = {"enabled": False}
    if redis is not None:
        redis_section = {"host": redis.host, "port": redis.port, "password": redis.password}
    return Settings.model_validate({"database": {"url": conninfo}, "redis": redis_section, **changes})


_LONGEST_START = 30


class Api:
    """A client of an application that runs in another thread of this process."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, app: Edge, client: httpx.AsyncClient, services: Services
    ) -> None:
        self._loop = loop
        self.app = app
        self.client = client
        self.services = services

    def start(self, work: Any) -> Future[Any]:
        """Start a coroutine in the application's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Any) -> Any:
        """Run a coroutine in the application's loop."""
        return self.start(work).result(60)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self.run(self.client.request(method, path, **more))
        assert isinstance(answer, httpx.Response)
        return answer

    def get(self, path: str, expect: int = 200, **parameters: Any) -> Any:
        answer = self.request("GET", path, params=parameters)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        return answer.json()

    def post(self, path: str, body: Any, expect: int = 201) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.request("POST", path, content=content)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        return answer.json()

    def value(self, metric_name: str, at: datetime, **parameters: Any) -> Any:
        """The one point in the minute of `at`, or None."""
        asked = {
            "metric_name": metric_name,
            "interval": "1m",
            "start_time": iso(at - timedelta(minutes=1)),
            "end_time": iso(at + timedelta(minutes=1)),
        }
        result = self.get("/api/v1/metrics", **asked, **parameters)["result"]
        return result["data_points"][-1]["value"] if result["data_points"] else None

    def soon(self, read: Callable[[], Any], expected: Any) -> None:
        """The day versions are read every 250 ms: what is new has to be seen by then."""
        wait_for(lambda: read() == expected, timeout=3, message=f"{expected!r}")


@contextmanager
def running(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    ready: bool = True,
    address: str = "127.0.0.1",
) -> Iterator[Api]:
    """The application with its lifespan; `address` is where requests seem to come from."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    app = create_app(settings, clock=clock)
    assert isinstance(app, Edge)
    events: asyncio.Queue[Any] = asyncio.Queue()
    started, stopped = threading.Event(), threading.Event()

    async def send(message: Any) -> None:
        assert not message["type"].endswith("failed"), message
        (started if message["type"] == "lifespan.startup.complete" else stopped).set()

    def tell(kind: str) -> None:
        asyncio.run_coroutine_threadsafe(events.put({"type": kind}), loop).result(5)

    life = asyncio.run_coroutine_threadsafe(app({"type": "lifespan", "state": {}}, events.get, send), loop)
    try:
        tell("lifespan.startup")
        assert started.wait(_LONGEST_START), "the application did not start"
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9097", timeout=30)
        api = Api(loop, app, client, app.app.state.services)
        if ready:
            wait_for(lambda: api.request("GET", "/ready").status_code == 200, message="/ready")
        yield api
    finally:
        if started.is_set():
            tell("lifespan.shutdown")
            assert stopped.wait(20)
            life.result(5)
            api.run(api.client.aclose())
        else:
            # Left alone, the collector would find it in another thread, which ends the process.
            life.cancel()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


def plain(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points without what they say of their bucket, which changes when it is merged."""
    return [
        {name: value for name, value in point.items() if name not in {"state", "revision", "pending"}}
        for point in points
    ]


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
