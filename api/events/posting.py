"""POST /api/v1/events: from the bytes of a request to the bytes of its answer, without a framework in between.

Belongs here: one event, an array or NDJSON; verdicts per item; the Idempotency-Key. Does not belong here: reading and
cutting bodies (`body`), judging events (`analytics_pipeline.events.posted`), storing them (`committer`).
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.posted import Accepted, Refused, read_posted
from analytics_pipeline.events.producers import NAMELESS, readable
from analytics_pipeline.events.reach import Reach
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.idempotency import Keyed, Made, Settled
from analytics_pipeline.storage.inbox import Entry, Landing
from api.clock import Clock
from api.errors import BadRequest, Forbidden, HttpProblem, Problem
from api.events import body as bodies
from api.events.body import Headers
from api.events.committer import InboxCommitter
from api.events.mistakes import explained
from api.principal import Principal

Receive = Callable[[], Awaitable[Any]]
Verdicts = Sequence[Accepted | Refused]

CLIENT_HEADER = b"x-client-id"
TOKEN_HEADER = b"x-landing-token"
REPLAYED_HEADER = b"idempotent-replayed"

POSTED: dict[str, Any] = {
    "X-Landing-Token": {
        "description": "Leads to what becomes of the accepted events: GET /api/v1/events/landings/{token}.",
        "schema": {"type": "string"},
        "example": "10000-0-1",
    },
    "Idempotent-Replayed": {
        "description": "`true` on an answer that is repeated for its Idempotency-Key; else absent.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
}
"""Headers of an answer, as documented."""

_JSON = (b"content-type", b"application/json")
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_SLICE = 32
"""Items judged at a time."""
_TURN = 0.01
"""Seconds of judging after which other requests have their turn; the schema of a type may make it long."""


class Reply(NamedTuple):
    """An answer, its own headers included."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class Poster:
    """Answers requests that post events."""

    def __init__(
        self,
        inbox: InboxCommitter,
        definitions: Callable[[], Definitions],
        clock: Clock,
        settings: Settings,
        *,
        context: Callable[[], str] | None = None,
    ) -> None:
        """Take the services; `context` names the span at work, for landing to link to."""
        self._context = context
        self._inbox = inbox
        self._definitions = definitions
        self._clock = clock
        self._limits = Limits.of(settings)
        self._most_bytes = settings.server.max_body_size
        self._most_events = settings.server.max_batch_events
        self._memory = bodies.Memory(settings.server.post_memory)

    async def answer(self, headers: Headers, receive: Receive, principal: Principal) -> Reply:
        """Answer one request; 201 only after COMMIT.

        An Idempotency-Key belongs to the API key that it came with.

        Raises:
            Problem: nothing was accepted.
        """
        kind = bodies.kind_of(headers.get(b"content-type", b""))
        key = headers.get(b"idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise BadRequest(
                "Idempotency-Key: 1 to 255 printable ASCII characters without spaces.",
                kind="bad-idempotency-key",
            )
        body = bodies.Body(self._memory, self._most_bytes)
        try:
            content = await body.read(receive, is_gzip=bodies.is_gzip(headers))
            if key is not None:
                own = key if principal.key_id is None else b"%b %b" % (principal.key_id.encode(), key)
                return await self._answer_once(own, kind, content, headers, principal.reach)
            entry, answer = await self._judge(kind, content, headers, principal.reach)
            return _reply(answer(await self._inbox.append(entry)))
        finally:
            body.close()

    async def _answer_once(
        self, key: bytes, kind: bodies.Kind, content: bytes, headers: Headers, reach: Reach
    ) -> Reply:
        digest = hashlib.sha256(key).digest()
        fingerprint = hashlib.sha256(kind.encode() + b"\0" + content).digest()
        try:
            entry, answer = await self._judge(kind, content, headers, reach)
        except Problem:
            # Rules may have changed since: what was answered once is answered again.
            known = await self._inbox.find(digest, fingerprint)
            if known is None:
                raise
            return _settled(known)
        return _settled(await self._inbox.append_once(Keyed(digest, fingerprint, entry, answer)))

    async def _judge(
        self, kind: bodies.Kind, content: bytes, headers: Headers, reach: Reach
    ) -> tuple[Entry, Callable[[Landing], Made]]:
        """What is to be stored, and the answer once it is."""
        if kind == "json" and not bodies.is_array(content):
            [verdict] = self._read([content])
            if isinstance(verdict, Refused):
                raise _not_an_event(explained(verdict, kind, content, headers))
            _check_reach([verdict], reach)
            return self._entry(verdict.payload, 1, headers), _Single(verdict)
        verdicts = await self._read_all(self._items(kind, content, headers))
        accepted = [verdict for verdict in verdicts if isinstance(verdict, Accepted)]
        if not accepted:
            refused = [verdict for verdict in verdicts if isinstance(verdict, Refused)]
            raise _no_events([explained(refused[0], kind, content, headers), *refused[1:]])
        _check_reach(accepted, reach)
        is_brief = b"return=minimal" in headers.get(b"prefer", b"").lower()
        payload = b"\n".join([verdict.payload for verdict in accepted])
        entry = self._entry(payload, len(accepted), headers)
        return entry, _Batch(verdicts, len(accepted), is_brief)

    def _entry(self, payload: bytes, events: int, headers: Headers) -> Entry:
        return Entry(payload, events, _producer(headers), self._context() if self._context else "")

    def _items(self, kind: bodies.Kind, content: bytes, headers: Headers) -> list[bytes]:
        if kind == "ndjson":
            items = bodies.lines_of(content, self._most_events)
        else:
            found = bodies.elements_of(content, self._most_events)
            if found is None:
                # Not an array after all; the reader of events knows what is wrong with it.
                [verdict] = self._read([content])
                assert isinstance(verdict, Refused)
                raise _not_an_event(explained(verdict, kind, content, headers))
            items = found
        if not items:
            raise _not_an_event(Refused(Reason.EMPTY_MESSAGE, "$", "there are no events in the body"))
        return items

    def _read(self, items: Sequence[bytes]) -> Verdicts:
        return read_posted(items, now=self._clock(), limits=self._limits, definitions=self._definitions())

    async def _read_all(self, items: Sequence[bytes]) -> Verdicts:
        verdicts: list[Accepted | Refused] = []
        began = time.perf_counter()
        for start in range(0, len(items), _SLICE):
            if time.perf_counter() - began > _TURN:
                await asyncio.sleep(0)
                began = time.perf_counter()
            verdicts += self._read(items[start : start + _SLICE])
        return verdicts


