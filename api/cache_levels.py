"""Where cached answers are kept: in this process, and in Redis.

Belongs here: bounds in bytes and time, and what counts as an entry of ours.
Does not belong here: which answer is valid (`cache`), failures of Redis (`redis_line`).
"""

import time
from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

from api.redis_line import RedisLine

_CHECK_BYTES = 16


class Kept(NamedTuple):
    """An answer at hand.

    Attributes:
        body: its bytes.
        etag: of its content, the same for its two forms.
        is_hit: whether the bytes are those of the form that comes from the cache.
    """

    body: bytes
    etag: bytes
    is_hit: bool


class LocalLevel:
    """The most recently used answers of this process, bounded in bytes."""

    def __init__(self, *, limit: int, idle: float) -> None:
        self._limit = limit
        self._idle = idle
        self._size = 0
        self._entries: OrderedDict[str, tuple[Kept, float]] = OrderedDict()

    def get(self, key: str) -> Kept | None:
        """What is kept under `key`, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, value: Kept) -> None:
        """Keep `value`; the least recently used and the expired go."""
        now = time.monotonic()
        if key in self._entries:
            self._size -= len(self._entries.pop(key)[0].body)
        if len(value.body) > self._limit:
            return
        self._entries[key] = (value, now + self._idle)
        self._size += len(value.body)
        while self._entries:
            oldest, (content, until) = next(iter(self._entries.items()))
            if self._size <= self._limit and until > now:
                break
            del self._entries[oldest]
            self._size -= len(content.body)


class SharedLevel:
    """Answers in Redis, as far as it is there: every failure is a miss."""

    def __init__(self, line: RedisLine) -> None:
        self._line = line

    async def get(self, key: str, lifetime: float) -> bytes | None:
        """The bytes kept under `key`; anything that is not what was put there counts as nothing."""
        found = await self._line.ask(lambda client: client.getex(_name(key), ex=_seconds(lifetime)))
        if not isinstance(found, bytes) or len(found) < _CHECK_BYTES:
            return None
        content = found[_CHECK_BYTES:]
        return content if _check(key, content) == found[:_CHECK_BYTES] else None

    async def put(self, key: str, value: bytes, lifetime: float) -> None:
        """Keep `value` until nobody has asked for it for `lifetime` seconds."""
        content = _check(key, value) + value
        await self._line.ask(lambda client: client.set(_name(key), content, ex=_seconds(lifetime)))


def _name(key: str) -> str:
    return f"b25:read:{key}"


def _seconds(lifetime: float) -> int:
    return max(1, int(lifetime))


def _check(key: str, value: bytes) -> bytes:
    """Tells an entry of ours from garbage, also from one under another key."""
    return blake2b(value, digest_size=_CHECK_BYTES, key=key[:64].encode()).digest()
