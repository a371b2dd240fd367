"""Cached reads: from a path and a query string to the bytes of an answer.

Belongs here: understanding a query string once a second, and the two ways to a hit: raw ASGI (`peek`, used by
`edge` before FastAPI's routing) and through a route (`answer_read`).
Does not belong here: what the questions are; `app` registers one builder per path.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from fastapi import Request, Response

from api.cache import Cache, Question
from api.errors import Problem

Builder = Callable[[bytes, datetime], Question]
"""Makes a question of a query string and the time, floored to a second; raises `BadRequest`."""

_MOST_MEMOS = 4096
_LONGEST_MEMO = 2048
CACHE_CONTROL = "no-cache"
"""A client may keep an answer, but has to ask whether it is still valid."""


class Hit(NamedTuple):
    """An answer at hand; `body` is None when the client has it already (304)."""

    etag: bytes
    body: bytes | None


class CachedReads:
    """The cacheable paths of the API."""

    def __init__(self, cache: Cache, clock: Callable[[], datetime], builders: Mapping[str, Builder]) -> None:
        self._cache = cache
        self._clock = clock
        self._builders = builders
        self._memos: dict[tuple[str, bytes], tuple[datetime, Question]] = {}

    def question(self, path: str, query_string: bytes) -> Question:
        """The question behind a query string, at this second.

        Raises:
            BadRequest: it makes no sense.
        """
        now = self._clock().replace(microsecond=0)
        memo = self._memos.get((path, query_string))
        if memo is not None and memo[0] == now:
            return memo[1]
        question = self._builders[path](query_string, now)
        if len(query_string) <= _LONGEST_MEMO:
            if len(self._memos) >= _MOST_MEMOS:
                self._memos.clear()
            self._memos[path, query_string] = (now, question)
        return question

    def peek(self, path: str, query_string: bytes, if_none_match: bytes) -> Hit | None:
        """The answer, if it is in this process and valid; None sends the request on to its route."""
        if path not in self._builders:
            return None
        try:
            key = self._cache.key(self.question(path, query_string))
        except Problem:
            return None
        if key is None:
            return None
        etag = entity_tag(key)
        if if_none_match and matches(if_none_match, etag):
            return Hit(etag, None)
        body = self._cache.peek(key)
        return None if body is None else Hit(etag, body)

    async def get(self, question: Question, key: str | None) -> tuple[bytes, bool]:
        """The answer's bytes and whether they came from the cache."""
        return await self._cache.get(question, key)

    def key(self, question: Question) -> str | None:
        """The cache key under the versions known now."""
        return self._cache.key(question)


def entity_tag(key: str) -> bytes:
    """Weak, because the fresh and the cached form of one answer differ in the `cached` field."""
    return b'W/"' + key.encode() + b'"'


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Weak comparison of RFC 9110, section 13.1.2."""
    opaque = etag.removeprefix(b"W/")
    candidates = (part.strip() for part in if_none_match.split(b","))
    return any(part == b"*" or part.removeprefix(b"W/") == opaque for part in candidates)


async def answer_read(request: Request, reads: CachedReads, path: str) -> Response:
    """Answer a cacheable read through its route."""
    question = reads.question(path, request.scope["query_string"])
    key = reads.key(question)
    headers = {"Cache-Control": CACHE_CONTROL}
    if key is not None:
        etag = entity_tag(key)
        headers["ETag"] = etag.decode()
        if matches(request.headers.get("if-none-match", "").encode("latin-1"), etag):
            return Response(status_code=304, headers=headers)
    body, is_hit = await reads.get(question, key)
    headers["X-Cache"] = "hit" if is_hit else "miss"
    return Response(body, media_type="application/json", headers=headers)
