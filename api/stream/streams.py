"""Open streams of this process: how many there may be, how often they speak, and how they end.

Belongs here: the wire format's use, pings, the end of slow and of all clients. Does not belong here: what is told
(`channels`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from analytics_pipeline.settings import Realtime
from analytics_pipeline.telemetry import OPEN_STREAMS
from api.errors import NotFound, Problem, Unavailable
from api.patient_response import PatientResponse
from api.stream.channels import Channel

_PING = 15.0
_RECONNECT = 2_000
"""Milliseconds a client is asked to wait before it connects again."""


class Streams:
    """Hands out streams, at most `realtime.max_connections` at a time."""

    def __init__(self, realtime: Realtime, *, patience: float, is_stopping: Callable[[], bool]) -> None:
        """Take the settings, how many seconds a client may take to accept a message, and who knows of the stop."""
        self._is_enabled = realtime.enabled
        self._most = realtime.max_connections
        self._interval = realtime.update_interval.total_seconds()
        self._patience = patience
        self._is_stopping = is_stopping
        self._open = 0

    def open(self, channel: Channel, is_allowed: Callable[[], bool]) -> PatientResponse:
        """The answer that tells a channel for as long as its client listens, and may.

        Raises:
            NotFound: streams are switched off.
            Unavailable: there are too many, or the process stops.
        """
        if not self._is_enabled:
            raise NotFound("Streams are switched off (realtime.enabled).")
        if self._open >= self._most or self._is_stopping():
            raise Unavailable(
                f"At most {self._most} streams can be open (realtime.max_connections).",
                kind="too-many-streams",
                retry_after=5,
            )
        return PatientResponse(
            self._tell(channel, is_allowed),
            media_type="text/event-stream",
            patience=self._patience,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _tell(self, channel: Channel, is_allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        self._open += 1
        OPEN_STREAMS.inc()
        try:
            yield format_sse_event(retry=_RECONNECT)
            spoken = time.monotonic()
            while not self._is_stopping():
                if not is_allowed():
                    yield format_sse_event(
                        event="bye", data_str='{"reason":"the key does not hold any more"}'
                    )
                    return
                messages = await _messages(channel)
                if not messages and time.monotonic() - spoken > _PING:
                    messages = [KEEPALIVE_COMMENT]
                for message in messages:
                    yield message
                    spoken = time.monotonic()
                await asyncio.sleep(self._interval)
            yield format_sse_event(event="bye", data_str='{"reason":"the service stops; connect again"}')
        finally:
            self._open -= 1
            OPEN_STREAMS.dec()


async def _messages(channel: Channel) -> list[bytes]:
    try:
        changes = await channel.changes()
    except Problem as problem:
        return [format_sse_event(event="problem", data_str=problem.body("").decode())]
    return [format_sse_event(event=one.event, data_str=one.data.decode(), id=one.id) for one in changes]
