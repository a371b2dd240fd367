"""Answers kept for as long as the data they came from is unchanged: in this process, then in Redis.

Belongs here: the two levels, the single flight, entity tags.
Does not belong here: what a question is about (the features), versions of the data (`versions`).

Key = format version + version of the days asked for + canonical query. The version is the one known *before* the
read, so an answer may be newer than its key says, never older. Value = the bytes of the hit form, untouched.
A failure of Redis is a miss, and after one it is left alone for a while.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from analytics_pipeline import telemetry
from analytics_pipeline.settings import Redis as RedisSettings
from analytics_pipeline.settings import Settings
from api.database import Database
from api.versions import Versions

FORMAT = "1"
"""Raised when the bytes of an answer change, so that two versions of the program never share entries."""

LOCAL_BYTES = 64 * 1024 * 1024
_CHECK_BYTES = 16
_FIRST_REST = 1.0
_LONGEST_REST = 10.0

_LOCAL_HITS = telemetry.CACHE_HITS.labels("local")
_REDIS_HITS = telemetry.CACHE_HITS.labels("redis")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of one answer, as it is when computed and as it is when it comes from the cache."""

    fresh: bytes
    hit: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """One cacheable read.

    Attributes:
        canonical: the same text for every way to ask the same thing.
        first_day: first UTC day whose data matters.
        last_day: last UTC day whose data matters.
        ask: reads the answer from Postgres.
    """

    canonical: str
    first_day: date
    last_day: date
    ask: Callable[[Database], Awaitable[Answer]]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        digest = blake2b(f"{FORMAT}\n{self.canonical}".encode(), digest_size=16).hexdigest()
        object.__setattr__(self, "fingerprint", digest)

    def key(self, versions: Versions) -> str:
        """The key of the answer in both levels; also its entity tag."""
        return f"{self.fingerprint}{versions.digest(self.first_day, self.last_day)}"


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

    def __init__(self, settings: RedisSettings, *, idle: float) -> None:
        self._timeout = settings.timeout.total_seconds()
        self._idle = max(1, int(idle))
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

    async def get(self, key: str) -> bytes | None:
        """The bytes kept under `key`; anything that is not what was put there counts as nothing."""
        found = await self._try(lambda: self._client.getex(_name(key), ex=self._idle))
        if not isinstance(found, bytes) or len(found) < _CHECK_BYTES:
            return None
        content = found[_CHECK_BYTES:]
        return content if _check(key, content) == found[:_CHECK_BYTES] else None

    async def put(self, key: str, value: bytes) -> None:
        """Keep `value` until nobody has asked for it for `query.cache_ttl`."""
        await self._try(lambda: self._client.set(_name(key), _check(key, value) + value, ex=self._idle))

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


class Cache:
    """Asks the levels in order, then Postgres, once for all who wait for the same answer."""

    def __init__(self, settings: Settings, database: Database) -> None:
        query = settings.analytics.query
        idle = query.cache_ttl.total_seconds()
        self._database = database
        self._is_enabled = query.cache_enabled
        self._local = LocalLevel(limit=LOCAL_BYTES, idle=idle)
        self.shared = SharedLevel(settings.redis, idle=idle) if settings.redis.enabled else None
        self._flights: dict[str, asyncio.Task[tuple[bytes, bool]]] = {}
        self._puts: set[asyncio.Task[None]] = set()

    def key(self, question: Question) -> str | None:
        """The key under the newest known version, or None while nothing proves an answer valid."""
        versions = self._database.watcher.current() if self._is_enabled else None
        return None if versions is None else question.key(versions)

    def peek(self, key: str) -> bytes | None:
        """The hit form, if this process holds it."""
        found = self._local.get(key)
        if found is not None:
            _LOCAL_HITS.inc()
        return found

    async def get(self, question: Question, key: str | None) -> tuple[bytes, bool]:
        """The answer and whether it came from the cache; `key` as `key()` said before the read.

        Raises:
            Problem: Postgres cannot answer either.
        """
        found = None if key is None else self.peek(key)
        if found is not None:
            return found, True
        # No await between looking into the local level and joining: so nobody can start a second flight.
        name = key or question.fingerprint
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(self._fetch(question, key))
            flight.add_done_callback(lambda _: self._flights.pop(name, None))
        # Shielded: the caller who goes away must not take the answer from those who wait with him.
        return await asyncio.shield(flight)

    async def close(self) -> None:
        """Close the connection to Redis."""
        running = [*self._flights.values(), *self._puts]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self.shared is not None:
            await self.shared.close()

    async def _fetch(self, question: Question, key: str | None) -> tuple[bytes, bool]:
        if key is not None and self.shared is not None:
            found = await self.shared.get(key)
            if found is not None:
                _REDIS_HITS.inc()
                self._local.put(key, found)
                return found, True
        telemetry.CACHE_MISSES.inc()
        answer = await question.ask(self._database)
        if key is not None:
            self._local.put(key, answer.hit)
            if self.shared is not None:
                put = asyncio.create_task(self.shared.put(key, answer.hit))
                self._puts.add(put)
                put.add_done_callback(self._puts.discard)
        return answer.fresh, False


def _name(key: str) -> str:
    return f"b25:read:{key}"


def _check(key: str, value: bytes) -> bytes:
    """Tells an entry of ours from garbage, also from one under another key."""
    return blake2b(value, digest_size=_CHECK_BYTES, key=key[:64].encode()).digest()
