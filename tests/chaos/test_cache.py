"""Cached answers under everything that changes them, and under a Redis that fails in every way.

Two applications share one Redis. Each answer is compared with what was committed: nobody may be told less than what was
there a second before the question, the age limit of a version, nor more than what somebody had begun to land.
"""

import asyncio
import json
import os
import random
import signal
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client
from prometheus_client import REGISTRY
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from analytics_pipeline.storage.recompute import recompute_hour
from tests.chaos.faults import times
from tests.chaos.servers import PostgresServer, Server, stopping
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle
from tests.waiting import wait_for

METRICS, STATS = "/api/v1/metrics", "/api/v1/events/stats"
NOW = datetime.now(UTC)
START = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
END = START + timedelta(days=3)
SPAN = f"start_time={iso(START)}&end_time={iso(END)}"
HOURS = [START + timedelta(hours=number) for number in range(0, 24, 5)]
"""Of yesterday: what lands there is late, and what a backfill recomputes."""
QUESTIONS = (
    (METRICS, f"metric_name=events.count&interval=1d&{SPAN}"),
    (METRICS, f"metric_name=events.count&interval=1h&{SPAN}"),
    (METRICS, f"metric_name=events.count&interval=5m&group_by=event_type&{SPAN}"),
    (STATS, SPAN),
    (STATS, f"{SPAN}&interval=1h"),
)
PAUSES = {"landing": 0.02, "late": 1.5, "merge": 2.5, "backfill": 2.0}
"""Seconds before each: between merges landings alone have to make answers invalid for longer than the age limit."""
AGE_LIMIT = 1.0
"""Seconds: what is promised, whatever the code says."""
LONGEST = 5.0
"""Seconds that no answer may take whatever Redis does: far more than its timeout and a query, for busy machines."""


class RedisServer(Server):
    def __init__(self, folder: Path) -> None:
        self.settings = Redis(folder / "redis", port=free_port())
        super().__init__(self.settings.service(), folder)

    def client(self) -> redis_client.Redis:
        return redis_client.Redis(
            host=self.settings.host, port=self.settings.port, password=self.settings.password
        )


@pytest.fixture(scope="module")
def redis_server(chaos_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(chaos_folder)
    with stopping(server):
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """One of this test's own, with partitions around now."""
    name = sql.Identifier("cache")
    with psycopg.connect(postgres_server.settings.superuser_conninfo(), autocommit=True) as opened:
        owner = sql.Identifier(postgres_server.settings.user)
        opened.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, owner))
        try:
            conninfo = make_conninfo(postgres_server.settings.conninfo(), dbname="cache")
            with psycopg.connect(conninfo) as connection:
                migrate(connection)
                connection.commit()
                ensure_partitions(connection, now=NOW, keep=timedelta(days=2), ahead_days=2)
            yield conninfo
        finally:
            opened.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


class Committed:
    """How many events somebody has begun to land, and how many were committed when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moments: list[float] = [0.0]
        self._totals: list[int] = [0]
        self.begun = 0

    def land(self, database: str, events: Sequence[dict[str, Any]]) -> None:
        with self._lock:
            self.begun += len(events)
        land(database, events)
        with self._lock:
            self._moments.append(time.monotonic())
            self._totals.append(self._totals[-1] + len(events))

    def at(self, moment: float) -> int:
        """Committed for certain at this moment."""
        return self._totals[bisect_right(self._moments, moment) - 1]

    @property
    def total(self) -> int:
        return self._totals[-1]


async def ask(api: Api, path: str, query: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body, without an HTTP client, which would cost more than the answer."""
    status, headers, body = 0, {}, b""

    async def send(message: Any) -> None:
        nonlocal status, headers, body
        if message["type"] == "http.response.start":
            status, headers = message["status"], dict(message["headers"])
        body += message.get("body", b"")

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9097),
    }  # fmt: skip
    await api.app(scope, receive, send)
    return status, headers, body


def counted(body: bytes) -> int:
    answer = json.loads(body)
    if "total_events" in answer:
        assert answer["total_events"] == sum(one["total_events"] for one in answer.get("buckets", [answer]))
        return int(answer["total_events"])
    return int(sum(point["value"] for point in answer["result"]["data_points"]))


