"""What the API answers when it cannot answer: RFC 9457 problems that also carry the original's `error` field.

    Problem                 any of them; carries status, type, texts, headers
    ├── BadRequest          400: the request is wrong and stays wrong
    ├── Unauthorized        401: no key, or none that holds
    ├── Forbidden           403: the key may not do this
    ├── NotFound            404
    ├── Conflict            409
    ├── TooLarge            413
    ├── TooManyRequests     429, with retry_after
    └── Unavailable         503, with Retry-After: something outside is down or busy; try again

No text repeats anything the caller sent: input may hold secrets, and answers end up in logs. Only the way to what is
wrong in a JSON Schema has the names of its properties: without them nobody finds the place.
"""

import math
from collections.abc import Mapping

import orjson

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:b25-analytics:problem:"


class Problem(Exception):
    """An answer that is an error; `kind` is the stable last part of its `type`."""

    status = 500
    kind = "internal"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        kind: str | None = None,
        title: str | None = None,
        retry_after: float | None = None,
        extra: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind or self.kind
        self.title = title or self.title
        self.retry_after = retry_after
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> bytes:
        """The JSON text."""
        return orjson.dumps(self.content | {"request_id": request_id})

    @property
    def content(self) -> dict[str, object]:
        """What the JSON text says, but for whose request it answers."""
        content: dict[str, object] = {
            "type": TYPE_PREFIX + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.title,
        }
        if self.retry_after is not None:
            content["retry_after"] = math.ceil(self.retry_after)
        return content | self.extra

    def all_headers(self) -> dict[str, str]:
        """Headers of the answer beside content type and length."""
        if self.retry_after is None:
            return self.headers
        return self.headers | {"Retry-After": str(math.ceil(self.retry_after))}


class BadRequest(Problem):
    """The request is wrong and will stay wrong."""

    status = 400
    kind = "invalid-request"
    title = "Invalid request"


class Unauthorized(Problem):
    """There is no key in the request, or none that holds; which of the two is all that it says."""

    status = 401
    kind = "api-key-required"
    title = "Unauthorized"

    def all_headers(self) -> dict[str, str]:
        """With the challenge that RFC 9110 asks for."""
        return super().all_headers() | {"WWW-Authenticate": 'Bearer realm="b25-analytics"'}


class Forbidden(Problem):
    """The key may not do this, or sees only a part of what was asked for."""

    status = 403
    kind = "outside-key"
    title = "Forbidden"


class NotFound(Problem):
    """There is nothing of that name."""

    status = 404
    kind = "not-found"
    title = "Not found"


class Conflict(Problem):
    """It exists already."""

    status = 409
    kind = "conflict"
    title = "Already exists"


class TooLarge(Problem):
    """The body is longer than `server.max_body_size`."""

    status = 413
    kind = "body-too-large"
    title = "Request body too large"


class TooManyRequests(Problem):
    """The client is above its rate limit."""

    status = 429
    kind = "rate-limited"
    title = "rate limit exceeded"


class Unavailable(Problem):
    """Postgres is down, or this process is busy; nothing was lost, trying again helps."""

    status = 503
    kind = "unavailable"
    title = "Service unavailable"

    def __init__(self, detail: str, *, kind: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(detail, kind=kind, retry_after=retry_after)


class HttpProblem(Problem):
    """Any other HTTP status, by number: no such route, wrong method, unsupported content."""

    def __init__(
        self, status: int, kind: str, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail, kind=kind, title=title, headers=headers)
        self.status = status


def invalid_parameter(name: str, sentence: str, *, title: str | None = None) -> BadRequest:
    """A query parameter is wrong; `name` is one of ours, never the caller's text."""
    return BadRequest(
        f"{name}: {sentence}",
        kind="invalid-parameter",
        title=title or f"Invalid {name} parameter",
        extra={"parameter": name},
    )


def internal_problem() -> Problem:
    """Something here is broken; the log has the details, the caller has the request's id."""
    return Problem("This is a defect of the service. Its log has the details under the request_id.")
