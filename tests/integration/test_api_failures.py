"""Postgres gone, late, stalled or busy: 503 with a clear body, quickly; and back by itself."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from anyio import create_task_group

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage.migrations import migrate
from tests.integration.api_support import Api, running, settings_for
from tests.waiting import wait_for

GETS = (
    "/api/v1/events",
    "/api/v1/events/stats",
    "/api/v1/events/stats?interval=1h",
    "/api/v1/events/01a20828-4c87-7655-8b89-00e01427d9f4",
    "/api/v1/metrics?metric_name=events.count",
    "/api/v1/dashboard/metrics",
    "/api/v1/custom-events/x",
    "/api/v1/internal/ingestion-metrics",
    "/api/v1/dead-letters",
    "/api/v1/dead-letters/export",
)
POSTS = (("/api/v1/events", {"event_type": "a"}), ("/api/v1/custom-events", {"name": "never"}))


class Server:
    """A Postgres of one test, which it may stop and start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.postgres = Postgres(folder / "own", port=free_port(), database="own", is_durable=False)
        self._service = self.postgres.service()
        self._service.prepare(print)
        self.child: Child | None = None

    def start(self) -> None:
        self.child = Child(self._service, self._folder)
        self.child.start()
        self.child.wait_until_ready()
        self._service.once_ready()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None


@contextmanager
def own_server(folder: Path, name: str) -> Iterator[Server]:
    server = Server(folder / name)
    try:
        yield server
    finally:
        server.stop()


def assert_unavailable(api: Api, longest: float = 1.0) -> None:
    started = time.monotonic()
    for path in GETS:
        answer = api.request("GET", path)
        assert answer.status_code == 503, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["detail"].startswith("Postgres")
        assert answer.json().keys() >= {
            "type",
            "title",
            "status",
            "detail",
            "error",
            "request_id",
            "retry_after",
        }
    for path, body in POSTS:
        assert api.request("POST", path, json=body).status_code == 503
    health = api.get("/health", expect=503)
    assert (health["status"], health["database"]) == ("unhealthy", "disconnected")
    assert time.monotonic() - started < longest * (len(GETS) + len(POSTS) + 1)


def assert_available(api: Api) -> None:
    wait_for(lambda: api.request("GET", "/ready").status_code == 200, timeout=15, message="/ready")
    for path in GETS:
        is_of_nothing = path.endswith(("/x", "-00e01427d9f4"))
        assert api.request("GET", path).status_code == (404 if is_of_nothing else 200)
    assert api.post("/api/v1/events", {"event_type": "a"})["success"] is True


@pytest.mark.slow
def test_before_during_and_after_an_absence_of_postgres(state_folder: Path) -> None:
    with (
        own_server(state_folder, "absent") as server,
        running(settings_for(server.postgres.conninfo()), ready=False) as api,
    ):
        assert_unavailable(api)
        server.start()
        # It is there, but empty: not usable until it is migrated, and the answer says so.
        wait_for(lambda: "analytics migrate" in api.get("/health", expect=503)["detail"], timeout=15)
        with psycopg.connect(server.postgres.conninfo()) as connection:
            migrate(connection)
        assert_available(api)
        for _ in range(2):
            server.stop()
            wait_for(lambda: api.request("GET", "/ready").status_code == 503, timeout=5, message="not ready")
            assert_unavailable(api)
            server.start()
            assert_available(api)


@pytest.mark.slow
def test_a_stalled_postgres_lets_nobody_hang(state_folder: Path) -> None:
    with own_server(state_folder, "stalled") as server:
        server.start()
        with psycopg.connect(server.postgres.conninfo()) as connection:
            migrate(connection)
        with running(settings_for(server.postgres.conninfo())) as api:
            assert_available(api)
            assert server.child is not None
            main = psutil.Process(server.child.pid)
            stopped = [main, *main.children(recursive=True)]
            for process in stopped:
                os.kill(process.pid, signal.SIGSTOP)
            try:
                started = time.monotonic()
                answer = api.request("GET", "/api/v1/events?limit=7")
                assert answer.status_code == 503
                assert time.monotonic() - started < 10
                assert_unavailable(api)
            finally:
                for process in stopped:
                    os.kill(process.pid, signal.SIGCONT)
            assert_available(api)


