"""The cache: valid for as long as the data is unchanged, never an error, one query for all who wait."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis as redis_client
from prometheus_client import REGISTRY

from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.buckets import finalize_buckets
from tests.integration.api_support import Api, event, iso, land, running, settings_for, settle
from tests.waiting import wait_for

METRICS = "/api/v1/metrics"


@pytest.fixture
def now() -> datetime:
    """The frozen clock of the application: one second, so one question.

    Not the first of a minute: a range ends at the second, so the minute of an event of now would not be in it yet.
    """
    found = datetime.now(UTC).replace(microsecond=250_000)
    return found.replace(second=max(found.second, 1))


@pytest.fixture
def redis(redis_server: Redis) -> redis_client.Redis:
    client = redis_client.Redis(
        host=redis_server.host, port=redis_server.port, password=redis_server.password
    )
    client.flushall()
    return client


@pytest.fixture
def api(database: str, redis_server: Redis, redis: redis_client.Redis, now: datetime) -> Iterator[Api]:
    with running(settings_for(database, redis_server), clock=lambda: now) as running_api:
        yield running_api
    redis.close()


def ask(api: Api, path: str = METRICS, headers: Any = None, **parameters: str) -> Any:
    if path == METRICS:
        parameters = {"metric_name": "events.count", "interval": "1m"} | parameters
    return api.request("GET", path, params=parameters, headers=headers)


def hit(api: Api, path: str = METRICS, **parameters: str) -> Any:
    """The answer from the cache: on a busy machine the versions may be too old to prove one valid at first."""
    found = []

    def is_hit() -> bool:
        found.append(ask(api, path, **parameters))
        return found[-1].headers["x-cache"] == "hit"

    wait_for(is_hit, timeout=5, message="a hit")
    return found[-1]


def total(api: Api) -> tuple[bool, float]:
    content = ask(api).json()
    return content["cached"], sum(point["value"] for point in content["result"]["data_points"])


def test_hits_differ_from_misses_in_one_field(api: Api, database: str, now: datetime) -> None:
    land(database, [event("a", now - timedelta(minutes=1))])
    api.soon(lambda: total(api)[1], 1)
    first = ask(api, interval="5m")
    second = hit(api, interval="5m")
    assert (first.json()["cached"], second.json()["cached"]) == (False, True)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.json()["result"] == second.json()["result"]
    for path in ("/api/v1/dashboard/metrics", "/api/v1/events/stats"):
        one, two = ask(api, path), hit(api, path)
        assert one.headers["x-cache"] == "miss"
        assert one.content == two.content


def test_large_answers_stay_in_their_process(
    api: Api, redis: redis_client.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_put() -> None:
        await asyncio.gather(*api.services.reads._cache._puts)

    monkeypatch.setattr("api.cache.MOST_SHARED_BYTES", 10)
    hit(api)
    api.run(all_put())
    assert redis.keys("b25:read:*") == []
    monkeypatch.undo()
    hit(api, interval="5m")
    api.run(all_put())
    assert len(redis.keys("b25:read:*")) == 1


@pytest.mark.slow
def test_a_landing_and_a_merge_invalidate_at_once(api: Api, database: str, now: datetime) -> None:
    at = now - timedelta(minutes=3)
    for number in range(1, 6):
        land(database, [event("a", at)])
        api.soon(lambda: total(api)[1], number)
        tag = hit(api).headers["etag"]
        assert total(api)[1] == number
        settle(database)
        wait_for(lambda tag=tag: ask(api).headers["etag"] != tag, timeout=3, message="a new version")
        assert total(api)[1] == number


def test_a_bucket_that_becomes_final_invalidates_though_its_numbers_stay(
    api: Api, database: str, now: datetime
) -> None:
    land(database, [event("a", now - timedelta(minutes=30))])
    settle(database)
    api.soon(lambda: ask(api).json()["result"]["data_points"][0]["state"], "open")
    hit(api)
    with psycopg.connect(database, autocommit=True) as connection:
        grace = timedelta(seconds=30)
        assert finalize_buckets(connection, now=now, graces=dict.fromkeys(LEVELS, grace), run_id="test") >= 3
    api.soon(lambda: ask(api).json()["result"]["data_points"][0]["state"], "final")


def test_another_days_data_leaves_answers_valid(api: Api, database: str, now: datetime) -> None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    range_of_yesterday = {"start_time": iso(midnight - timedelta(days=1)), "end_time": iso(midnight)}
    tag = hit(api, **range_of_yesterday).headers["etag"]
    land(database, [event("a", midnight)])
    whole = {"start_time": iso(midnight - timedelta(days=1)), "end_time": iso(midnight + timedelta(days=1))}
    api.soon(lambda: len(ask(api, **whole).json()["result"]["data_points"]), 1)
    assert hit(api, **range_of_yesterday).headers["etag"] == tag


def test_the_same_question_in_other_words_is_the_same_entry(api: Api, now: datetime) -> None:
    start, end = now.replace(microsecond=0) - timedelta(hours=2), now.replace(microsecond=0)
    plus_two = "+02:00"
    words = [
        f"metric_name=trading.total_volume&interval=1h&start_time={iso(start)}&end_time={iso(end)}",
        f"end_time={iso(end)}&start_time={iso(start)}&metric_name=trading.total_volume",
        f"metric_name=trading.total_volume&start_time={iso(start)}&aggregation=sum&_=1",
        "metric_name=trading.total_volume&start_time="
        + (start + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.000") + plus_two.replace("+", "%2B"),
        f"metric_name=trading.total_volume&start_time={iso(start)}&time_zone=UTC&group_by=",
    ]  # fmt: skip
    wait_for(lambda: api.request("GET", f"{METRICS}?{words[0]}").json()["cached"], timeout=5, message="a hit")
    answers = [api.request("GET", f"{METRICS}?{text}") for text in words]
    assert all(answer.json()["cached"] for answer in answers)
    assert len({answer.headers["etag"] for answer in answers}) == 1


def test_counts_in_other_words_are_the_same_entry_and_other_counts_are_not(api: Api, now: datetime) -> None:
    start, end = now.replace(microsecond=0) - timedelta(hours=2), now.replace(microsecond=0)
    zoned = (start + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S") + "%2B02:00"
    path = "/api/v1/events/stats"
    words = [
        f"start_time={iso(start)}&end_time={iso(end)}&interval=1h",
        f"interval=1h&end_time={iso(end)}&start_time={zoned}&_=1",
        f"start_time={iso(start)}&interval=1h",  # until now
    ]
    others = [
        words[0].replace("1h", "1m"),
        words[0].replace("&interval=1h", ""),
        words[0] + f"&end_time={iso(end)}",
    ]
    wait_for(
        lambda: api.request("GET", f"{path}?{words[0]}").headers["x-cache"] == "hit",
        timeout=5,
        message="a hit",
    )
    answers = [api.request("GET", f"{path}?{text}") for text in words]
    assert [answer.headers["x-cache"] for answer in answers] == ["hit"] * 3
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1
    tags = {api.request("GET", f"{path}?{text}").headers.get("etag") for text in others[:2]}
    assert len(tags | {answers[0].headers["etag"]}) == 3
    assert api.request("GET", f"{path}?{others[2]}").status_code == 400  # given twice


def kept_in(redis: redis_client.Redis, answer: bytes) -> list[bytes]:
    """The keys under which Redis has it."""
    return [key for key in redis.keys("*") if (redis.get(key) or b"").endswith(answer)]


@pytest.mark.slow
def test_bytes_are_the_same_in_each_level_and_process(
    api: Api,
    database: str,
    redis_server: Redis,
    redis: redis_client.Redis,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a busy machine the test takes longer than such an answer lives.
    monkeypatch.setattr("api.cache.SHORT_LIFE", 60.0)
    land(database, [event("a", now - timedelta(minutes=minute), price=0.1 + minute) for minute in range(9)])
    api.soon(lambda: total(api)[1], 9)
    # Those are counted before the versions say so: an answer would be kept under the versions before, and these.
    api.run(api.services.database.watcher.since(time.monotonic()))
    for path, parameters in ((METRICS, {"interval": "5m"}), ("/api/v1/events/stats", {"interval": "5m"})):
        redis.flushall()
        local = hit(api, path, **parameters).content
        # Another answer may still be on its way there: that of the question before.
        [key] = wait_for(lambda local=local: kept_in(redis, local), message="the answer in Redis")
        kept = redis.get(key)
        assert isinstance(kept, bytes)
        assert kept.endswith(local)
        with running(settings_for(database, redis_server), clock=lambda: now) as other:
            found = hit(other, path, **parameters)  # in Redis, or by now in that process
            assert found.content == hit(other, path, **parameters).content == local
            assert found.headers["etag"] == hit(api, path, **parameters).headers["etag"]
        assert redis.get(key) == kept


def test_304_for_who_has_it_already(api: Api) -> None:
    first = hit(api)
    for tag in (first.headers["etag"], f'"x", {first.headers["etag"]}', first.headers["etag"][2:], "*"):
        answer = ask(api, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == first.headers["etag"]
        assert "x-request-id" in answer.headers
    assert ask(api, headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_304_for_who_has_what_a_landing_did_not_change(api: Api, database: str, now: datetime) -> None:
    """A range of today, of which the version changes with each landing of the day."""
    past = {"start_time": iso(now - timedelta(hours=3)), "end_time": iso(now - timedelta(hours=2))}
    land(database, [event("a", now - timedelta(minutes=150))])
    api.soon(lambda: len(ask(api, **past).json()["result"]["data_points"]), 1)
    tag = hit(api, **past).headers["etag"]
    land(database, [event("a", now)])
    api.soon(lambda: total(api)[1], 2)
    answer = ask(api, headers={"If-None-Match": tag}, **past)
    assert (answer.status_code, answer.headers["etag"]) == (304, tag)
    assert ask(api, **past).headers["etag"] == tag


@pytest.mark.slow
def test_a_second_process_finds_the_answer_in_redis(
    api: Api, database: str, redis_server: Redis, redis: redis_client.Redis, now: datetime
) -> None:
    first = ask(api)
    wait_for(lambda: redis.dbsize() == 1, message="the answer in Redis")
    with running(settings_for(database, redis_server), clock=lambda: now) as other:
        second = ask(other)
    assert second.json()["cached"] is True
    assert second.json()["result"] == first.json()["result"]


def test_redis_forgets_soon_what_will_soon_be_out_of_date(
    api: Api, database: str, redis: redis_client.Redis, now: datetime
) -> None:
    def lifetime() -> int:
        wait_for(lambda: redis.dbsize() == 1, message="the answer in Redis")
        [key] = redis.keys("*")
        left = redis.ttl(key)
        redis.flushall()
        assert isinstance(left, int)
        return left

    yesterday = {"start_time": iso(now - timedelta(days=2)), "end_time": iso(now - timedelta(days=1))}
    assert ask(api).status_code == 200
    assert lifetime() <= 10
    ask(api, **yesterday)
    assert lifetime() > 200
    day = (now - timedelta(days=1)).date()
    land(database, [event("a", now - timedelta(days=1))])

    def is_pending() -> bool:
        versions = api.services.database.watcher.current()
        return versions is not None and not versions.is_quiet(day, day)

    wait_for(is_pending, timeout=3, message="the landing is noticed")
    ask(api, **yesterday)
    assert lifetime() <= 10


@pytest.mark.slow
def test_garbage_in_redis_counts_as_nothing(
    api: Api, database: str, redis_server: Redis, redis: redis_client.Redis, now: datetime
) -> None:
    first = ask(api)
    wait_for(lambda: redis.dbsize() == 1, message="the answer in Redis")
    [key] = redis.keys("*")
    good = redis.get(key)
    assert isinstance(good, bytes)
    for garbage in (b"", b"x", b"x" * 100, good[:-1], good + b" ", good[:16] + b"{}"):
        redis.set(key, garbage)
        with running(settings_for(database, redis_server), clock=lambda: now) as other:
            answer = ask(other)
            assert answer.headers["x-cache"] == "miss"
            assert answer.json() == first.json()
            wait_for(lambda: redis.get(key) == good, message="the garbage is replaced")
    redis.delete(key)
    redis.lpush(key, "not ours")
    with running(settings_for(database, redis_server), clock=lambda: now) as other:
        assert ask(other).json() == first.json()
        assert other.get("/health")["status"] == "healthy"


def test_two_hundred_cold_readers_run_one_query(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two hundred requests in the loop of the server keep it from reading versions on a busy machine; then it rightly
    # trusts none, and asks once more: not what this is about.
    monkeypatch.setattr("api.versions.MAX_AGE", 60.0)

    def queries() -> float:
        return REGISTRY.get_sample_value("analytics_query_duration_seconds_count", {"query": "metrics"}) or 0

    before = queries()
    answers = api.run(_ask_bare(api, METRICS, b"metric_name=users.active&interval=1m", times=200))
    assert len({json.dumps(json.loads(answer)["result"]) for answer in answers}) == 1
    assert queries() - before == 1


async def _ask_bare(api: Api, path: str, query: bytes, *, times: int) -> list[bytes]:
    """The bodies of many requests at once, without an HTTP client.

    Clients in the loop of the server would keep it so busy that it cannot read the versions in time; then it rightly
    trusts none, and asks once more.
    """

    async def ask_once() -> bytes:
        body = b""

        async def send(message: Any) -> None:
            nonlocal body
            assert message.get("status", 200) == 200
            body += message.get("body", b"")

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": [],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9097),
        }  # fmt: skip
        await api.app(scope, receive, send)
        return body

    return await asyncio.gather(*(ask_once() for _ in range(times)))


def test_a_dead_redis_costs_nothing_and_says_degraded(
    database: str, redis_server: Redis, now: datetime
) -> None:
    settings = settings_for(database, redis_server)
    settings.redis.port = 1
    with running(settings, clock=lambda: now) as api:
        health = api.get("/health")
        assert (health["status"], health["database"], health["cache"]) == (
            "degraded",
            "connected",
            "disconnected",
        )
        assert ask(api).json()["cached"] is False
        assert hit(api).json()["cached"] is True
        assert ask(api, "/api/v1/dashboard/metrics").status_code == 200
        assert api.post("/api/v1/events", {"event_type": "a"})["success"] is True


def test_without_cache_every_read_asks(database: str) -> None:
    query = {"query": {"cache_enabled": False}}
    with running(settings_for(database, analytics=query)) as api:
        answers = [ask(api) for _ in range(2)]
        assert [answer.json()["cached"] for answer in answers] == [False, False]
        assert answers[0].headers["etag"] == answers[1].headers["etag"]
        assert api.get("/health")["cache"] == "disabled"


def test_an_edited_revision_alone_is_a_new_version(api: Api, database: str, now: datetime) -> None:
    hit(api)
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO rollup_days (day, revision) VALUES (%s, 1)", (now.date(),))
    wait_for(lambda: ask(api).headers["x-cache"] == "miss", timeout=3, message="a new version")
