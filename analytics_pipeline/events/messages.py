"""Raw messages on their way in, and dead letters on their way out.

Belongs here: the shapes that ingest, decode and landing hand to each other.
Does not belong here: fetching messages (`ingest`) or storing dead letters (`storage.landing`).
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import add, length_hint, methodcaller
from typing import Any, NamedTuple, Protocol

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.fingerprint import group_of
from analytics_pipeline.events.producers import producer_of
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.times import from_micros

HTTP_SOURCE = "http"
"""Source of posted events; Kafka's sources are their topics."""

REPLAY_SOURCE = "_replay"
"""Source, in the ledger alone, of dead letters that were landed again; their events keep the source they had."""

IMPORT_SOURCE = "_import"
"""Source of events that the original service had stored; its partitions are UTC days, counted from 1970."""

Headers = tuple[tuple[str, bytes | None], ...]
"""(name, value) pairs, in order, names more than once."""

_key_of, _headers_of = methodcaller("key"), methodcaller("headers")

LATEST_MILLIS = 253_402_300_799_999
"""The end of the year 9999: later message times are cut to it."""


class Offset(NamedTuple):
    """Where a message is in Kafka."""

    topic: str
    partition: int
    offset: int


class Message(Protocol):
    """A message as confluent-kafka has it: accessors instead of attributes, values only when asked for."""

    def __len__(self) -> int:
        """Bytes of the payload."""

    def value(self) -> bytes | None:
        """The payload, None for a tombstone."""

    def key(self) -> bytes | None:
        """The key."""

    def headers(self) -> Any:
        """List of (name, value or None), or None."""

    def offset(self) -> int:
        """Position within the partition."""

    def timestamp(self) -> tuple[int, int]:
        """(kind, ms since 1970); kind 0 means that there is no time."""


@dataclass(frozen=True, slots=True)
class PlainMessage:
    """A message made here: an inbox row, a replay, or a test's."""

    content: bytes | None
    position: int
    millis: int | None = None
    name: bytes | None = None
    extra: Headers = ()

    def __len__(self) -> int:
        """Bytes of the payload."""
        return len(self.content or b"")

    def value(self) -> bytes | None:
        """The payload."""
        return self.content

    def key(self) -> bytes | None:
        """The key."""
        return self.name

    def headers(self) -> Any:
        """The headers."""
        return list(self.extra) or None

    def offset(self) -> int:
        """The position."""
        return self.position

    def timestamp(self) -> tuple[int, int]:
        """(kind, ms)."""
        return (0, -1) if self.millis is None else (1, self.millis)


class RawBatch(NamedTuple):
    """Messages of one partition, in the order of their offsets."""

    source: str
    partition: int
    messages: Sequence[Message]


def sizes(messages: list[Message]) -> Iterator[int]:
    """Bytes of the value, the key and the headers of each message; the first that asks Kafka's messages for headers.

    There are tens of thousands a second: without headers no line of Python is run for one of them.

    A message with a header name that is not UTF-8 is replaced, in the list, by one that has no headers: confluent-kafka
    raises when it is asked for them, and gives names that are null pointers when it is asked again.
    """
    headers: list[Any] = []
    asked = map(_headers_of, messages)
    while len(headers) < len(messages):
        try:
            headers.extend(asked)
        except (UnicodeDecodeError, SystemError):  # it returns a result and an exception
            messages[len(headers)] = _without_headers(messages[len(headers)])
            headers.append(None)
    found = map(add, map(len, messages), map(length_hint, map(_key_of, messages)))  # None hints at 0
    return map(add, found, map(_size_of_headers, headers)) if any(headers) else found


def _without_headers(message: Message) -> PlainMessage:
    kind, millis = message.timestamp()
    return PlainMessage(
        _bytes(message.value()), message.offset(), millis if kind else None, _bytes(message.key())
    )


def _size_of_headers(headers: Sequence[tuple[str, bytes | None]] | None) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers or ())


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not become an event, bytes as they came.

    `fingerprint` names the group of those that were refused for the same reason in the same place and shape.
    """

    source: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    key: bytes | None
    value: bytes | None
    headers: bytes | None
    message_timestamp: datetime | None
    fingerprint: str
    event_type: str | None = None
    producer: str | None = None


def dead_letter(source: str, partition: int, message: Message, rejected: Rejected) -> DeadLetter:
    """The dead letter of a message; the detail names the path but never repeats the data."""
    kind, millis = message.timestamp()
    headers = message.headers()
    known = kind != 0 and millis >= 0
    value = _bytes(message.value())
    return DeadLetter(
        source=source,
        partition=partition,
        offset=message.offset(),
        reason=rejected.reason,
        detail=str(rejected),
        key=_bytes(message.key()),
        value=value,
        headers=encode_headers(headers),
        message_timestamp=from_micros(min(millis, LATEST_MILLIS) * 1000) if known else None,
        fingerprint=group_of(rejected.reason, rejected.path, value),
        event_type=rejected.event_type,
        producer=producer_of(headers),
    )


def encode_headers(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes | None:
    """JSON list of [name, base64 of the value or null], duplicates and order kept."""
    if not headers:
        return None
    pairs = [
        [name, None if value is None else base64.b64encode(_bytes(value) or b"").decode()]
        for name, value in headers
    ]
    return json.dumps(pairs).encode()


def decode_headers(encoded: bytes | None) -> Headers:
    """The opposite of `encode_headers`."""
    pairs = json.loads(encoded) if encoded else []
    return tuple((name, None if value is None else base64.b64decode(value)) for name, value in pairs)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