@dataclass(frozen=True, slots=True)
class _Single:
    """The answer to one event: the original's."""

    verdict: Accepted

    def __call__(self, landing: Landing) -> Made:
        return Made(201, b'{"success":true,"event_id":"%b"}' % self.verdict.id.encode(), str(landing))


@dataclass(frozen=True, slots=True)
class _Batch:
    """The answer to several events; `is_brief` leaves out those that were accepted."""

    verdicts: Verdicts
    accepted: int
    is_brief: bool

    def __call__(self, landing: Landing) -> Made:
        refused = len(self.verdicts) - self.accepted
        content = {
            "success": refused == 0,
            "accepted": self.accepted,
            "rejected": refused,
            "landing": str(landing),
            "results": [
                _result(index, verdict)
                for index, verdict in enumerate(self.verdicts)
                if not self.is_brief or isinstance(verdict, Refused)
            ],
        }
        return Made(207 if refused else 201, orjson.dumps(content), str(landing))


def _check_reach(accepted: Sequence[Accepted], reach: Reach) -> None:
    """Refuse the whole request if one of its events is not the key's own."""
    if reach.is_everything:
        return
    for position, verdict in enumerate(accepted):
        try:
            is_own = reach.has(orjson.loads(verdict.payload))
        except orjson.JSONDecodeError:
            is_own = False
        if not is_own:
            raise Forbidden(
                "The key sends events of its event types and dimensions only, and one of these is another; nothing was "
                "accepted.",
                extra={"position": position},
            )


def _producer(headers: Headers) -> str:
    """The name that a client gave itself, for the source statistics."""
    given = headers.get(CLIENT_HEADER)
    return readable(given) if given is not None else NAMELESS


def _result(index: int, verdict: Accepted | Refused) -> dict[str, object]:
    if isinstance(verdict, Accepted):
        return {"index": index, "status": 201, "event_id": verdict.id}
    return {
        "index": index,
        "status": 400,
        "reason": verdict.reason.value,
        "path": verdict.path,
        "detail": verdict.detail,
    }


def _reply(made: Made, *more: tuple[bytes, bytes]) -> Reply:
    headers = [
        _JSON,
        (b"content-length", str(len(made.answer)).encode()),
        (TOKEN_HEADER, made.landing.encode()),
        *more,
    ]
    return Reply(made.status, made.answer, headers)


def _settled(settled: Settled) -> Reply:
    if not settled.is_same:
        raise HttpProblem(
            422,
            "idempotency-key-reused",
            "Idempotency-Key reused",
            "Another request was sent with this Idempotency-Key; use a new key for a new request.",
        )
    return _reply(settled.made, (REPLAYED_HEADER, b"true")) if settled.is_replay else _reply(settled.made)


def _not_an_event(refused: Refused) -> BadRequest:
    return BadRequest(
        f"{refused.path}: {refused.detail}",
        kind="invalid-event",
        title="Invalid request body",
        extra={"reason": refused.reason.value, "path": refused.path},
    )


def _no_events(verdicts: Sequence[Refused]) -> BadRequest:
    """As for a single event, by the first item, and the verdict on each."""
    first = verdicts[0]
    return BadRequest(
        f"None of the {len(verdicts)} items is an event; `results` says why each is not. The first: {first.detail}",
        kind="invalid-events",
        title="Invalid request body",
        extra={
            "reason": first.reason.value,
            "path": first.path,
            "accepted": 0,
            "rejected": len(verdicts),
            "results": [_result(index, verdict) for index, verdict in enumerate(verdicts)],
        },
    )
