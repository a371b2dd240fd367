"""Limits of keys hold over all API processes, on cached answers too, and while Redis is away."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import Redis as RedisSettings
from api import turns
from api.rate_limit import Verdict
from api.redis_line import RedisLine
from api.shared_rate_limit import SharedRateLimiter
from tests.integration.api_support import iso, running, settings_for
from tests.integration.keyed_api import Client, asking_for_keys, client_of, make_key
from tests.waiting import wait_for

METRICS = "/api/v1/metrics"
Made = Callable[..., SharedRateLimiter]


def settings(server: Redis) -> RedisSettings:
    return RedisSettings.model_validate(
        {"host": server.host, "port": server.port, "password": server.password, "timeout": "2s"}
    )


def administer(server: Redis) -> "redis.Redis[Any]":
    return redis.Redis(server.host, server.port, password=server.password)


@contextmanager
def limiters(
    server: Redis, count: int, **limit: int
) -> Iterator[tuple[asyncio.Runner, list[SharedRateLimiter]]]:
    """As many as there are processes, each with a connection of its own, in one loop."""
    with asyncio.Runner() as runner:
        lines = [RedisLine(settings(server)) for _ in range(count)]
        yield runner, [SharedRateLimiter(line, **limit) for line in lines]
        for line in lines:
            runner.run(line.close())


def test_processes_share_one_count(redis_server: Redis) -> None:
    with limiters(redis_server, 2, requests_per_minute=60, burst=5) as (runner, [first, second]):

        async def ask() -> list[Verdict]:
            return [await (first if n % 2 else second).check("shared") for n in range(8)]

        verdicts = runner.run(ask())
    assert [one.is_allowed for one in verdicts] == [True] * 5 + [False] * 3
    assert [one.remaining for one in verdicts] == [4, 3, 2, 1, 0, 0, 0, 0]
    assert all(0 < one.retry_after <= 1 for one in verdicts[5:])


def test_many_at_once_are_asked_for_together_and_counted_one_by_one(redis_server: Redis) -> None:
    with limiters(redis_server, 1, requests_per_minute=60, burst=300) as (runner, [limiter]):

        async def ask() -> list[Verdict]:
            names = [f"many-{n % 2}" for n in range(700)]
            return await asyncio.gather(*map(limiter.check, names))

        before = administer(redis_server).info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        verdicts = runner.run(ask())
        after = administer(redis_server).info("commandstats")["cmdstat_evalsha"]["calls"]
    for own in (verdicts[::2], verdicts[1::2]):
        assert sum(one.is_allowed for one in own) in {300, 301}
        assert [one.remaining for one in own[:300]] == list(range(299, -1, -1))
    assert after - before <= 5


def test_a_rest_gives_the_burst_back_and_keys_expire(redis_server: Redis) -> None:
    with limiters(redis_server, 1, requests_per_minute=6_000, burst=2) as (runner, [limiter]):
        verdicts = [runner.run(limiter.check("rest")) for _ in range(2)]
        assert [one.is_allowed for one in verdicts] == [True, True]
        assert 0 < verdicts[0].reset <= 0.01 < verdicts[1].reset + 0.01 <= 0.03
        wait_for(lambda: not administer(redis_server).exists("b25:rate:rest"), timeout=2)
        assert runner.run(limiter.check("rest")).remaining == 1


@pytest.mark.parametrize("garbage", [b"", b"x", b"nan", b"inf", b"-5", b"9" * 30, ["list"]])
def test_garbage_in_redis_neither_fails_nor_locks_out(redis_server: Redis, garbage: Any) -> None:
    administered = administer(redis_server)
    administered.delete("b25:rate:garbage")
    if isinstance(garbage, list):
        administered.rpush("b25:rate:garbage", *garbage)
    else:
        administered.set("b25:rate:garbage", garbage)
    with limiters(redis_server, 1, requests_per_minute=60, burst=3) as (runner, [limiter]):
        verdicts = [runner.run(limiter.check("garbage")) for _ in range(4)]
    assert [one.is_allowed for one in verdicts] == [True, True, True, False]
    administered.delete("b25:rate:garbage")


def test_more_questions_than_connections_wait_for_one(redis_server: Redis) -> None:
    with asyncio.Runner() as runner:
        line = RedisLine(settings(redis_server).model_copy(update={"pool_size": 2}))

        async def ask() -> list[object]:
            return await asyncio.gather(*(line.ask(lambda client: client.echo("x")) for _ in range(20)))

        assert runner.run(ask()) == [b"x"] * 20
        assert runner.run(line.ping())
        runner.run(line.close())


def test_without_redis_each_process_counts_and_nobody_waits_for_long() -> None:
    nowhere = RedisSettings.model_validate({"host": "127.0.0.1", "port": free_port(), "timeout": "250ms"})
    with asyncio.Runner() as runner:
        line = RedisLine(nowhere)
        limiter = SharedRateLimiter(line, requests_per_minute=60, burst=5)
        began = time.perf_counter()
        verdicts = [runner.run(limiter.check("a")) for _ in range(7)]
        assert time.perf_counter() - began < 1
        assert [one.is_allowed for one in verdicts] == [True] * 5 + [False] * 2
        assert [one.remaining for one in verdicts] == [4, 3, 2, 1, 0, 0, 0]
        assert runner.run(limiter.check("b")).is_allowed
        runner.run(line.close())


@pytest.mark.slow
def test_two_applications_a_cached_answer_and_one_key(database: str, redis_server: Redis) -> None:
    limit = {"rate_limit": {"requests_per_minute": 60, "burst": 30}}
    end = datetime.now(UTC) - timedelta(hours=30)
    asked = {"metric_name": "events.count", "start_time": iso(end - timedelta(hours=1)), "end_time": iso(end)}
    with (
        asking_for_keys(database, redis_server, security=limit) as first,
        asking_for_keys(database, redis_server, security=limit) as second,
    ):
        key = make_key(database, "read")
        clients = [Client(api, key) for api in (first, second)]
        for client in clients:
            wait_for(lambda client=client: client.request("GET", METRICS, params=asked).is_success)  # type: ignore[misc]
        answers = [clients[n % 2].request("GET", METRICS, params=asked) for n in range(40)]
        assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"30"}
        remaining = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers if answer.is_success]
        assert 0 < len(remaining) < 30
        assert remaining[0] - remaining[-1] >= len(remaining) - 2
        refused = answers[-1]
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:b25-analytics:problem:rate-limited"
        assert 0 < int(refused.headers["retry-after"]) == refused.json()["retry_after"] <= 2
        # Another key, and whoever needs none, go on.
        assert client_of(first, database, "read").request("GET", METRICS, params=asked).is_success
        assert first.request("GET", "/health").is_success


def test_a_key_never_takes_all_turns_at_postgres(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "QUEUE_TIME", 0.2)
    settings = settings_for(
        database,
        security={"api_key_enabled": True},
        analytics={"query": {"max_concurrent": 3, "max_concurrent_per_key": 2}},
    )
    held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
    with (
        running(settings) as api,
        psycopg.connect(database) as blocker,
        psycopg.connect(database, autocommit=True) as watcher,
    ):
        greedy, other = (client_of(api, database, "read") for _ in range(2))
        blocker.execute("LOCK TABLE events")
        asked = [
            api.start(api.client.get("/api/v1/events", headers=greedy.headers, params={"limit": n}))
            for n in (1, 2)
        ]
        wait_for(lambda: watcher.execute(held).fetchone() == (2,), message="two queries wait")
        refused = greedy.request("GET", "/api/v1/custom-events")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.headers.keys() >= {"x-ratelimit-limit", "x-ratelimit-remaining"}
        problem = refused.json()
        assert problem["type"] == "urn:b25-analytics:problem:too-many-queries"
        assert "analytics.query.max_concurrent_per_key" in problem["detail"]
        assert other.get("/api/v1/custom-events")["count"] == 0
        blocker.rollback()
        assert [one.result(20).status_code for one in asked] == [200, 200]
        assert greedy.get("/api/v1/custom-events")["count"] == 0


def test_operators_of_one_key_leave_room_at_the_desk(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "QUEUE_TIME", 0.2)
    held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dead_letter_events'::regclass"
    with (
        asking_for_keys(database) as api,
        psycopg.connect(database) as blocker,
        psycopg.connect(database, autocommit=True) as watcher,
    ):
        greedy, other = (client_of(api, database, "read") for _ in range(2))
        blocker.execute("LOCK TABLE dead_letter_events")
        asked = [api.start(api.client.get("/api/v1/dead-letters", headers=greedy.headers)) for _ in range(2)]
        wait_for(lambda: watcher.execute(held).fetchone() == (2,), message="two queries wait")
        assert greedy.request("GET", "/api/v1/sources").status_code == 429
        assert other.get("/api/v1/sources")["sources"] == []
        blocker.rollback()
        assert [one.result(20).status_code for one in asked] == [200, 200]


def test_wrong_keys_from_elsewhere_are_limited_by_address(database: str) -> None:
    limit = {"rate_limit": {"requests_per_minute": 60, "burst": 3}}
    with asking_for_keys(database, address="203.0.113.7", security=limit) as api:
        statuses = [Client(api, "wrong").request("GET", METRICS).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