@pytest.fixture
def busy_api(database: str) -> Iterator[tuple[Api, psycopg.Connection[Any]]]:
    """Two readers at most, and a lock on events that makes them wait."""
    query = {"max_concurrent": 2, "timeout": timedelta(seconds=3), "cache_enabled": False}
    with (
        running(settings_for(database, analytics={"query": query})) as api,
        psycopg.connect(database) as connection,
    ):
        connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        yield api, connection


def test_past_the_limit_of_concurrent_queries_is_a_503(busy_api: tuple[Api, psycopg.Connection[Any]]) -> None:
    api, _ = busy_api

    async def ask_all() -> list[dict[str, Any]]:
        answers = await asyncio.gather(*(api.client.get("/api/v1/events") for _ in range(6)))
        assert all(answer.status_code == 503 for answer in answers)
        assert all("retry-after" in answer.headers for answer in answers)
        return [answer.json() for answer in answers]

    kinds = [problem["type"].rsplit(":", 1)[1] for problem in api.run(ask_all())]
    assert sorted(kinds) == ["overloaded"] * 4 + ["query-timeout"] * 2


def test_a_slow_query_ends_and_names_the_setting(busy_api: tuple[Api, psycopg.Connection[Any]]) -> None:
    api, connection = busy_api
    answer = api.request("GET", "/api/v1/events")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    problem = answer.json()
    assert problem["type"] == "urn:b25-analytics:problem:query-timeout"
    assert "analytics.query.timeout" in problem["detail"]
    assert "a shorter range or a longer interval" in problem["detail"]
    connection.rollback()
    assert api.get("/api/v1/events")["count"] == 0


@pytest.mark.slow
def test_a_body_that_does_not_arrive_is_a_408(database: str) -> None:
    never = asyncio.Event()

    async def body() -> Any:
        yield b'{"event_type":'
        await never.wait()

    with running(settings_for(database, server={"read_timeout": timedelta(seconds=1)})) as api:
        answer = api.request("POST", "/api/v1/events", content=body())
        assert answer.status_code == 408
        assert "server.read_timeout" in answer.json()["detail"]


def test_reads_cannot_write(database: str) -> None:
    with running(settings_for(database)) as api:
        services = api.services

        async def write() -> None:
            async with services.database.read("test") as connection:
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    await connection.execute("DELETE FROM events")

        api.run(write())


@pytest.mark.slow
def test_one_bad_row_does_not_take_its_neighbours_along(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analytics_pipeline.storage import inbox

    append = inbox.append

    async def append_but_one(connection: Any, items: Any, **more: Any) -> Any:
        if any(b"culprit" in item.payload for item in items):
            await connection.execute("SELECT 1 / 0")
        return await append(connection, items, **more)

    monkeypatch.setattr(inbox, "append", append_but_one)
    with running(settings_for(database)) as api:

        async def post_all() -> list[int]:
            types = [*(f"good.{n}" for n in range(20)), "culprit", *(f"good.{n}" for n in range(20, 40))]
            answers = await asyncio.gather(
                *(api.client.post("/api/v1/events", json={"event_type": t}) for t in types)
            )
            return [answer.status_code for answer in answers]

        assert sorted(api.run(post_all())) == [201] * 40 + [503]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT sum(events) FROM http_inbox").fetchone() == (40,)
        assert connection.execute("SELECT sum(accepted) FROM http_accepted").fetchone() == (40,)


@pytest.mark.slow
def test_an_error_nobody_expects_is_answered_and_ends_nothing(database: str) -> None:
    with running(settings_for(database)) as api, psycopg.connect(database, autocommit=True) as connection:
        connection.execute("REVOKE INSERT ON http_inbox, audit_log FROM CURRENT_USER")
        for headers in ({}, {"Idempotency-Key": "k"}):
            answer = api.request("POST", "/api/v1/events", json={"event_type": "a"}, headers=headers)
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (500, "internal")
        # What could not be noted has been done all the same, and is answered.
        api.post("/api/v1/custom-events", {"name": "noted.later", "schema": {}})
        connection.execute("GRANT INSERT ON http_inbox, audit_log TO CURRENT_USER")
        for headers in ({}, {"Idempotency-Key": "k"}):
            answer = api.request("POST", "/api/v1/events", json={"event_type": "a"}, headers=headers)
            assert answer.status_code == 201, answer.text
        written = "SELECT count(*) FROM audit_log WHERE route = '/api/v1/custom-events'"
        wait_for(
            lambda: connection.execute(written).fetchone() == (1,), message="the line of what was written"
        )


@pytest.mark.slow
def test_a_reading_of_versions_that_fails_unexpectedly_is_told_and_tried_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings_for(database)) as api:
        assert api.request("GET", GETS[0]).status_code == 200
        with monkeypatch.context() as broken:
            broken.setattr("api.versions.Versions", None)
            wait_for(lambda: api.request("GET", GETS[0]).status_code == 503, message="a 503")
            assert "because of a defect of this service" in api.request("GET", GETS[0]).json()["detail"]
            wait_for(lambda: api.request("GET", "/ready").status_code == 503, message="not ready")
        wait_for(lambda: api.request("GET", GETS[0]).status_code == 200, message="the next reading")


