"""The outermost layer, raw ASGI: what every request gets, and what is answered without anything else.

Belongs here: request ids, read timeouts, headers of every answer, request metrics, the last resort for defects, and
asking for a key, a scope and room below the limit before anything is answered.
Does not belong here: who it is and which limit counts (`gate`), what a route asks for (`access`), which bodies are read
(`bodies`), routes. Hits of the cache and the paths given as `direct` are answered here; everything else goes on to
FastAPI.
"""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect

from analytics_pipeline import telemetry
from analytics_pipeline.settings import Settings
from api.access import Rules, public_prefixes
from api.audit import SUBJECT, AuditTrail
from api.bodies import Bodies
from api.deadline import Deadline, TimeIsUp
from api.errors import MEDIA_TYPE, HttpProblem, Problem, Unavailable, internal_problem
from api.gate import Admission, Gate, Headers, caller_of
from api.methods import has_head
from api.principal import PRINCIPAL, Principal
from api.reads import CACHE_CONTROL, CachedReads
from api.timing import HEADER as TIMING
from api.timing import Timing, begin, hit_text, total_text
from api.turns import calling

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Direct = Callable[[Mapping[bytes, bytes], Receive, Principal], Awaitable[tuple[int, bytes, Headers]]]
"""Answers a POST: from headers, body and who sends it to status, body and headers."""

REQUEST_ID = "b25.request_id"
"""Key of the request's id in its scope."""

_SAFE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_JSON = (b"content-type", b"application/json")
_CACHE_CONTROL = (b"cache-control", CACHE_CONTROL.encode())
_HIT = (b"x-cache", b"hit")
_POLICY = b"content-security-policy"
_SAFE: Headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_NOTHING_TO_RUN = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
_UNLESS_SAID: Headers = [_NOTHING_TO_RUN, (b"cache-control", b"no-store")]
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})

_log = structlog.get_logger()


class Edge:
    """Wraps the FastAPI application.

    Attributes:
        read_timeout: seconds to wait for a body, from its first part asked for to its last.
        request_timeout: seconds until the answer to a request begins, reading its body included.
    """

    def __init__(
        self,
        app: Application,
        reads: CachedReads,
        direct: Mapping[str, Direct],
        settings: Settings,
        *,
        gate: Gate,
        rules: Rules,
        audit: AuditTrail,
    ) -> None:
        self._app = app
        self._reads = reads
        self._direct = direct
        self._bodies = Bodies(settings)
        self.read_timeout = settings.server.read_timeout.total_seconds()
        self.request_timeout = settings.server.request_timeout.total_seconds()
        self._gate = gate
        self._rules = rules
        self._public = public_prefixes(rules)
        self._audit = audit
        self._prefix = os.urandom(6).hex()
        self._counter = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            await _Exchange(self, scope, receive, send).serve()
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def request_id(self, offered: bytes | None) -> str:
        """The client's id if it is safe to repeat, else one of our own."""
        if offered is not None and _SAFE_ID.fullmatch(offered):
            return offered.decode("ascii")
        return f"{self._prefix}-{next(self._counter):x}"

    async def admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Admission:
        """Who it is, and whether there is a key, a scope and room below the limit.

        Routes whose path has parameters ask for their scope themselves, before they do anything.
        """
        client = scope.get("client")
        method, path = scope["method"], scope["path"]
        rule = self._rules.get((method, path))
        admission = await self._gate.admit(
            method,
            path,
            client[0] if client else "",
            headers,
            is_public=path.startswith(self._public) if rule is None else not rule.scopes,
        )
        if rule is not None and admission.refusal is None:
            try:
                rule.check(admission.principal)
            except Problem as problem:
                return admission._replace(refusal=problem)
        return admission

    def known_route(self, method: str, path: str) -> str | None:
        """The path, if it is one of ours without parameters: a name of bounded variety."""
        return path if (method, path) in self._rules else None

    def only_reads(self, method: str, route: str) -> bool:
        """Whether a route asks for nothing but reading, whatever its method: there is nothing to note."""
        rule = self._rules.get((method, route))
        return rule is not None and rule.scopes == ("read",)

    def direct(self, method: str, path: str) -> Direct | None:
        """Who answers this without FastAPI."""
        return self._direct.get(path) if method == "POST" else None

    @property
    def app(self) -> Application:
        """The application behind."""
        return self._app

    @property
    def audit(self) -> AuditTrail:
        """Who notes what was written."""
        return self._audit

    @property
    def reads(self) -> CachedReads:
        """The cacheable paths."""
        return self._reads

    @property
    def bodies(self) -> Bodies:
        """What is to be read at all."""
        return self._bodies


