"""Checks of Redis: a cache only, whose loss costs time and nothing else.

Belongs here: asking it and judging. Does not belong here: the cache itself (the API).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from analytics_pipeline.doctor.clocks import judge_clock
from analytics_pipeline.doctor.findings import Verdict, ok, problem, remark
from analytics_pipeline.doctor.installation import Installation
from analytics_pipeline.errors import EnvironmentFault

_OLDEST = (6, 2)


def reachable(found: Installation) -> Iterator[Verdict]:
    """The server; without it answers are right, only slower."""
    where = f"{found.settings.redis.host}:{found.settings.redis.port}"
    try:
        with found.redis() as client:
            version = str(_info(client, "server").get("redis_version", "0"))
    except (AuthenticationError, ResponseError) as error:
        raise EnvironmentFault(
            f"Redis at {where} refuses ({type(error).__name__}): check redis.username and redis.password"
        ) from error
    except (RedisError, OSError) as error:
        raise EnvironmentFault(
            f"Redis at {where} does not answer ({type(error).__name__}), so every read asks Postgres: check "
            "redis.host and redis.port, or set redis.enabled: false"
        ) from error
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        yield problem(f"Redis {version} is too old", "use Redis 6.2 or newer")
    else:
        yield ok(f"Redis {version}")


def policy(found: Installation) -> Iterator[Verdict]:
    """What it does when its memory is full, and whether it writes to the disk for nothing."""
    with found.redis() as client:
        memory, persistence = _info(client, "memory"), _info(client, "persistence")
        saves = _config(client, "save")
    yield from judge_policy(
        str(memory.get("maxmemory_policy", "")),
        int(memory.get("maxmemory", 0)),
        saves=saves,
        appends=bool(int(persistence.get("aof_enabled", 0))),
    )


def judge_policy(name: str, most: int, *, saves: str, appends: bool) -> Iterator[Verdict]:
    """Its settings; `most` in bytes, 0 for no limit."""
    if not most:
        yield remark("Redis has no limit of memory (maxmemory 0)", "CONFIG SET maxmemory 256mb")
    if not name.startswith("allkeys-"):
        yield remark(
            f"maxmemory-policy is {name or 'not known'}: when memory is full, new answers are not kept",
            "CONFIG SET maxmemory-policy allkeys-lru",
        )
    if saves or appends:
        yield remark(
            "Redis writes to its disk; a cache needs no copy there", "CONFIG SET save '' and appendonly no"
        )
    if most and name.startswith("allkeys-"):
        yield ok(f"maxmemory-policy is {name}, {most / 1e6:,.0f} MB at most")


def clock(found: Installation) -> Iterator[Verdict]:
    """Its clock, which rate limits go by."""
    with found.redis() as client:

        def theirs() -> datetime:
            seconds, micros = client.time()
            return datetime.fromtimestamp(seconds + micros / 1e6, UTC)

        yield judge_clock("Redis", theirs, found.now)


def _info(client: Redis, section: str) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], client.info(section))


def _config(client: Redis, name: str) -> str:
    """Empty where it may not be asked (a managed Redis)."""
    try:
        return str(cast(Mapping[str, Any], client.config_get(name)).get(name, ""))
    except ResponseError:
        return ""
