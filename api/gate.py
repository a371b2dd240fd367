"""Who a request comes from, and whether it may come now: before routing, and for answers from the cache, too.

Belongs here: where a key stands in a request, cookies and their token, which limit counts. Does not belong here: which
keys hold (`keyring`), what a route asks for (`access`), the arithmetic of limits (`rate_limit`).
"""

import hmac
import math
import time
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from analytics_pipeline import telemetry
from analytics_pipeline.settings import Settings
from api.errors import Forbidden, Problem, TooManyRequests, Unauthorized
from api.keyring import Keyring, refused
from api.principal import ANONYMOUS, Principal
from api.rate_limit import RateLimiter, Verdict
from api.redis_line import RedisLine
from api.shared_rate_limit import SharedRateLimiter

Headers = list[tuple[bytes, bytes]]

COOKIE = b"b25_session"

_KEY_HEADER = b"x-api-key"
_CSRF_HEADER = b"x-csrf-token"
_BEARER = b"bearer "
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_FAILURES = ("api-key-required", "invalid-api-key", "csrf-token")
UNLIMITED = frozenset({"/health", "/healthz", "/ready"})


# A failure that has not come yet says 0, so that the first one is an increase.
for _kind in _FAILURES:
    telemetry.AUTHENTICATION_FAILURES.labels(_kind)


class Admission(NamedTuple):
    """What becomes of a request: who sends it, headers about its limit, and why it goes no further, if so."""

    principal: Principal
    headers: Headers
    refusal: Problem | None


class Gate:
    """Decides for one process; limits of keys hold for all processes together."""

    def __init__(self, settings: Settings, keyring: Keyring, redis: RedisLine | None) -> None:
        self._keyring = keyring
        security = settings.security
        self._needs_key = security.api_key_enabled
        self._is_local = not (security.api_key_enabled or security.allow_anonymous)
        limit = security.rate_limit
        rate = {"requests_per_minute": limit.requests_per_minute, "burst": limit.burst}
        self._addresses = RateLimiter(**rate) if limit.enabled else None
        self._keys = SharedRateLimiter(redis, **rate) if limit.enabled else None
        self._limit = str(limit.burst).encode()
        self._free = self._headers(limit.burst, 0)

    async def admit(
        self, method: str, path: str, host: str, headers: Mapping[bytes, bytes], *, is_public: bool
    ) -> Admission:
        """Judge a request by its headers and the address that it comes from."""
        if is_public or not self._needs_key:
            refusal = None
            if self._is_local and not is_public and not _is_own_name(headers.get(b"host", b"")):
                refusal = _strange_name()
            return self._by_address(host, refusal, is_free=path in UNLIMITED)
        try:
            principal = await self._identify(method, headers)
        except Problem as problem:
            telemetry.AUTHENTICATION_FAILURES.labels(problem.kind).inc()
            return self._by_address(host, problem)
        if self._keys is None:
            return Admission(principal, self._free, None)
        return self._limited(principal, await self._keys.check(principal.key_id or ""), None, "with this key")

    async def _identify(self, method: str, headers: Mapping[bytes, bytes]) -> Principal:
        key = headers.get(_KEY_HEADER)
        if key is None:
            authorization = headers.get(b"authorization", b"")
            if authorization[:7].lower() == _BEARER:
                key = authorization[7:].strip()
        if key is not None:
            return self._keyring.by_key(key)
        session = session_in(headers)
        if session is None:
            raise Unauthorized("Send an API key in the header X-API-Key, or as Authorization: Bearer.")
        principal = await self._keyring.by_session(session)
        if method not in _HARMLESS and not hmac.compare_digest(
            headers.get(_CSRF_HEADER, b""), (principal.csrf or "").encode()
        ):
            raise Forbidden(
                "A write with a cookie needs the header X-CSRF-Token, with the token of GET /api/v1/session.",
                kind="csrf-token",
            )
        return principal

    def _by_address(self, host: str, refusal: Problem | None, *, is_free: bool = False) -> Admission:
        if self._addresses is None or is_free or _is_loopback(host):
            return Admission(ANONYMOUS, self._free, refusal)
        verdict = self._addresses.check(host, time.monotonic())
        return self._limited(ANONYMOUS, verdict, refusal, "from this address")

    def _limited(
        self, principal: Principal, verdict: Verdict, refusal: Problem | None, whose: str
    ) -> Admission:
        headers = self._headers(verdict.remaining, verdict.reset)
        if not verdict.is_allowed:
            refusal = TooManyRequests(f"Too many requests {whose}.", retry_after=verdict.retry_after)
        return Admission(principal, headers, refusal)

    def _headers(self, remaining: int, reset: float) -> Headers:
        """All about the burst, which is what `remaining` counts: a gauge of both is empty when nothing is left."""
        return [
            (b"x-ratelimit-limit", self._limit),
            (b"x-ratelimit-remaining", str(remaining).encode()),
            (b"x-ratelimit-reset", str(math.ceil(reset)).encode()),
        ]


def caller_of(principal: Principal, host: str) -> str | None:
    """Whose turns at Postgres a request takes: its key's, or its address'; None: nobody's, of this machine."""
    if principal.key_id is not None:
        return principal.key_id
    return None if _is_loopback(host) else host


def session_in(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The session's cookie, if there is one.

    Raises:
        Unauthorized: there is one, and it cannot be ours.
    """
    for part in headers.get(b"cookie", b"").split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name == COOKIE:
            if len(value) != 64 or not value.isalnum():
                raise refused()
            return value
    return None


def _strange_name() -> Forbidden:
    return Forbidden(
        "Nobody needs a key here, so only localhost, addresses and names without a dot are answered to: a page could "
        "have any other name lead here. Behind a proxy, set security.api_key_enabled or security.allow_anonymous.",
        kind="unknown-host",
    )


@lru_cache(maxsize=1024)
def _is_own_name(host: bytes) -> bool:
    """Whether a Host header cannot have been led here by somebody's name server."""
    name = host.decode("latin-1").lower()
    name = name.partition("]")[0].removeprefix("[") if name.startswith("[") else name.partition(":")[0]
    if "." not in name or name.endswith(".localhost"):
        return True  # names of this machine: no public name server has them
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    if host in {"127.0.0.1", "::1", ""}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
