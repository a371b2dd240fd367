"""Posting while the API and ingest are killed, and while Postgres stands still: what was answered is there, once.

Every event carries an id, and is sent again until it is answered; in the end each is stored exactly once, and the books
of the inbox balance.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import psycopg
import pytest

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.settings import environment
from tests.integration.api_support import running, settings_for
from tests.integration.ingest_process import ingest, write_config
from tests.integration.landing_rig import check_books, rows, value
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
EVENTS = "/api/v1/events"
KILLS = 4


class Posters:
    """Clients that post single events, batches and keyed requests, again and again until they are answered."""

    def __init__(self, base: str, seed: int) -> None:
        self._base = base
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.answered: dict[str, int] = {}
        """Events by id, and how often they were answered with 201."""
        self.keyed = 0
        self.attempts = 0
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in range(3)]

    def __enter__(self) -> "Posters":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, kind: int) -> None:
        with httpx.Client(base_url=self._base, timeout=10) as client:
            while not self._is_over.is_set():
                self._post(client, kind)

    def _post(self, client: httpx.Client, kind: int) -> None:
        with self._lock:
            numbers = [next(self._numbers) for _ in range(self._random.randint(2, 60) if kind == 1 else 1)]
        at = datetime.now(UTC).isoformat()
        events = [{"event_type": "a", "timestamp": at, "properties": {"n": n}} for n in numbers]
        headers = {}
        if kind == 2:
            # Without an id: only the key keeps it from being stored twice.
            headers["Idempotency-Key"] = f"key-{numbers[0]}"
        else:
            for number, event in zip(numbers, events, strict=True):
                event["id"] = str(UUID(int=(7 << 76) | (2 << 62) | number))
        content = json.dumps(events if kind == 1 else events[0]).encode()
        while True:
            self.attempts += 1
            try:
                answer = client.post(EVENTS, content=content, headers=headers)
            except httpx.HTTPError:
                self._is_over.wait(0.02)  # nobody listens on the port
                continue
            if answer.status_code == 201:
                break
            assert answer.status_code == 503, answer.text
            assert "retry-after" in answer.headers
        found = answer.json()
        ids = [found["event_id"]] if kind != 1 else [one["event_id"] for one in found["results"]]
        with self._lock:
            self.keyed += kind == 2
            for one in ids:
                self.answered[one] = self.answered.get(one, 0) + 1


class Api:
    """`python -m api`, killed with all its workers and started again on the same port."""

    def __init__(self, config: Path, port: int) -> None:
        self._config = config
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        variables = {
            "B25_CONFIG": str(self._config),
            "B25_REDIS__ENABLED": "false",
            "B25_METRICS__ENABLED": "false",
            "B25_HEALTH__ENABLED": "false",
            "B25_SERVER__PORT": str(self._port),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "api"],
            cwd=ROOT,
            env={**environment(), **variables},
            stderr=subprocess.DEVNULL,
        )

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{self._port}/ready", timeout=5).status_code == 200
            except httpx.HTTPError:
                return False

        wait_for(is_ready, 60, "/ready")

    def kill(self) -> None:
        assert self._process is not None
        family = [
            psutil.Process(self._process.pid),
            *psutil.Process(self._process.pid).children(recursive=True),
        ]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)
        self._process.wait(10)


@contextmanager
def started(api: Api) -> Iterator[Api]:
    api.start()
    try:
        api.wait_until_ready()
        yield api
    finally:
        api.kill()


def check_inbox(database: str) -> None:
    [(accepted, read, waiting)] = rows(
        database,
        "SELECT (SELECT coalesce(sum(accepted), 0) FROM http_accepted),"
        " (SELECT coalesce(sum(read), 0) FROM ingest_batches WHERE source = 'http'),"
        " (SELECT coalesce(sum(events), 0) FROM http_inbox)",
    )
    assert accepted == read + waiting, (accepted, read, waiting)


def landed(database: str) -> int:
    return int(value(database, "SELECT coalesce(sum(read), 0) FROM ingest_batches"))


@pytest.mark.slow
def test_kills_of_api_and_ingest_lose_and_double_nothing(database: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    config = write_config(tmp_path, database, None, [])
    port = free_port()
    with (
        ingest(config) as landing,
        started(Api(config, port)) as api,
        Posters(f"http://127.0.0.1:{port}", seed) as posters,
    ):
        for number in range(KILLS):
            before, done = landed(database), len(posters.answered)
            wait_for(lambda before=before: landed(database) > before, 60, "more landed")  # type: ignore[misc]
            more = chance.randint(20, 200)
            wait_for(lambda: len(posters.answered) > done + more, 60, "more answered")  # noqa: B023
            check_inbox(database)
            if number % 2:
                landing.kill()
                landing.start()
            else:
                api.kill()
                api.start()
                api.wait_until_ready()
        posters.__exit__()
        wait_for(lambda: value(database, "SELECT count(*) FROM http_inbox") == 0, 60, "all landed")
    assert set(posters.answered.values()) == {1}
    stored = [str(found) for (found,) in rows(database, "SELECT id FROM events")]
    assert len(stored) == len(set(stored))
    assert set(posters.answered) == set(stored)
    assert posters.keyed > 0
    assert value(database, "SELECT count(*) FROM http_idempotency") == posters.keyed
    # An answer that was lost with its process is asked for again: that event is a duplicate, not a second row.
    assert value(database, "SELECT coalesce(sum(dead), 0) FROM ingest_batches") == 0
    print(f"{KILLS} kills, {posters.attempts} attempts, {len(stored)} events")
    check_inbox(database)
    check_books(database)


@pytest.mark.slow
def test_a_postgres_that_stands_still_is_a_503_and_nothing_is_doubled(database: str) -> None:
    with running(settings_for(database)) as api:
        content = json.dumps({"event_type": "a", "id": str(UUID(int=1))}).encode()
        assert api.request("POST", EVENTS, content=content).status_code == 201
        with psycopg.connect(database, autocommit=True) as opened:
            backends = [
                pid
                for (pid,) in opened.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ]
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = api.request("POST", EVENTS, content=content)
            assert answer.status_code == 503, answer.text
            assert "retry-after" in answer.headers
            assert "same id" in answer.json()["detail"] or "not reachable" in answer.json()["detail"]
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
        wait_for(lambda: api.request("POST", EVENTS, content=content).status_code == 201, 30, "back")
        assert api.services.poster._memory._held == 0
    check_inbox(database)
