"""Live streams: one stream over however many connections.

Belongs here: reading server-sent events, going on behind the last one, and when to connect again; all of it pure.
Does not belong here: what is told (`channels`), connections (`transport`), waiting (`client`, `async_client`).

A stream ends when its reader stops, when the service refuses it for good, or when nobody could be reached for
`give_up_after` seconds. Everything else is told as a `Notice`, and the stream goes on.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import httpx

from b25_client.backoff import wait_before
from b25_client.channels import Channel
from b25_client.errors import ApiError, MissingLibrary, UnexpectedAnswer
from b25_client.problems import error_told
from b25_client.request import Request
from b25_client.retries import Failure, is_passing, unreachable

SILENCE = 45.0
"""Seconds without a byte after which a connection is dead; the service says something every 15."""
_BEHIND = 1.0
"""Seconds that a reader may lag before a lost connection is laid to that."""
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)

M = TypeVar("M")
OnNotice = Callable[["Notice"], None]

_log = logging.getLogger("b25_client.streams")


class NoticeKind(StrEnum):
    """What happened to a stream that goes on."""

    BROKEN = "broken"
    """The connection broke off, or none could be made."""
    TOO_SLOW = "too_slow"
    """It broke off while this program was behind: the service leaves whoever does not read."""
    ENDED = "ended"
    """The service ended it, and said why: it stops, or the key does not hold any more."""
    REFUSED = "refused"
    """The service has no room at the moment."""
    PROBLEM = "problem"
    """The service cannot tell at the moment; the connection stays."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened to a stream.

    Attributes:
        detail: for a person.
        wait: seconds until it connects again; None where the connection stays.
        behind: seconds that this program was behind with reading.
    """

    kind: NoticeKind
    detail: str
    wait: float | None = None
    behind: float = 0.0


class Told(Protocol):
    """A server-sent event."""

    @property
    def event(self) -> str:
        """Its kind."""

    @property
    def data(self) -> str:
        """JSON."""

    @property
    def id(self) -> str:
        """For `Last-Event-ID`."""

    @property
    def retry(self) -> int | None:
        """Milliseconds to wait before connecting again."""


class Stream(Generic[M]):
    """One stream, over however many connections.

    Args:
        channel: what is listened to.
        last_event_id: where to go on.
        on_notice: told what happens to the stream; else the log of `b25_client.streams` is.
        give_up_after: seconds without a connection; None never gives up.
        clock: seconds, never backwards.
        random: from [0, 1).
    """

    def __init__(
        self,
        channel: Channel[M],
        *,
        last_event_id: str = "",
        on_notice: OnNotice | None = None,
        give_up_after: float | None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._channel = channel
        self._last_id = last_event_id
        self._tell = on_notice or _to_log
        self._give_up_after = give_up_after
        self._clock, self._random = clock, random
        self._hint = 0.0
        """Seconds that the service asks to wait before connecting again."""
        self._attempts = 0
        self._lost_at = 0.0
        self._pace = Pace(clock)
        self._bye: str | None = None

    def request(self) -> Request[None]:
        """For the next connection."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return replace(self._channel.request, headers=headers)

    def connected(self) -> None:
        """There is a connection."""
        self._bye = None
        self._pace = Pace(self._clock)

    def take(self, told: Told) -> M | None:
        """The message of a server-sent event; None if it is about the stream itself.

        Raises:
            UnexpectedAnswer: it is not understood.
        """
        self._attempts = 0
        if told.retry is not None:
            self._hint = told.retry / 1000
        if not told.data:
            return None
        read = self._channel.kinds.get(told.event)
        try:
            content = json.loads(told.data)
            if read is None:
                self._take_note(told.event, content)
                return None
            message = read(content, told.id)
        except _UNREADABLE as error:
            raise UnexpectedAnswer("a message of the stream that is not understood") from error
        if self._channel.has_memory and told.id:
            self._last_id = told.id
        return message

    def reading(self) -> None:
        """The program asks for the next message."""
        self._pace.reading()

    def read(self) -> None:
        """The service told something."""
        self._pace.read()

    def lost(self, error: Failure | None) -> float:
        """Seconds to wait before the next connection.

        Args:
            error: how the last one ended; None if orderly.

        Raises:
            ApiError: the service refuses it for good.
            Unreachable, ApiError: there was no connection for too long.
        """
        if error is not None and not is_passing(error):
            assert isinstance(error, ApiError)
            raise error
        if not self._attempts:
            self._lost_at = self._clock()
        self._attempts += 1
        if self._give_up_after is not None and self._clock() - self._lost_at > self._give_up_after:
            if isinstance(error, httpx.RequestError):
                raise unreachable(error, self._attempts) from error
            if error is not None:
                raise error
        asked = error.retry_after if isinstance(error, ApiError) else None
        wait = wait_before(self._attempts, asked, self._random)
        if asked is None:
            wait += self._hint
        self._tell(self._notice(error, wait))
        return wait

    def _notice(self, error: Failure | None, wait: float) -> Notice:
        behind = self._pace.behind
        if self._bye is not None:
            return Notice(NoticeKind.ENDED, self._bye, wait)
        if isinstance(error, ApiError):
            return Notice(NoticeKind.REFUSED, str(error), wait)
        what = f"the connection ended ({type(error).__name__})" if error else "the connection ended"
        if self._attempts == 1 and behind >= _BEHIND:
            detail = f"{what} while this program was {behind:.0f} s behind with reading"
            return Notice(NoticeKind.TOO_SLOW, detail, wait, behind)
        return Notice(NoticeKind.BROKEN, what, wait)

    def _take_note(self, kind: str, content: Mapping[str, Any]) -> None:
        if kind == "bye":
            self._bye = str(content.get("reason", "the service ended it"))
        elif kind == "problem":
            self._tell(Notice(NoticeKind.PROBLEM, str(error_told(dict(content)))))


class Pace:
    """How far a reader is behind: how long it kept messages since it last had to wait for one, seconds."""

    _WAITED = 0.2

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self.behind = 0.0

    def read(self) -> None:
        """Something came."""
        now = self._clock()
        if now - self._at > self._WAITED:
            self.behind = 0.0
        self._at = now

    def reading(self) -> None:
        """The reader wants the next."""
        now = self._clock()
        self.behind += now - self._at
        self._at = now


def event_source(response: httpx.Response) -> Any:
    """httpx-sse's reader of a response.

    Raises:
        MissingLibrary: it is not installed.
        UnexpectedAnswer: the response is no stream.
    """
    try:
        from httpx_sse import EventSource
    except ImportError:
        raise MissingLibrary("httpx-sse", "a stream") from None
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise UnexpectedAnswer("no stream of events: is this the address of the service?")
    return EventSource(response)


def _to_log(notice: Notice) -> None:
    _log.warning("stream_%s: %s", notice.kind, notice.detail)
