"""Cached reads: from a path and a query string to the bytes of an answer.

Belongs here: understanding a query string once a second, and the two ways to a hit: raw ASGI (`peek`, used by
`edge` before FastAPI's routing) and through a route (`answer_read`).
Does not belong here: what the questions are; `app` registers one builder per path.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from fastapi import Request, Response

from analytics_pipeline.events.reach import Reach
from api.cache import Cache, Question
from api.errors import Problem
from api.principal import reach_of

Builder = Callable[[bytes, datetime, Reach], Question]
"""Makes a question of a query string, the time, floored to a second, and the events that may be seen.

Raises `BadRequest`, or `Forbidden` where the answer cannot be cut down to what may be seen.
"""

_MOST_MEMOS = 4096
_LONGEST_MEMO = 2048
CACHE_CONTROL = "private, no-cache"
"""A client may keep an answer, nobody in between may, and it has to ask whether it is still valid."""


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
        self._memos: dict[tuple[str, bytes, str], tuple[datetime, Question]] = {}

    def question(self, path: str, query_string: bytes, reach: Reach) -> Question:
        """The question behind a query string, at this second; those who see other events never share one.

        Raises:
            BadRequest: it makes no sense.
            Forbidden: it cannot be answered from the events that may be seen.
        """
        now = self._clock().replace(microsecond=0)
        memo = self._memos.get((path, query_string, reach.canonical))
        if memo is not None and memo[0] == now:
            return memo[1]
        question = self._builders[path](query_string, now, reach)
        if not reach.is_everything:
            question = replace(question, canonical=f"{question.canonical}\n{reach.canonical}")
        if len(query_string) <= _LONGEST_MEMO:
            if len(self._memos) >= _MOST_MEMOS:
                self._memos.clear()
            self._memos[path, query_string, reach.canonical] = (now, question)
        return question

    def peek(self, path: str, query_string: bytes, if_none_match: bytes, reach: Reach) -> Hit | None:
        """The answer, if it is in this process and valid; None sends the request on to its route."""
        if path not in self._builders:
            return None
        try:
            key = self._cache.key(self.question(path, query_string, reach))
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
    question = reads.question(path, request.scope["query_string"], reach_of(request))
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
