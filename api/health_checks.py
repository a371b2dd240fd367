"""Whether Postgres and Redis are there, looked at once per `health.check_interval`, more often while Postgres is not.

Belongs here: the checks and their answer. Does not belong here: the paths (`health`).

Without Postgres the service is `unhealthy` (503); without Redis it is `degraded` (200), because only latency suffers.
"""

import asyncio
import time
from dataclasses import dataclass

import orjson
from fastapi import Response

from analytics_pipeline.settings import Settings
from api.clock import Clock
from api.database import Database
from api.errors import Unavailable
from api.redis_line import RedisLine
from api.times import format_time

_WHILE_DOWN = 0.5
"""Seconds between two looks while Postgres is down, so that it is soon known to be back."""


@dataclass(frozen=True)
class State:
    """One check."""

    database: bool
    cache: bool | None
    detail: str | None

    @property
    def status(self) -> str:
        """One word for all."""
        if not self.database:
            return "unhealthy"
        return "degraded" if self.cache is False else "healthy"


class Health:
    """Checks at most once per interval, for all who ask."""

    def __init__(self, settings: Settings, database: Database, redis: RedisLine | None, clock: Clock) -> None:
        self._interval = settings.health.check_interval.total_seconds()
        self._database = database
        self._redis = redis
        self._clock = clock
        self._lock = asyncio.Lock()
        self._checked_at = -1e9
        self._state = State(database=False, cache=None, detail=None)

    async def check(self) -> State:
        """The state now, or as it was less than an interval ago."""
        async with self._lock:
            interval = self._interval if self._state.database else min(self._interval, _WHILE_DOWN)
            if time.monotonic() - self._checked_at >= interval:
                self._state = await self._look()
                self._checked_at = time.monotonic()
            return self._state

    def answer(self, state: State) -> Response:
        """The answer of all three paths."""
        words = {True: "connected", False: "disconnected", None: "disabled"}
        content: dict[str, object] = {
            "status": state.status,
            "database": words[state.database],
            "cache": words[state.cache],
            "service": "analytics",
            "timestamp": format_time(self._clock()),
        }
        if state.detail is not None:
            content["detail"] = state.detail
        status = 200 if state.database else 503
        return Response(
            orjson.dumps(content),
            status,
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def _look(self) -> State:
        redis = self._redis
        cache, fault = await asyncio.gather(_nothing() if redis is None else redis.ping(), self._fault())
        detail = fault or ("Redis is not reachable; answers come from Postgres." if cache is False else None)
        return State(database=fault is None, cache=cache, detail=detail)

    async def _fault(self) -> str | None:
        try:
            await self._database.ping()
        except Unavailable as problem:
            return problem.detail
        return None


async def _nothing() -> None:
    return None
