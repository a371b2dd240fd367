"""Envelopes: a drafted event gets its id and time and becomes the message that a producer sends.

Belongs here: the form of an event on its way to Kafka. What happens, and when, is decided elsewhere.
Times are whole microseconds since the Unix epoch, UTC, in the whole package.
"""

from random import Random
from typing import Any, NamedTuple

import msgspec

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.times import format_time, from_micros

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

    def seal(self, draft: Draft, time: int) -> Message:
        """The message of `draft`, which happened at `time`."""
        moment = from_micros(time)
        envelope = Envelope(
            str(uuid7(moment, self._random.randbytes(10))),
            draft.event_type,
            format_time(moment),
            draft.user_id,
            draft.session_id,
            draft.properties or None,
        )
        return Message(draft.topic, draft.key.encode(), self._encode(envelope), time)
