"""Events that come over REST: the same rules, and the bytes that wait in the inbox."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.events.document import read_document
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.ids import time_of_uuid7, uuid7
from analytics_pipeline.events.judge import judge
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.times import format_time, micros

_encode = msgspec.json.Encoder().encode


class PostedEvent(NamedTuple):
    """An accepted event: `payload` is its JSON with id and timestamp filled in."""

    id: UUID
    timestamp: datetime
    payload: bytes


def decode_posted(
    body: Mapping[str, Any] | bytes,
    *,
    now: datetime,
    limits: Limits,
    definitions: Definitions = NO_DEFINITIONS,
    randomness: Callable[[int], bytes] = os.urandom,
) -> PostedEvent:
    """Validate one posted event with the rules of Kafka messages, and complete it.

    Args:
        body: the JSON as it came (preferred: numbers keep their digits), or a parsed object.
        now: arrival time, which an event without `timestamp` and without a UUIDv7 `id` gets.
        limits: as for Kafka.
        definitions: the active ones.
        randomness: bytes for the UUIDv7 of an event without `id`.

    Raises:
        Rejected: why it is not an event.
    """
    document = read_document(body if isinstance(body, bytes) else _to_json(body), limits, definitions.types)
    judge(document.event_type, document.parsed, definitions, limits)
    given = UUID(document.id) if document.id is not None else None
    inside = time_of_uuid7(given) if given is not None else None
    timestamp = document.timestamp or inside or now
    check_age(micros(timestamp), limits, now)
    identity = given or uuid7(timestamp, randomness(10))
    fields = {
        "event_type": document.event_type,
        "id": str(identity),
        "user_id": document.user_id,
        "session_id": document.session_id,
        "properties": msgspec.Raw(document.properties),
        "timestamp": format_time(timestamp),
    }
    return PostedEvent(identity, timestamp, _encode({k: v for k, v in fields.items() if v is not None}))


def check_age(at: int, limits: Limits, now: datetime) -> None:
    """Refuse times that raw events are not kept for.

    Args:
        at: microseconds since 1970.

    Raises:
        Rejected: too_old or too_far_in_future.
    """
    if at < micros(limits.oldest(now)):
        raise Rejected(Reason.TOO_OLD, path="$.timestamp")
    if at > micros(limits.latest(now)):
        raise Rejected(Reason.TOO_FAR_IN_FUTURE, path="$.timestamp")


def _to_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(body), allow_nan=False).encode()
    except ValueError:
        raise Rejected(Reason.NUMBER_OUT_OF_RANGE) from None
    except (TypeError, RecursionError):
        raise Rejected(Reason.NOT_JSON) from None
