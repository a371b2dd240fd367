"""One event: its id and time, set once, and the JSON that is sent however often.

Belongs here: what an event is on the wire. Does not belong here: sending it.

The service calls two events the same when timestamp and id are the same. Both are fixed here, before the first
attempt, so that whatever is sent again is recognised.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from b25_client.errors import InvalidEvent

MAX_TEXT = 255
"""Characters of event_type, user_id and session_id."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_VERSION_7 = 7 << 76
_VARIANT = 2 << 62


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is ready to be sent; `payload` is its JSON in UTF-8, without a newline."""

    id: UUID
    timestamp: datetime
    event_type: str
    payload: bytes


def make_event(
    event_type: str,
    properties: Mapping[str, Any] | None = None,
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    timestamp: datetime | None = None,
    id: UUID | None = None,
) -> Event:
    """Fix id and time of an event and encode it.

    Args:
        event_type: 1 to 255 characters.
        properties: what JSON can say; UUIDs and times with a zone become text.
        user_id: at most 255 characters.
        session_id: at most 255 characters.
        timestamp: with a zone; now if absent.
        id: a UUIDv7 of `timestamp` if absent.

    Raises:
        InvalidEvent: names the argument, never its value.
    """
    _check_text("event_type", event_type)
    if not event_type:
        raise InvalidEvent("event_type: it is empty")
    _check_text("user_id", user_id)
    _check_text("session_id", session_id)
    if properties is not None and not isinstance(properties, Mapping):
        raise InvalidEvent("properties: it must be a mapping of names to values")
    if id is not None and not isinstance(id, UUID):
        raise InvalidEvent("id: it must be a UUID; make one of text by UUID(text)")
    timestamp = _in_utc(timestamp)
    identity = id if id is not None else uuid7(timestamp)
    fields: dict[str, Any] = {
        "event_type": event_type,
        "id": str(identity),
        "timestamp": _format_time(timestamp),
    }
    if user_id is not None:
        fields["user_id"] = user_id
    if session_id is not None:
        fields["session_id"] = session_id
    if properties is not None:
        fields["properties"] = dict(properties)
    try:
        payload = _encode(fields).encode()
    except UnicodeEncodeError:
        raise InvalidEvent("properties: a text holds half a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"properties: not JSON ({_about(error)})") from None
    return Event(identity, timestamp, event_type, payload)


def uuid7(at: datetime) -> UUID:
    """Version 7 of RFC 9562: the milliseconds of `at`, and 74 random bits."""
    millis = (at - _EPOCH) // _MILLISECOND & (1 << 48) - 1
    random = int.from_bytes(os.urandom(10), "big")
    return UUID(
        int=millis << 80 | _VERSION_7 | (random >> 62 & 0xFFF) << 64 | _VARIANT | random & (1 << 62) - 1
    )


def _check_text(name: str, value: object) -> None:
    if value is None and name != "event_type":
        return
    if not isinstance(value, str):
        raise InvalidEvent(f"{name}: it must be a string")
    if len(value) > MAX_TEXT:
        raise InvalidEvent(f"{name}: it has more than {MAX_TEXT} characters")


def _in_utc(timestamp: datetime | None) -> datetime:
    if timestamp is None:
        return datetime.now(UTC)
    if not isinstance(timestamp, datetime):
        raise InvalidEvent(
            "timestamp: it must be a datetime; make one of text by datetime.fromisoformat(text)"
        )
    if timestamp.utcoffset() is None:
        raise InvalidEvent("timestamp: it has no zone; use datetime.now(UTC)")
    try:
        return timestamp.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent("timestamp: it is before the year 1 or after 9999 in UTC") from None


def _format_time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _to_json(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _format_time(value.astimezone(UTC))
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_json
).encode


def _about(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    return str(error) if isinstance(error, TypeError) else "a number is not finite, or it contains itself"