class Readers:
    """Ask in the loop of one application until told to stop; judge every answer."""

    def __init__(self, api: Api, committed: Committed, seed: int) -> None:
        self._api = api
        self._committed = committed
        self._chance = random.Random(seed)
        self._seen: dict[bytes, int] = {}
        self.reads: Counter[str] = Counter()

    def start(self, stopping: threading.Event) -> Future[None]:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._read(stopping) for _ in range(4)))

        return self._api.start(all_of_them())

    async def _read(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            path, query = self._chance.choice(QUESTIONS)
            asked = time.monotonic()
            status, headers, body = await ask(self._api, path, query)
            at_most, answered = self._committed.begun, time.monotonic()
            assert status == 200, body
            if body not in self._seen:
                if len(self._seen) > 1000:
                    self._seen.clear()
                self._seen[body] = counted(body)
            seen = self._seen[body]
            at_least = self._committed.at(asked - AGE_LIMIT)
            assert at_least <= seen <= at_most, (path, query, headers[b"x-cache"], answered - asked)
            self.reads[headers[b"x-cache"].decode()] += 1
            if self.reads.total() % 10 == 0:
                await asyncio.sleep(0)  # a hit never waits, and the loop has versions to read


def writers(database: str, committed: Committed, done: Counter[str]) -> dict[str, Callable[[], None]]:
    chance = random.Random(7)

    def landing() -> None:
        committed.land(database, [event(chance.choice("ab"), NOW)])

    def late() -> None:
        at = chance.choice(HOURS) + timedelta(seconds=chance.randrange(3600))
        committed.land(database, [event("a", at) for _ in range(chance.randrange(1, 4))])

    def merging() -> None:
        settle(database)

    def backfill() -> None:
        recompute_hour(database, chance.choice(HOURS), run_id="backfill")

    works = (landing, late, merging, backfill)
    return {name: _counting(name, work, done) for name, work in zip(PAUSES, works, strict=True)}


def _counting(name: str, work: Callable[[], None], done: Counter[str]) -> Callable[[], None]:
    def counting() -> None:
        work()
        done[name] += 1

    return counting


@contextmanager
def repeated(works: dict[str, Callable[[], None]], failures: list[BaseException]) -> Iterator[None]:
    """Each in a thread of its own, again and again."""
    stop = threading.Event()

    def run(work: Callable[[], None], pause: float) -> None:
        try:
            while not stop.wait(pause):
                work()
        except BaseException as error:  # noqa: BLE001 - told to the test, which fails
            failures.append(error)

    threads = [
        threading.Thread(target=run, args=(work, PAUSES.get(name, 0.01))) for name, work in works.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def redis_hits() -> float:
    return REGISTRY.get_sample_value("analytics_cache_hits_total", {"level": "redis"}) or 0.0


@pytest.mark.parametrize("reads", times(3_000, 100_000))
def test_no_answer_is_older_than_the_age_limit_of_a_version(
    database: str, redis_server: RedisServer, reads: int
) -> None:
    committed, done, failures = Committed(), Counter[str](), list[BaseException]()
    committed.land(database, [event("a", hour) for hour in HOURS])
    before, stop = redis_hits(), threading.Event()
    with ExitStack() as exits:
        apis = [exits.enter_context(running(settings_for(database, redis_server.settings))) for _ in range(2)]
        both = [Readers(api, committed, seed) for seed, api in enumerate(apis)]
        exits.enter_context(repeated(writers(database, committed, done), failures))
        asking = [readers.start(stop) for readers in both]

        def is_enough() -> bool:
            for future in asking:
                if future.done():
                    future.result()
            read = sum(readers.reads.total() for readers in both)
            return bool(failures) or (read >= reads and min(done[name] for name in PAUSES) >= reads / 3_000)

        try:
            wait_for(is_enough, timeout=1800, message="reads")
        finally:
            stop.set()
        for future in asking:
            future.result(60)
    assert not failures, failures
    found = sum((readers.reads for readers in both), Counter[str]())
    print(f"{found.total()} reads: {dict(found)}, {redis_hits() - before:.0f} hits in Redis; {dict(done)}")
    assert found["hit"] > found.total() / 2
    assert found["miss"] > 0
    settle(database)
    with running(settings_for(database)) as api:
        for path, query in QUESTIONS:
            assert counted(api.run(ask(api, path, query))[2]) == committed.total


def killed(server: RedisServer) -> Iterator[None]:
    server.crash(signal.SIGKILL)
    try:
        yield
    finally:
        server.start()


def stalled(server: RedisServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def flushed(server: RedisServer) -> Iterator[None]:
    failures = list[BaseException]()
    with server.client() as client, repeated({"flush": lambda: client.flushall() and None}, failures):
        yield
    assert not failures


def full_of_garbage(server: RedisServer) -> Iterator[None]:
    chance, failures = random.Random(3), list[BaseException]()

    def spoil() -> None:
        keys = client.keys("*")
        for key in keys:
            kind = chance.randrange(4)
            client.delete(key)
            if kind == 0:
                client.lpush(key, "a list")
                continue
            # Noise, or an entry of ours under another name.
            other = chance.choice(keys)
            entry = client.get(other) if kind == 1 and client.type(other) == b"string" else None
            client.set(key, entry or chance.randbytes(chance.choice((0, 15, 16, 17, 5_000))))

    with server.client() as client, repeated({"spoil": spoil}, failures):
        yield
    assert not failures, failures


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [killed, stalled, flushed, full_of_garbage], ids=lambda fault: fault.__name__
)
def test_whatever_redis_does_answers_are_right_and_come_in_time(
    database: str, redis_server: RedisServer, fault: Callable[[RedisServer], Iterator[None]]
) -> None:
    events = [event("a", hour + timedelta(minutes=number)) for hour in HOURS for number in range(9)]
    land(database, events)
    numbers = iter(range(1, 1_000_000))

    def cold() -> tuple[str, str]:
        """A question that nobody has asked yet; all have the same answer."""
        end = iso(END + timedelta(microseconds=next(numbers)))
        return METRICS, f"metric_name=events.count&interval=1h&start_time={iso(START)}&end_time={end}"

    # Of an earlier database with the same days and versions, too.
    with redis_server.client() as client:
        client.flushall()

    async def judged(api: Api, path: str, query: str) -> str:
        asked = time.monotonic()
        status, headers, body = await ask(api, path, query)
        assert status == 200, body
        assert counted(body) == len(events)
        assert time.monotonic() - asked < LONGEST
        return headers[b"x-cache"].decode()

    async def some(api: Api, questions: Sequence[tuple[str, str]]) -> list[str]:
        return await asyncio.gather(*(judged(api, *question) for question in questions))

    with ExitStack() as exits:
        one, other = (
            exits.enter_context(running(settings_for(database, redis_server.settings))) for _ in range(2)
        )
        wait_for(lambda: one.run(judged(one, *QUESTIONS[0])) == "hit", message="a hit")
        with contextmanager(fault)(redis_server):
            for _ in range(15):
                questions = [cold() for _ in range(10)]
                # The other one has none of them in its own memory: it asks Redis.
                found = one.run(some(one, questions)) + other.run(some(other, questions))
                assert len(found) == 20
        for api in (one, other):
            assert api.services.redis is not None
            # As a health check does, which ends the time for which Redis is left alone.
            wait_for(lambda line=api.services.redis, api=api: api.run(line.ping()), message="Redis is back")

        def is_shared() -> bool:
            before, question = redis_hits(), cold()
            one.run(judged(one, *question))
            other.run(judged(other, *question))
            return redis_hits() > before

        wait_for(is_shared, timeout=30, message="an answer found in Redis")


@pytest.mark.slow
def test_without_redis_postgres_runs_no_more_queries_than_its_limit(
    database: str, redis_server: RedisServer
) -> None:
    land(database, [event("a", hour) for hour in HOURS])
    limit = {"query": {"max_concurrent": 3}}
    with (
        contextmanager(stalled)(redis_server),
        running(settings_for(database, redis_server.settings, analytics=limit)) as api,
        psycopg.connect(database) as holder,
        psycopg.connect(database, autocommit=True) as watching,
    ):
        holder.execute("LOCK TABLE metric_aggregations IN ACCESS EXCLUSIVE MODE")
        answers = [
            api.start(ask(api, METRICS, f"metric_name=events.count&end_time={iso(END)}&start_time={iso(at)}"))
            for at in (START + timedelta(seconds=number) for number in range(60))
        ]

        def waiting() -> int:
            row = watching.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'analytics-api-read'"
                " AND wait_event_type = 'Lock'"
            ).fetchone()
            assert row is not None
            return int(row[0])

        most = 0

        def is_refused() -> bool:
            nonlocal most
            most = max(most, waiting())
            return sum(answer.done() for answer in answers) == 57

        wait_for(is_refused, timeout=LONGEST * 2, message="all others are refused")
        assert most == 3
        holder.rollback()
        found = Counter(answer.result(20)[0] for answer in answers)
        assert found == {200: 3, 503: 57}
        refused = [json.loads(answer.result()[2]) for answer in answers if answer.result()[0] == 503]
        assert {problem["type"].rpartition(":")[2] for problem in refused} == {"overloaded"}
