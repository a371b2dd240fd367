"""Open streams of this process: how many there may be, how often they speak, and how they end.

Belongs here: the wire format's use, pings, the end of slow and of all clients. Does not belong here: what is told
(`channels`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from analytics_pipeline.settings import Realtime
from analytics_pipeline.telemetry import OPEN_STREAMS
from api.errors import NotFound, Problem, TooManyRequests, Unavailable
from api.patient_response import PatientResponse
from api.stream.channels import Channel
from api.turns import caller

_PING = 15.0
_RETRY = 5.0
_SHARE = 0.2
"""Of a process's time, for comparing the answers of all streams with those before."""
_LITTLE = 0.005
"""Seconds of it that are not counted: an answer of some hundred points takes less."""
_LONGEST_PAUSE = 30.0
"""Seconds between two looks, however many of those there are."""
_RECONNECT = 2_000
"""Milliseconds a client is asked to wait before it connects again."""


class _Stream(PatientResponse):
    """A stream that holds a place until it ends, however that is."""

    def __init__(self, content: AsyncIterator[bytes], *, patience: float, leave: Callable[[], None]) -> None:
        """Take the pieces, and how to give the place back."""
        super().__init__(
            content,
            media_type="text/event-stream",
            patience=patience,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell, then leave."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class Streams:
    """Hands out streams, at most `realtime.max_connections` at a time, and half of them to one caller."""

    def __init__(self, realtime: Realtime, *, patience: float, is_stopping: Callable[[], bool]) -> None:
        """Take the settings, how many seconds a client may take to accept a message, and who knows of the stop."""
        self._is_enabled = realtime.enabled
        self._most = realtime.max_connections
        self._most_of_one = max(1, self._most // 2)
        self._interval = realtime.update_interval.total_seconds()
        self._patience = patience
        self._is_stopping = is_stopping
        self._open: Counter[str | None] = Counter()
        self._free_at = 0.0
        """When the streams of large answers have had their share of this process's time until then."""

    def open(self, channel: Channel, is_allowed: Callable[[], bool]) -> PatientResponse:
        """The answer that tells a channel for as long as its client listens, and may.

        Raises:
            NotFound: streams are switched off.
            TooManyRequests: too many are the caller's own.
            Unavailable: there are too many, or the process stops.
        """
        if not self._is_enabled:
            raise NotFound("Streams are switched off (realtime.enabled).")
        if self._open.total() >= self._most or self._is_stopping():
            raise Unavailable(
                f"At most {self._most} streams can be open (realtime.max_connections).",
                kind="too-many-streams",
                retry_after=_RETRY,
            )
        whose = caller()
        if whose is not None and self._open[whose] >= self._most_of_one:
            raise TooManyRequests(
                f"{self._most_of_one} streams of yours are open, half of all there can be (realtime.max_connections).",
                kind="too-many-own-streams",
                title="too many streams at once",
                retry_after=_RETRY,
            )
        # Now, not once it begins to tell: others may open theirs in between.
        self._open[whose] += 1
        OPEN_STREAMS.inc()
        return _Stream(
            self._tell(channel, is_allowed), patience=self._patience, leave=partial(self._leave, whose)
        )

    def _leave(self, whose: str | None) -> None:
        OPEN_STREAMS.dec()
        self._open[whose] -= 1
        if not self._open[whose]:
            del self._open[whose]

    async def _tell(self, channel: Channel, is_allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        yield format_sse_event(retry=_RECONNECT)
        spoken, due = time.monotonic(), 0.0
        while not self._is_stopping():
            looked = time.monotonic()
            if not is_allowed():
                yield format_sse_event(event="bye", data_str='{"reason":"the key does not hold any more"}')
                return
            messages: list[bytes] = []
            if looked >= due:
                messages = await _messages(channel)
                due = looked + self._owed(channel)
            if not messages and time.monotonic() - spoken > _PING:
                messages = [KEEPALIVE_COMMENT]
            for message in messages:
                yield message
                spoken = time.monotonic()
            # From one look to the next: what a look takes must not make what it tells older.
            took = time.monotonic() - looked
            await asyncio.sleep(max(self._interval - took, self._interval / 10))
        yield format_sse_event(event="bye", data_str='{"reason":"the service stops; connect again"}')

    def _owed(self, channel: Channel) -> float:
        """Seconds until this one may look again, so that all that compare large answers leave time to others."""
        if channel.seconds < _LITTLE:
            return 0.0
        now = time.monotonic()
        self._free_at = min(max(now, self._free_at) + channel.seconds / _SHARE, now + _LONGEST_PAUSE)
        return self._free_at - now


async def _messages(channel: Channel) -> list[bytes]:
    try:
        changes = await channel.changes()
    except Problem as problem:
        return [format_sse_event(event="problem", data_str=problem.body("").decode())]
    return [format_sse_event(event=one.event, data_str=one.data.decode(), id=one.id) for one in changes]
