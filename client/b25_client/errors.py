"""Everything the client raises.

    ClientError
    ├── InvalidEvent          the event breaks the contract in a way that is certain here: nothing was queued
    ├── BufferFull            no room for `max_block`: the service is slower than the sender; nothing was queued
    ├── NotDelivered          `flush` or `close` ran out of time; `left` events have no result yet
    ├── Closed                the producer was closed
    ├── Forked                the producer was made in a parent process: make one in each process
    ├── ProducerFailed        the background thread ended, or a callback raised; the cause is attached
    ├── ApiError              the service answered that it will not, or cannot: RFC 9457's fields
    │   ├── InvalidRequest        400, 413, 415, 422, 428: it is wrong and stays wrong
    │   │   └── ScanBudgetExceeded    nothing was found within the budget of a search; it has the cursor to go on from
    │   ├── Unauthorized          401: no key, or none that holds
    │   ├── Forbidden             403: the key may not do this, or does not see all of it
    │   ├── NotFound              404
    │   ├── Conflict              409, 412: what is there does not allow it
    │   ├── RateLimited           429
    │   └── ServiceUnavailable    5xx, 408: later it may work
    ├── Unreachable           no answer: refused, broken off, or not in time
    ├── UnexpectedAnswer      an answer that is not understood: another service, or a proxy
    ├── StreamBroken          an export broke off before its end: what came is not all
    ├── NotLanded             posted events had not landed in time
    └── MissingLibrary        an optional library is needed and not installed

What the service says about an event is no exception but a `Result`: by then `send` has long returned.
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Any of them."""


class InvalidEvent(ClientError, ValueError):
    """The event breaks the contract: mend the caller."""


class BufferFull(ClientError):
    """There was no room for the event in time: try later, or drop it knowingly."""


class NotDelivered(ClientError, TimeoutError):
    """Time ran out.

    Attributes:
        left: events that have no result yet; they stay queued unless the producer was closed.
    """

    def __init__(self, left: int, seconds: float) -> None:
        super().__init__(f"{left} events have no result after {seconds:g} s")
        self.left = left


class Closed(ClientError):
    """`close` was called before."""


class Forked(ClientError):
    """Threads do not survive a fork."""

    def __init__(self) -> None:
        super().__init__("this producer was made in the parent process: make one after the fork")


class ProducerFailed(ClientError):
    """The background thread cannot go on, or a callback raised."""


class ApiError(ClientError):
    """The service answered with a problem.

    Attributes:
        status: of HTTP.
        type: URN that names the kind of problem and stays the same; `about:blank` where the answer had none.
        title: the kind, for a person.
        detail: what is wrong this time, one sentence.
        request_id: under which the service's log has the request; None if the answer had none.
        retry_after: seconds after which to ask again; None if the service did not say.
        extra: further members of the problem, such as `parameter`.
    """

    def __init__(
        self,
        status: int,
        *,
        type: str = "about:blank",
        title: str = "",
        detail: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"HTTP {status}: {title}" + (f": {detail}" if detail else ""))
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    @property
    def kind(self) -> str:
        """The last part of `type`, such as `invalid-parameter`."""
        return self.type.rpartition(":")[2]


class InvalidRequest(ApiError):
    """The request is wrong and stays wrong: mend the caller."""


class ScanBudgetExceeded(InvalidRequest):
    """No index leads to the events asked for, and the search found none within its budget."""

    @property
    def next_cursor(self) -> str | None:
        """Where to go on towards later pages."""
        return _text(self.extra, "next_cursor")

    @property
    def previous_cursor(self) -> str | None:
        """Where to go on towards earlier pages."""
        return _text(self.extra, "previous_cursor")


class Unauthorized(ApiError):
    """There is no key in the request, or none that holds."""


class Forbidden(ApiError):
    """The key may not do this, or sees only a part of what was asked for."""


class NotFound(ApiError):
    """There is nothing of that name."""


class Conflict(ApiError):
    """What is there does not allow it: it exists already, is used, was changed meanwhile, or became a dead letter."""


class RateLimited(ApiError):
    """The key, or the address, is above its rate limit: wait `retry_after` seconds."""


class ServiceUnavailable(ApiError):
    """The service, or a proxy before it, cannot answer at the moment."""


class Unreachable(ClientError, ConnectionError):
    """Nobody answered, as often as it was tried; the cause is attached."""


class UnexpectedAnswer(ClientError):
    """The answer is none of this service's."""


class StreamBroken(ClientError, ConnectionError):
    """An export ended before its end: what came so far is right, and not all."""


class NotLanded(ClientError, TimeoutError):
    """Posted events had not landed when the time was up; they will."""


class MissingLibrary(ClientError, ImportError):
    """An optional library is not installed; the text says how to install it."""

    def __init__(self, name: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {name}: pip install {name}", name=name)


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    found = extra.get(name)
    return found if isinstance(found, str) else None
