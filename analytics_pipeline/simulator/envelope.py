"""Envelopes: a drafted event gets its id and time and becomes the message that a producer sends.

Belongs here: the form of an event on its way to Kafka. What happens, and when, is decided elsewhere.
Times are whole microseconds since the Unix epoch, UTC, in the whole package.
"""

from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import msgspec

TRADING = "trading.events"
MARKET = "market.data"
ORDERS = "order.events"
USERS = "user.actions"
TOPICS = (TRADING, MARKET, ORDERS, USERS)
"""The topics that the simulator sends to."""

SECOND = 1_000_000
"""Microseconds in a second."""


class Draft(NamedTuple):
    """What happened, before it has an id; `key` keeps messages of one symbol, strategy or user in order."""

    topic: str
    key: str
    event_type: str
    properties: dict[str, Any]
    user_id: str | None = None
    session_id: str | None = None


class Message(NamedTuple):
    """What goes to Kafka; `time` is when the event happened, in microseconds."""

    topic: str
    key: bytes
    value: bytes
    time: int


class Envelope(msgspec.Struct, omit_defaults=True):
    """The JSON of one event; see the event contract in `docs/events.md`."""

    id: str
    event_type: str
    timestamp: str
    user_id: str | None = None
    session_id: str | None = None
    properties: dict[str, Any] | None = None


class Sealer:
    """Gives drafts a UUIDv7 whose time is the event's, and a timestamp with zone."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._encode = msgspec.json.Encoder().encode
        self._second = -1
        self._prefix = ""

    def seal(self, draft: Draft, time: int) -> Message:
        """The message of `draft`, which happened at `time`."""
        return Message(draft.topic, draft.key.encode(), self._encode(self.envelope(draft, time)), time)

    def envelope(self, draft: Draft, time: int) -> Envelope:
        """The event itself, not encoded yet."""
        return Envelope(
            self.identity(time),
            draft.event_type,
            self.timestamp(time),
            draft.user_id,
            draft.session_id,
            draft.properties or None,
        )

    def identity(self, time: int) -> str:
        """A UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, then bits of the seeded source."""
        bits = self._random.getrandbits(74)
        number = (
            (time // 1000) << 80
            | 0x7 << 76
            | (bits >> 62) << 64
            | 0b10 << 62
            | (bits & 0x3FFF_FFFF_FFFF_FFFF)
        )
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def timestamp(self, time: int) -> str:
        """ISO 8601 in UTC with microseconds; the part up to the second is kept, as most events share it."""
        second, microsecond = divmod(time, SECOND)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{microsecond:06d}Z"
