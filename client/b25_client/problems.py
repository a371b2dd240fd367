"""Answers that are errors, as exceptions.

Belongs here: reading RFC 9457 problems. Does not belong here: what is worth asking again (`retries`).
"""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from b25_client.backoff import retry_after
from b25_client.errors import (
    ApiError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    ScanBudgetExceeded,
    ServiceUnavailable,
    Unauthorized,
)
from b25_client.request import Answer

MEDIA_TYPE = "application/problem+json"
_CLASSES: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: ServiceUnavailable,
    409: Conflict,
    412: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    428: InvalidRequest,
    429: RateLimited,
}
_NAMED = frozenset({"type", "title", "status", "detail", "request_id", "retry_after", "error"})


def error_of(answer: Answer) -> ApiError:
    """The exception that an answer means."""
    header = answer.headers.get("retry-after")
    return _error(
        answer.status,
        answer.object(),
        request_id=answer.headers.get("x-request-id"),
        wait=retry_after(header, datetime.now(UTC)),
    )


def error_told(content: dict[str, Any]) -> ApiError:
    """The exception that a problem within a stream means."""
    status = content.get("status")
    return _error(status if isinstance(status, int) else 500, content, request_id=None, wait=None)


def _error(status: int, content: dict[str, Any], *, request_id: str | None, wait: float | None) -> ApiError:
    told = content.get("retry_after")
    if wait is None and isinstance(told, int | float):
        wait = float(told)
    return _class(status, content)(
        status,
        type=_text(content, "type") or "about:blank",
        title=_text(content, "title") or _phrase(status),
        detail=_text(content, "detail"),
        request_id=_text(content, "request_id") or request_id,
        retry_after=wait,
        extra={name: value for name, value in content.items() if name not in _NAMED},
    )


def _class(status: int, content: dict[str, Any]) -> type[ApiError]:
    if _text(content, "type").endswith(":scan-budget"):
        return ScanBudgetExceeded
    return _CLASSES.get(status, ServiceUnavailable if status >= 500 else ApiError)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _text(content: dict[str, Any], name: str) -> str:
    found = content.get(name)
    return found if isinstance(found, str) else ""
