"""The connections of this process to Redis, which may disappear at any moment.

Belongs here: that a question takes a bounded time, and that Redis is left alone for a while after a failure.
Does not belong here: what is asked (`cache_levels`, `shared_rate_limit`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from analytics_pipeline.settings import Redis as RedisSettings
from analytics_pipeline.telemetry import CACHE_UP

_FIRST_REST = 1.0
_LONGEST_REST = 10.0
LOOK = 5.0
"""Seconds between two looks of a process that has nothing to ask."""

_log = structlog.get_logger()


class RedisLine:
    """Asks Redis, as far as it is there."""

    def __init__(self, settings: RedisSettings) -> None:
        self._timeout = settings.timeout.total_seconds()
        self._up = CACHE_UP.labels("api")
        self._up.set(1)  # until it says no
        self._rest = 0.0
        self._resting_until = 0.0
        self._watch: asyncio.Task[None] | None = None
        # One more than the client has connections is an error of its, as if Redis were away.
        self._connections = asyncio.Semaphore(settings.pool_size)
        self._client = Redis(
            **settings.address(),
            max_connections=settings.pool_size,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
        )

    def start(self) -> None:
        """Look at Redis every `LOOK` seconds, so that a process without requests knows of it, too."""
        self._watch = asyncio.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.ping()
            except Exception:  # noqa: BLE001 - without this task nobody would learn whether Redis is there
                _log.exception("cache_watch_failed")
            await asyncio.sleep(LOOK)

    async def ping(self) -> bool:
        """Whether Redis answers right now."""
        try:
            async with asyncio.timeout(self._timeout), self._connections:
                await self._client.ping()
        except (RedisError, OSError, TimeoutError) as error:
            self._is_away(error)
            return False
        self._is_there()
        return True

    async def close(self) -> None:
        """Stop looking and close all connections."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._client.aclose()

    async def ask(self, command: Callable[[Redis], Awaitable[object]]) -> object:
        """What Redis answers; None if it does not, or if what is there is not ours."""
        now = time.monotonic()
        if now < self._resting_until:
            return None
        if self._rest:
            # One request finds out whether it is back; the others go on without.
            self._resting_until = now + self._rest
        try:
            async with asyncio.timeout(self._timeout), self._connections:
                found = await command(self._client)
        except ResponseError:
            return None  # what is there is not ours; Redis itself is well
        except (RedisError, OSError, TimeoutError) as error:
            self._is_away(error)
            return None
        self._is_there()
        return found

    def _is_away(self, error: Exception) -> None:
        if not self._rest:
            _log.warning("cache_unavailable", reason=type(error).__name__)
        self._rest = min(max(self._rest * 2, _FIRST_REST), _LONGEST_REST)
        self._resting_until = time.monotonic() + self._rest
        self._up.set(0)

    def _is_there(self) -> None:
        if self._rest:
            _log.info("cache_available")
            self._rest = self._resting_until = 0.0
        self._up.set(1)