class _Enough(OSError):
    """A HEAD has its answer; for whoever sends a body, as if the client had gone."""


class _Exchange:
    """One request and its answer; a HEAD is a GET of which the body is kept back."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._method = scope["method"]
        self._is_head = self._method == "HEAD" and has_head(scope["path"])
        # A copy: the server, whose scope it is, goes by the method, too.
        self._scope = {**scope, "method": "GET"} if self._is_head else scope
        self._receive = receive
        self._send = send if not self._is_head else self._send_head
        self._send_all = send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._status = 0
        self._route: str | None = None
        self._is_counted = False
        self._received = 0
        self._is_whole = False
        self._waited_since: float | None = None
        self._started_at = time.perf_counter()
        self._request_id = edge.request_id(self._headers.get(b"x-request-id"))
        self._own_headers: Headers = []
        self._deadline: Deadline | None = None
        self._timing: Timing | None = None
        self._scope[REQUEST_ID] = self._request_id

    async def serve(self) -> None:
        admission = await self._edge.admit(self._scope, self._headers)
        principal, refusal = admission.principal, admission.refusal
        self._scope[PRINCIPAL] = principal
        self._own_headers = [*admission.headers, (b"x-request-id", self._request_id.encode()), *_SAFE]
        method, path = self._scope["method"], self._scope["path"]
        direct = self._edge.direct(method, path)
        hit = None
        if refusal is None:
            if method == "GET":
                hit = self._edge.reads.peek(
                    path,
                    self._scope["query_string"],
                    self._headers.get(b"if-none-match", b""),
                    principal.reach,
                )
            elif method not in _HARMLESS:
                refusal = self._edge.bodies.refusal(
                    self._headers, principal, may_be_packed=direct is not None
                )
        if refusal is not None:
            self._route = self._edge.known_route(method, path) or _UNMATCHED
            await self._answer_problem(refusal)
        elif hit is not None:
            self._route = path
            await self._answer_hit(hit.etag, hit.body)
        elif direct is not None:
            self._route = path
            await self._guard(self._in_time(self._answer_directly(direct, principal)))
        else:
            self._timing = begin()
            client = self._scope.get("client")
            calling(caller_of(principal, client[0] if client else ""))
            await self._guard(
                self._in_time(self._edge.app(self._scope, self._bounded_receive, self._adding_send))
            )
        if not self._is_counted:  # broken off midway
            self._count()

    async def _deliver(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._deadline is not None:  # what streams now is bounded by how quickly it is taken
                self._deadline.let_go()
            if self._scope["method"] not in _HARMLESS and not self._edge.only_reads(
                self._scope["method"], self._matched
            ):
                await self._note()
        # Counted before the last byte leaves: whoever has an answer finds it in the metrics.
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self._count()
        await self._send(message)

    async def _send_head(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            await self._send_all(message)
            return
        has_more = message.get("more_body", False)
        if has_more:
            self._count()
        await self._send_all({"type": "http.response.body", "body": b""})
        if has_more:
            raise _Enough

    async def _note(self) -> None:
        method, audit = self._scope["method"], self._edge.audit
        is_one_of_many = self._status >= 400 or self._edge.direct(method, self._scope["path"]) is not None
        audit.note(
            self._scope[PRINCIPAL].key_id,
            method if method in _METHODS else "other",
            self._matched,
            self._status,
            self._request_id,
            self._scope.get(SUBJECT),
            shares_line=is_one_of_many,
        )
        if not is_one_of_many:
            await audit.flush()

    @property
    def _matched(self) -> str:
        return self._route or getattr(self._scope.get("route"), "path", None) or _UNMATCHED

    def _count(self) -> None:
        self._is_counted = True
        method = self._method if self._method in _METHODS else "other"
        requests, durations = _series(method, self._matched, self._status)
        requests.inc()
        durations.observe(time.perf_counter() - self._started_at)

    async def _guard(self, work: Awaitable[None]) -> None:
        """Answer whatever goes wrong."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except (_Enough, ClientDisconnect):
            if not self._is_head:
                raise
        except Problem as problem:
            if not self._status:
                await self._answer_problem(problem)
        except Exception:  # noqa: BLE001 - the edge of the process: log it, answer, go on serving
            _log.exception("request_failed", request_id=self._request_id, route=self._matched)
            if not self._status:
                await self._answer_problem(internal_problem())

    async def _in_time(self, work: Awaitable[None]) -> None:
        """Do it, as long as its answer begins in time."""
        try:
            with Deadline(asyncio.get_running_loop().time() + self._edge.request_timeout) as self._deadline:
                await work
        except TimeIsUp:
            _log.warning("request_timeout", request_id=self._request_id, route=self._matched)
            raise self._too_late() from None

    def _too_late(self) -> Problem:
        if self._waited_since is not None and not self._is_whole:
            return _body_too_slow("server.request_timeout")
        sentence = "The answer was not ready within server.request_timeout."
        if self._scope["method"] not in _HARMLESS:
            sentence += " What was asked for may have been done: look before you send it again."
        return Unavailable(sentence, kind="request-timeout")

    async def _bounded_receive(self) -> Message:
        if self._is_whole:  # what still comes is that the client goes away
            return await self._receive()
        if self._waited_since is None:
            self._waited_since = asyncio.get_running_loop().time()
        try:
            with Deadline(self._waited_since + self._edge.read_timeout):
                message = await self._receive()
        except TimeIsUp:
            raise _body_too_slow("server.read_timeout") from None
        self._received += len(message.get("body", b""))
        if self._received > self._edge.bodies.most_bytes:
            raise self._edge.bodies.too_large()
        self._is_whole = not message.get("more_body", False)
        return message

    async def _answer_directly(self, direct: Direct, principal: Principal) -> None:
        status, body, headers = await direct(self._headers, self._bounded_receive, principal)
        self._status = status
        await self._deliver(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, *self._own_headers, _NOTHING_TO_RUN, self._timed()],
            }
        )
        await self._deliver({"type": "http.response.body", "body": body})

    async def _adding_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = [*message.get("headers", []), *self._own_headers, self._timed()]
            names = {name for name, _ in headers}
            message["headers"] = headers + [one for one in _UNLESS_SAID if one[0] not in names]
        await self._deliver(message)

    async def _answer_hit(self, etag: bytes, body: bytes | None) -> None:
        timing = hit_text(time.perf_counter() - self._started_at)
        headers = [
            (b"etag", etag), _CACHE_CONTROL, _HIT, *self._own_headers, _NOTHING_TO_RUN, (TIMING, timing),
        ]  # fmt: skip
        if body is None:
            self._status = 304
        else:
            self._status = 200
            headers += [_JSON, (b"content-length", str(len(body)).encode())]
        await self._deliver({"type": "http.response.start", "status": self._status, "headers": headers})
        await self._deliver({"type": "http.response.body", "body": body or b""})

    def _timed(self) -> tuple[bytes, bytes]:
        total = time.perf_counter() - self._started_at
        return TIMING, total_text(total) if self._timing is None else self._timing.text(total)

    async def _answer_problem(self, problem: Problem) -> None:
        body = problem.body(self._request_id)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in problem.all_headers().items()),
            *self._own_headers,
            _NOTHING_TO_RUN,
            self._timed(),
        ]
        self._status = problem.status
        await self._deliver({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self._deliver({"type": "http.response.body", "body": body})


def _body_too_slow(setting: str) -> HttpProblem:
    return HttpProblem(408, "read-timeout", "Request timeout", f"The body did not arrive within {setting}.")


@lru_cache(maxsize=1024)
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """The two series of a kind of request: there are few kinds, and looking them up costs more than counting."""
    return (
        telemetry.HTTP_REQUESTS.labels(method, route, str(status)),
        telemetry.HTTP_DURATION.labels(route),
    )