@pytest.mark.slow
def test_a_look_for_arrivals_that_fails_unexpectedly_is_answered(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(settings_for(database)) as api, psycopg.connect(database, autocommit=True) as connection:
        token = api.request("POST", "/api/v1/events", json={"event_type": "a"}).headers["X-Landing-Token"]
        connection.execute("DELETE FROM http_inbox")
        with monkeypatch.context() as broken:
            broken.setattr("api.arrivals.arrivals", None)
            answer = api.request("GET", f"{GETS[0]}?after={token}")
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (500, "internal")
        assert api.request("GET", f"{GETS[0]}?after={token}").status_code == 200


def test_a_full_queue_is_a_503_and_loses_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from api.events import group_commit

    monkeypatch.setattr(group_commit, "MOST_EVENTS", 1)
    with running(settings_for(database)) as api, psycopg.connect(database) as connection:
        monkeypatch.setattr(api.services.inbox._plain, "_capacity", 3)
        connection.execute("LOCK TABLE http_inbox IN ACCESS EXCLUSIVE MODE")

        async def post_all() -> list[int]:
            answers = [
                asyncio.ensure_future(api.client.post("/api/v1/events", json={"event_type": "a"}))
                for _ in range(9)
            ]
            refused = [await answer for answer in itertools.islice(asyncio.as_completed(answers), 6)]
            # Turned away at once, not by a timeout of Postgres.
            assert {answer.json()["type"].rsplit(":", 1)[1] for answer in refused} == {"overloaded"}
            await asyncio.to_thread(connection.rollback)
            return [answer.status_code for answer in await asyncio.gather(*answers)]

        assert sorted(api.run(post_all())) == [201] * 3 + [503] * 6
        assert connection.execute("SELECT sum(events) FROM http_inbox").fetchone() == (3,)


@pytest.mark.slow
def test_stopping_commits_what_waits(database: str) -> None:
    with running(settings_for(database)) as api:

        async def post_all() -> list[Any]:
            return [
                asyncio.ensure_future(api.client.post("/api/v1/events", json={"event_type": "a"}))
                for _ in range(50)
            ]

        answers = api.run(post_all())
        api.run(api.services.inbox.close())
        codes = [api.run(_result(answer)) for answer in answers]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT sum(events) FROM http_inbox").fetchone() == (codes.count(201),)
    assert set(codes) <= {201, 503}


async def _result(answer: "asyncio.Future[Any]") -> int:
    return int((await answer).status_code)


@pytest.mark.slow
def test_who_leaves_while_his_stream_reads_costs_no_connection(database: str) -> None:
    """A stream's task is cancelled by anyio, which tells it so at each turn of the loop."""
    with running(settings_for(database)) as api:
        backends: list[int] = []

        async def read(begun: asyncio.Event) -> None:
            async with api.services.database.read("test") as connection:
                begun.set()
                rows = await connection.execute("SELECT pg_backend_pid() FROM pg_sleep(0.2)")
                backends.extend(backend for [backend] in await rows.fetchall())

        async def leave() -> None:
            begun = asyncio.Event()
            async with create_task_group() as group:
                group.start_soon(read, begun)
                await begun.wait()
                group.cancel_scope.cancel()

        for _ in range(3):
            api.run(leave())
        assert len(backends) == 3, "what was begun has ended"
        assert "returns_bad" not in api.services.database._reads.get_stats()
