"""Where cached answers are kept: in this process, and in Redis.

Belongs here: bounds in bytes and time, and that a failure of Redis is a miss.
Does not belong here: which answer is valid (`cache`).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from analytics_pipeline.settings import Redis as RedisSettings

_CHECK_BYTES = 16
_FIRST_REST = 1.0
_LONGEST_REST = 10.0

_log = structlog.get_logger()


class LocalLevel:
    """The most recently used answers of this process, bounded in bytes."""

    def __init__(self, *, limit: int, idle: float) -> None:
        self._limit = limit
        self._idle = idle
        self._size = 0
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, value: bytes) -> None:
        """Keep `value`; the least recently used and the expired go."""
        now = time.monotonic()
        if key in self._entries:
            self._size -= len(self._entries.pop(key)[0])
        if len(value) > self._limit:
            return
        self._entries[key] = (value, now + self._idle)
        self._size += len(value)
        while self._entries:
            oldest, (content, until) = next(iter(self._entries.items()))
            if self._size <= self._limit and until > now:
                break
            del self._entries[oldest]
            self._size -= len(content)


class SharedLevel:
    """Redis, as far as it is there: every failure is a miss, and its time is bounded."""

    def __init__(self, settings: RedisSettings) -> None:
        self._timeout = settings.timeout.total_seconds()
        self._rest = 0.0
        self._resting_until = 0.0
        password = settings.password.get_secret_value()
        if settings.password_file is not None:
            password = settings.password_file.read_text().strip()
        self._client = Redis(
            host=settings.host,
            port=settings.port,
            db=settings.db,
            username=settings.username,
            password=password or None,
            ssl=settings.tls,
            ssl_ca_certs=str(settings.tls_ca_file) if settings.tls_ca_file else None,
            max_connections=settings.pool_size,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
        )

    async def get(self, key: str, lifetime: float) -> bytes | None:
        """The bytes kept under `key`; anything that is not what was put there counts as nothing."""
        found = await self._try(lambda: self._client.getex(_name(key), ex=_seconds(lifetime)))
        if not isinstance(found, bytes) or len(found) < _CHECK_BYTES:
            return None
        content = found[_CHECK_BYTES:]
        return content if _check(key, content) == found[:_CHECK_BYTES] else None

    async def put(self, key: str, value: bytes, lifetime: float) -> None:
        """Keep `value` until nobody has asked for it for `lifetime` seconds."""
        content = _check(key, value) + value
        await self._try(lambda: self._client.set(_name(key), content, ex=_seconds(lifetime)))

    async def ping(self) -> bool:
        """Whether Redis answers right now."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        self._rest = self._resting_until = 0.0
        return True

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _try(self, command: Callable[[], Awaitable[object]]) -> object:
        now = time.monotonic()
        if now < self._resting_until:
            return None
        if self._rest:
            # One request finds out whether it is back; the others go on without.
            self._resting_until = now + self._rest
        try:
            async with asyncio.timeout(self._timeout):
                found = await command()
        except ResponseError:
            return None  # what is there is not ours; Redis itself is well
        except (RedisError, OSError, TimeoutError) as error:
            if not self._rest:
                _log.warning("cache_unavailable", reason=type(error).__name__)
            self._rest = min(max(self._rest * 2, _FIRST_REST), _LONGEST_REST)
            self._resting_until = time.monotonic() + self._rest
            return None
        if self._rest:
            _log.info("cache_available")
            self._rest = self._resting_until = 0.0
        return found


def _name(key: str) -> str:
    return f"b25:read:{key}"


def _seconds(lifetime: float) -> int:
    return max(1, int(lifetime))


def _check(key: str, value: bytes) -> bytes:
    """Tells an entry of ours from garbage, also from one under another key."""
    return blake2b(value, digest_size=_CHECK_BYTES, key=key[:64].encode()).digest()
