"""Cached reads: from a path and a query string to the bytes of an answer.

Belongs here: understanding a query string once a second, and the two ways to a hit: raw ASGI (`peek`, used by
`edge` before FastAPI's routing) and through a route (`answer_read`).
Does not belong here: what the questions are; `app` registers one builder per path.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from fastapi import Request, Response

from analytics_pipeline.events.reach import Reach
from api.arrivals import Arrivals, read_after
from api.cache import Cache, Question
from api.cache_levels import Kept
from api.entity_tags import matches
from api.errors import Problem
from api.principal import reach_of
from api.timing import spending

Builder = Callable[[bytes, datetime, Reach], Question]
"""Makes a question of a query string, the time, floored to a second, and the events that may be seen.

Raises `BadRequest`, or `Forbidden` where the answer cannot be cut down to what may be seen.
"""

_MOST_MEMOS = 4096
_LONGEST_MEMO = 2048
"""Of a query string."""
CACHE_CONTROL = "private, no-cache"
"""A client may keep an answer, nobody in between may, and it has to ask whether it is still valid."""


class Hit(NamedTuple):
    """An answer at hand; `body` is None when the client has it already (304)."""

    etag: bytes
    body: bytes | None


class CachedReads:
    """The cacheable paths of the API."""

    def __init__(
        self,
        cache: Cache,
        clock: Callable[[], datetime],
        builders: Mapping[str, Builder],
        arrivals: Arrivals,
    ) -> None:
        self._cache = cache
        self._arrivals = arrivals
        self._clock = clock
        self._builders = builders
        self._memos: dict[tuple[str, bytes, str], Question] = {}
        self._memos_of: datetime | None = None

    @property
    def paths(self) -> frozenset[str]:
        """Which they are."""
        return frozenset(self._builders)

    def question(self, path: str, query_string: bytes, reach: Reach) -> Question:
        """The question behind a query string, at this second; those who see other events never share one.

        Raises:
            BadRequest: it makes no sense.
            Forbidden: it cannot be answered from the events that may be seen.
        """
        known = self._memo(path, query_string, reach)
        if known is not None:
            return known
        now = self._now()
        question = self.build(path, query_string, now, reach)
        # What asks to wait is a question of a later moment, and its token makes it another one for everybody.
        is_small = len(query_string) <= _LONGEST_MEMO and not question.is_large
        if is_small and read_after(query_string) is None:
            if now != self._memos_of or len(self._memos) >= _MOST_MEMOS:
                self._memos.clear()
            self._memos[path, query_string, reach.canonical], self._memos_of = question, now
        return question

    def build(self, path: str, query_string: bytes, now: datetime, reach: Reach) -> Question:
        """The question behind a query string at a given second; raises as `question`."""
        question = self._builders[path](query_string, now, reach)
        if reach.is_everything:
            return question
        return replace(question, canonical=f"{question.canonical}\n{reach.canonical}")

    async def once_landed(self, query_string: bytes, reach: Reach) -> tuple[datetime, bool]:
        """When to ask, once what `after` names has landed, and whether there was something to wait for.

        That is the next second then, so that what has just landed lies in a range that ends now.

        Raises:
            Problem: as `Arrivals.wait`; or `after` names nothing.
        """
        sent = read_after(query_string)
        if sent is None:
            return self._now(), False
        with spending("wait"):
            await self._arrivals.wait(sent, sees_everything=reach.is_everything)
        return self._now() + timedelta(seconds=1), True

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _memo(self, path: str, query_string: bytes, reach: Reach) -> Question | None:
        if self._memos_of != self._now():
            return None
        return self._memos.get((path, query_string, reach.canonical))

    def peek(self, path: str, query_string: bytes, if_none_match: bytes, reach: Reach) -> Hit | None:
        """The answer, if it is in this process and valid; None sends the request on to its route."""
        if path not in self._builders:
            return None
        try:
            question = self._memo(path, query_string, reach)
            if question is None:
                if read_after(query_string) is not None:
                    return None
                question = self.question(path, query_string, reach)
            key = self._cache.key(question)
        except Problem:
            return None
        if key is None:
            return None
        found = self._cache.peek(key)
        if found is None:
            return None
        is_known = bool(if_none_match) and matches(if_none_match, found.etag)
        return Hit(found.etag, None if is_known else found.body)

    async def get(self, question: Question, key: str | None) -> Kept:
        """The answer."""
        return await self._cache.get(question, key)

    async def ask(self, question: Question) -> Kept:
        """The answer, read by nobody but the caller."""
        return await self._cache.ask(question)

    def key(self, question: Question) -> str | None:
        """The cache key under the versions known now."""
        return self._cache.key(question)


async def answer_read(request: Request, reads: CachedReads, path: str) -> Response:
    """Answer a cacheable read through its route."""
    query_string, reach = request.scope["query_string"], reach_of(request)
    question = reads.question(path, query_string, reach)
    now, has_waited = await reads.once_landed(query_string, reach)
    if has_waited:
        question = reads.build(path, query_string, now, reach)
    return await answer_question(request, reads, question, has_waited=has_waited)


async def answer_question(
    request: Request, reads: CachedReads, question: Question, *, has_waited: bool
) -> Response:
    """Answer from the cache, or else from Postgres; `has_waited`: only a read that begins now will do."""
    key = reads.key(question)
    # Without a version nobody knows whether a read that is under way began before the landing.
    is_alone = key is None and has_waited
    found = await (reads.ask(question) if is_alone else reads.get(question, key))
    headers = {"Cache-Control": CACHE_CONTROL, "ETag": found.etag.decode()}
    if_none_match = request.headers.get("if-none-match", "").encode("latin-1")
    if request.method == "GET" and matches(if_none_match, found.etag):
        return Response(status_code=304, headers=headers)
    headers["X-Cache"] = "hit" if found.is_hit else "miss"
    return Response(found.body, media_type="application/json", headers=headers)
