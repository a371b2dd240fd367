"""Answers kept for as long as the data they came from is unchanged: in this process, then in Redis.

Belongs here: the two levels, the single flight.
Does not belong here: what a question is about (the features), versions of the data (`versions`).

Key = format version + version of the days asked for + canonical query. The version is the one known *before* the
read, so an answer may be newer than its key says, never older. Value = the bytes of the hit form, untouched.
A failure of Redis is a miss, and after one it is left alone for a while.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from typing import NamedTuple

from analytics_pipeline import telemetry
from analytics_pipeline.settings import Settings
from api.cache_levels import Kept, LocalLevel, SharedLevel
from api.database import Database, Reader
from api.entity_tags import entity_tag
from api.errors import TooManyRequests
from api.redis_line import RedisLine
from api.timing import spending
from api.versions import MAX_AGE, Versions

FORMAT = "1"
"""Raised when the bytes of an answer change, so that two versions of the program never share entries."""

LOCAL_BYTES = 64 * 1024 * 1024
MOST_SHARED_BYTES = 4 * 1024 * 1024
"""Of an answer in Redis: a larger one would hold up what others ask it, whose time is short."""

SHORT_LIFE = 10.0
"""Seconds in Redis for an answer that will soon be out of date: a moving range, or days that still change."""

ANSWER_FIRST = 0.02
"""Seconds that an answer waits before it is copied to Redis: whoever asked for it must not wait for the copy."""

_LOCAL_HITS = telemetry.CACHE_HITS.labels("local")
_REDIS_HITS = telemetry.CACHE_HITS.labels("redis")


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of one answer, as it is when computed and as it is when it comes from the cache.

    `is_lasting`: whether it may be kept; not if a part of it failed for reasons that pass.
    """

    fresh: bytes
    hit: bytes
    is_lasting: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """One cacheable read.

    Attributes:
        canonical: the same text for every way to ask the same thing.
        first_day: first UTC day whose data matters.
        last_day: last UTC day whose data matters.
        ask: reads the answer from Postgres.
        is_moving: whether the range ends now, so that it will be another question in a second.
        is_large: whether it takes so much memory that it is not kept to be asked again.
    """

    canonical: str
    first_day: date
    last_day: date
    ask: Callable[[Reader], Awaitable[Answer]]
    is_moving: bool = False
    is_large: bool = False
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        digest = blake2b(f"{FORMAT}\n{self.canonical}".encode(), digest_size=16).hexdigest()
        object.__setattr__(self, "fingerprint", digest)

    def key(self, versions: Versions) -> str:
        """The key of the answer in both levels."""
        return f"{self.fingerprint}{versions.digest(self.first_day, self.last_day)}"


_Read = asyncio.Task[Kept]


class _Flight(NamedTuple):
    """A read that others may wait for."""

    read: _Read
    begun_at: float

    @property
    def is_young(self) -> bool:
        """Whether what it does not see has landed so recently that an answer with a key could miss it as well."""
        return time.monotonic() - self.begun_at <= MAX_AGE


class Cache:
    """Asks the levels in order, then Postgres, once for all who wait for the same answer."""

    def __init__(self, settings: Settings, database: Database, redis: RedisLine | None = None) -> None:
        query = settings.analytics.query
        idle = self._idle = query.cache_ttl.total_seconds()
        self._database = database
        self._is_enabled = query.cache_enabled
        self._local = LocalLevel(limit=LOCAL_BYTES, idle=idle)
        self._shared = None if redis is None else SharedLevel(redis)
        self._flights: dict[str, _Flight] = {}
        self._reads: set[_Read] = set()
        self._puts: set[asyncio.Task[None]] = set()

    def key(self, question: Question) -> str | None:
        """The key under the newest known version, or None while nothing proves an answer valid."""
        versions = self._database.watcher.current() if self._is_enabled else None
        return None if versions is None else question.key(versions)

    def peek(self, key: str) -> Kept | None:
        """The hit form, if this process holds it."""
        found = self._local.get(key)
        if found is not None:
            _LOCAL_HITS.inc()
        return found

    async def get(self, question: Question, key: str | None) -> Kept:
        """The answer; `key` as `key()` said before the read.

        Raises:
            Problem: Postgres cannot answer either.
        """
        found = None if key is None else self.peek(key)
        if found is not None:
            return found
        # No await between looking into the local level and joining: so nobody can start a second flight.
        name = key or question.fingerprint
        while (flight := self._flights.get(name)) is not None and (key is not None or flight.is_young):
            with spending("shared"):
                try:
                    return await asyncio.shield(flight.read)
                except TooManyRequests:
                    # Whoever began it has used up his own turns; those who wait with him have theirs.
                    await asyncio.sleep(0)
        read = asyncio.create_task(self._fetch(question, key))
        self._flights[name] = _Flight(read, time.monotonic())
        self._reads.add(read)
        read.add_done_callback(lambda read: self._land(name, read))
        # Shielded: the caller who goes away must not take the answer from those who wait with him.
        return await asyncio.shield(read)

    async def ask(self, question: Question) -> Kept:
        """The answer, read now and for the caller alone.

        Raises:
            Problem: Postgres cannot answer.
        """
        return _fresh(await question.ask(self._database))

    async def close(self) -> None:
        """Let go of what is still running."""
        running = [*self._reads, *self._puts]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _land(self, name: str, read: _Read) -> None:
        self._reads.discard(read)
        flight = self._flights.get(name)
        if flight is not None and flight.read is read:
            del self._flights[name]

    async def _fetch(self, question: Question, key: str | None) -> Kept:
        if key is not None and self._shared is not None:
            with spending("cache"):
                found = await self._shared.get(key, self._lifetime(question))
            if found is not None:
                _REDIS_HITS.inc()
                kept = Kept(found, entity_tag(found), is_hit=True)
                self._local.put(key, kept)
                return kept
        telemetry.CACHE_MISSES.inc()
        answer = await question.ask(self._database)
        fresh = _fresh(answer)
        if key is not None and answer.is_lasting:
            self._local.put(key, Kept(answer.hit, fresh.etag, is_hit=True))
            if self._shared is not None and len(answer.hit) <= MOST_SHARED_BYTES:
                put = asyncio.create_task(self._share(self._shared, key, answer, self._lifetime(question)))
                self._puts.add(put)
                put.add_done_callback(self._puts.discard)
        return fresh

    async def _share(self, shared: SharedLevel, key: str, answer: Answer, lifetime: float) -> None:
        await asyncio.sleep(ANSWER_FIRST)
        await shared.put(key, answer.hit, lifetime)

    def _lifetime(self, question: Question) -> float:
        """Seconds without a reader after which Redis may forget the answer."""
        versions = self._database.watcher.current()
        is_quiet = versions is not None and versions.is_quiet(question.first_day, question.last_day)
        return self._idle if is_quiet and not question.is_moving else min(self._idle, SHORT_LIFE)


def _fresh(answer: Answer) -> Kept:
    return Kept(answer.fresh, entity_tag(answer.hit), is_hit=False)
