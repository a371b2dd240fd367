"""Events that the original service had stored, as the messages that this product judges.

Belongs here: the message of one row, and when two events are the same in spite of their ids. Does not belong here:
the original's database (`storage.original`), judging (`reading`, `document`).
"""

import json
from datetime import date
from typing import Any
from uuid import UUID

import msgspec

from analytics_pipeline.events.messages import PlainMessage

_EPOCH = date(1970, 1, 1)
_write = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, omit_defaults=True):
    event_type: str
    id: str
    timestamp: str
    properties: msgspec.Raw
    user_id: str | None = None
    session_id: str | None = None


def message(
    *,
    offset: int,
    identity: UUID,
    event_type: str,
    user_id: str | None,
    session_id: str | None,
    properties: str,
    timestamp: str,
    reached: int | None,
) -> PlainMessage:
    """The message that says what a row says.

    Args:
        offset: its position within its day.
        identity: the row's id; it is the message's key too, so that a dead letter can be found by it.
        event_type: as it stands there, also where the contract refuses it.
        user_id: or None.
        session_id: or None.
        properties: JSON text, kept as it is.
        timestamp: as the contract writes it.
        reached: ms since 1970 when it reached the original, which decides whether it is late.
    """
    event = _Event(
        event_type, str(identity), timestamp, msgspec.Raw(properties.encode()), user_id, session_id
    )
    return PlainMessage(_write(event), offset, reached, str(identity).encode())


def partition_of(day: date) -> int:
    """The partition of a UTC day: days since 1970."""
    return (day - _EPOCH).days


def content(event_type: str, user_id: str | None, session_id: str | None, properties: str) -> str:
    """What an event says, its time and id left out, as the original would have stored it.

    The original gave every message from Kafka an id of its own, whatever the producer had sent, and kept all numbers
    as 64-bit floats. Two events of one time are the same message when this is the same.
    """
    tree = json.loads(properties, parse_int=_float, parse_float=_float)
    return json.dumps([event_type, user_id, session_id, tree], sort_keys=True)


def _float(text: str) -> Any:
    return float(text) + 0.0  # -0 is 0 in jsonb
