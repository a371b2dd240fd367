"""Events that come over REST: the rules of Kafka messages, and the bytes that wait in the inbox.

Belongs here: judging posted events while their sender waits, and completing them. Does not belong here: the rules
(`reading`, `document`), HTTP, or how a body is cut into events.

The text of an accepted event is kept as it came; an id or a timestamp that it lacks is added at its end, where it
wins over a null that stands before it.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.ids import time_of_uuid7, uuid7
from analytics_pipeline.events.limits import Limits, too_far_in_future, too_old
from analytics_pipeline.events.messages import HTTP_SOURCE, DeadLetter, PlainMessage, RawBatch
from analytics_pipeline.events.reading import Reader
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.times import EPOCH, MICROSECOND, format_time, parse_time

Randomness = Callable[[int], bytes]

_RANDOM_BYTES = 10
_FIRST, _LAST = timedelta(0), datetime.max.replace(tzinfo=UTC) - EPOCH
"""What the time inside an id can be."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class Accepted(NamedTuple):
    """An item that is an event: `payload` is its JSON with id and timestamp, on one line."""

    id: str
    payload: bytes


class Refused(NamedTuple):
    """An item that is not, in the words of `Rejected`."""

    reason: Reason
    path: str
    detail: str


class PostedEvent(NamedTuple):
    """An accepted event, its id and time read."""

    id: UUID
    timestamp: datetime
    payload: bytes


def read_posted(
    items: Sequence[bytes],
    *,
    now: datetime,
    limits: Limits,
    definitions: Definitions = NO_DEFINITIONS,
    randomness: Randomness = os.urandom,
) -> list[Accepted | Refused]:
    """Judge posted events with the code that judges Kafka messages, and complete the good ones.

    Args:
        items: one JSON text each, as it came.
        now: arrival time, which an event without `timestamp` and without a UUIDv7 `id` gets.
        limits: as for Kafka.
        definitions: the active ones.
        randomness: bytes for the UUIDv7 of events without `id`.

    Returns:
        The verdicts, in the order given.
    """
    reader = Reader(limits, definitions)
    reader.read(RawBatch(HTTP_SOURCE, 0, [PlainMessage(item, at) for at, item in enumerate(items)]))
    verdicts: dict[int, Accepted | Refused] = {letter.offset: _refusal(letter) for letter in reader.dead}
    rows = reader.rows
    oldest, latest = limits.oldest(now) - EPOCH, limits.latest(now) - EPOCH
    random = randomness(_RANDOM_BYTES * rows.id.count(None))
    for given, known, message in zip(rows.id, rows.time, rows.message, strict=True):
        at, added = message.offset(), b""
        if given is not None and not _UUID.fullmatch(given):
            verdicts[at] = _refuse(Rejected(Reason.BAD_ID, path="$.id"))
            continue
        time = known
        if time is None:
            time = ((None if given is None else time_of_uuid7(UUID(given))) or now) - EPOCH
            added = b',"timestamp":"%b"' % format_time(EPOCH + time).encode()
        if time < oldest:
            verdicts[at] = _refuse(too_old(limits.oldest(now)))
            continue
        if time > latest:
            verdicts[at] = _refuse(too_far_in_future((time - (now - EPOCH)) // MICROSECOND, limits))
            continue
        if given is None:
            identity = str(uuid7(EPOCH + min(max(time, _FIRST), _LAST), random[:_RANDOM_BYTES]))
            random = random[_RANDOM_BYTES:]
            added += b',"id":"%b"' % identity.encode()
        else:
            identity = given.lower()
        item = items[at]
        if added:
            item = b"%b%b}" % (item.rstrip()[:-1], added)
        # Between tokens a line break means as much as a space; inside strings JSON allows none.
        verdicts[at] = Accepted(identity, item.replace(b"\n", b" ") if b"\n" in item else item)
    return [verdicts[at] for at in range(len(items))]


def decode_posted(
    body: Mapping[str, Any] | bytes,
    *,
    now: datetime,
    limits: Limits,
    definitions: Definitions = NO_DEFINITIONS,
    randomness: Randomness = os.urandom,
) -> PostedEvent:
    """`read_posted` for one event, as JSON (preferred: numbers keep their digits) or as a parsed object.

    Raises:
        Rejected: why it is not an event.
    """
    item = body if isinstance(body, bytes) else _to_json(body)
    [verdict] = read_posted([item], now=now, limits=limits, definitions=definitions, randomness=randomness)
    if isinstance(verdict, Refused):
        raise Rejected(verdict.reason, verdict.detail, verdict.path)
    timestamp = parse_time(msgspec.json.decode(verdict.payload)["timestamp"])
    return PostedEvent(UUID(verdict.id), timestamp, verdict.payload)


def _refuse(rejected: Rejected) -> Refused:
    return Refused(rejected.reason, rejected.path, rejected.detail)


def _refusal(letter: DeadLetter) -> Refused:
    path, _, detail = letter.detail.partition(": ")
    return Refused(letter.reason, path, detail)


def _to_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(body), allow_nan=False).encode()
    except ValueError:
        raise Rejected(Reason.NUMBER_OUT_OF_RANGE) from None
    except (TypeError, RecursionError):
        raise Rejected(Reason.NOT_JSON) from None
