"""Raw messages to the table of events: a fast path for what is certainly right, `document` for the rest.

Belongs here: the loop over a batch, and what needs the whole batch: ids, age, lateness, duplicates.
Does not belong here: why a message is refused (`document`, `properties`).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa

from analytics_pipeline.events import columns, ids, properties
from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.events.document import Document, is_clean_name, read_document
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.judge import judge
from analytics_pipeline.events.limits import MAX_TEXT, Limits
from analytics_pipeline.events.messages import LATEST_MILLIS, DeadLetter, Message, RawBatch, dead_letter
from analytics_pipeline.events.posted import PostedEvent, decode_posted
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.schema import EVENTS_SCHEMA, check_events
from analytics_pipeline.events.times import EPOCH, micros

__all__ = ["Decoded", "PostedEvent", "decode_batches", "decode_posted"]

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_MOST_NAMES = 10_000
_clean_names: set[str] = set()
_UNSURE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
"""What the parser raises for messages it cannot vouch for; a missing value is a TypeError."""


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The contract as far as the parser can check it; ids in another form go the slow way."""

    event_type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
    id: (
        Annotated[str, msgspec.Meta(min_length=columns.UUID_LENGTH, max_length=columns.UUID_LENGTH)] | None
    ) = None
    user_id: _Text | None = None
    session_id: _Text | None = None
    properties: msgspec.Raw = msgspec.Raw(properties.EMPTY)
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass
class Decoded:
    """A batch after decoding: `events` is sorted by (timestamp, id) and has no key twice.

    Every message is an event, a dead letter or a duplicate; `duplicates` counts by (source, partition).
    """

    batches: Sequence[RawBatch]
    events: pa.Table
    dead: list[DeadLetter] = field(default_factory=list)
    duplicates: Counter[tuple[str, int]] = field(default_factory=Counter)
    unknown_fields: int = 0

    def message(self, source: str, partition: int, offset: int) -> Message:
        """The raw message at a position.

        Raises:
            LookupError: it is not in this batch.
        """
        for batch in self.batches:
            if (batch.source, batch.partition) == (source, partition):
                at = bisect_left(batch.messages, offset, key=lambda message: message.offset())
                if at < len(batch.messages) and batch.messages[at].offset() == offset:
                    return batch.messages[at]
        raise LookupError(f"offset {offset} of {source}/{partition} is not in this batch")


class _Rows:
    """Accepted rows, column by column, as Python values."""

    def __init__(self) -> None:
        self.event_type: list[str] = []
        self.id: list[str | None] = []
        self.user_id: list[str | None] = []
        self.session_id: list[str | None] = []
        self.properties: list[bytes] = []
        self.time: list[timedelta | None] = []
        self.version: list[int | None] = []
        self.message: list[Message] = []
        self.ends: list[int] = []
        """Row count after each raw batch."""


def decode_batches(
    batches: Sequence[RawBatch],
    *,
    now: datetime,
    limits: Limits,
    definitions: Definitions = NO_DEFINITIONS,
) -> Decoded:
    """Decode, validate, identify and deduplicate the messages of some partitions.

    Args:
        batches: at most one per partition, offsets ascending.
        now: the time of reading (µs precision), for age and for messages without a time.
        limits: sizes and times.
        definitions: the snapshot of active definitions that judges this batch.

    Raises:
        InvariantBroken: the result breaks a rule of the events table, a bug.
    """
    decoded = Decoded(batches, EVENTS_SCHEMA.empty_table())
    rows = _read(decoded, limits, definitions)
    if rows.message:
        _build(decoded, rows, now, limits)
    return decoded


def _read(decoded: Decoded, limits: Limits, definitions: Definitions) -> _Rows:
    rows = _Rows()
    add_type, add_id, add_user = rows.event_type.append, rows.id.append, rows.user_id.append
    add_session, add_properties, add_time = rows.session_id.append, rows.properties.append, rows.time.append
    add_version, add_message = rows.version.append, rows.message.append
    decode, quick, epoch, clean = _decode, properties.quick, EPOCH, _clean_names
    (most, most_bytes), custom = limits.of_properties(False), limits.of_properties(True)
    custom_types = definitions.types
    is_judged = bool(custom_types) or limits.strict_types
    for batch in decoded.batches:
        for message in batch.messages:
            value = message.value()
            parsed = None
            try:
                event: _Event | Document = decode(value)  # type: ignore[arg-type]
                name, raw = event.event_type, bytes(event.properties)
                if (name in clean or _is_clean(name)) and not (
                    b"\\" in value and b"\\u0000" in value  # type: ignore[operator]
                ):
                    parsed = quick(raw, *custom) if name in custom_types else quick(raw, most, most_bytes)
            except _UNSURE:
                pass  # read_document finds out
            try:
                if parsed is None:
                    event = read_document(value, limits, custom_types)
                    name, raw, parsed = event.event_type, event.properties, event.parsed
                    decoded.unknown_fields += event.unknown_fields
                version = judge(name, parsed, definitions, limits) if is_judged else None
            except Rejected as rejected:
                decoded.dead.append(dead_letter(batch.source, batch.partition, message, rejected))
                continue
            add_type(name)
            add_id(event.id)
            add_user(event.user_id)
            add_session(event.session_id)
            add_properties(raw)
            add_time(None if event.timestamp is None else event.timestamp - epoch)
            add_version(version)
            add_message(message)
        rows.ends.append(len(rows.message))
    return rows


def _is_clean(name: str) -> bool:
    """Whether the name has no control characters; remembers the answer, there are few event types."""
    if not is_clean_name(name):
        return False
    if len(_clean_names) < _MOST_NAMES:
        _clean_names.add(name)
    return True


def _build(decoded: Decoded, rows: _Rows, now: datetime, limits: Limits) -> None:
    offsets = np.array([message.offset() for message in rows.message], np.int64)
    counts = np.diff(rows.ends, prepend=0)
    owner = np.repeat(np.arange(len(counts)), counts)
    reached = _reached(rows.message, now)
    timestamps, is_missing = columns.micros_since_epoch(rows.time)
    halves, has_id, is_bad = columns.parse_ids(rows.id)
    inside, is_seven = columns.uuid7_micros(halves)
    timestamps = np.where(is_missing, np.where(has_id & is_seven, inside, reached), timestamps)
    is_old = timestamps < micros(limits.oldest(now))
    is_ahead = timestamps > micros(limits.latest(now))

    for row in np.flatnonzero(is_bad | is_old | is_ahead).tolist():
        reason = Reason.BAD_ID if is_bad[row] else Reason.TOO_OLD if is_old[row] else Reason.TOO_FAR_IN_FUTURE
        rejected = Rejected(reason, path="$.id" if is_bad[row] else "$.timestamp")
        rejected.event_type = rows.event_type[row]
        batch = decoded.batches[owner[row]]
        decoded.dead.append(dead_letter(batch.source, batch.partition, rows.message[row], rejected))
    good = np.flatnonzero(~(is_bad | is_old | is_ahead))
    if not len(good):
        return

    seeds = np.array([ids.source_seed(b.source, b.partition) for b in decoded.batches], np.uint64)[owner]
    made = ids.deterministic_ids(np.maximum(timestamps, 0), offsets, seeds)
    halves = np.where(has_id[:, None], halves, made)
    kept, repeats = columns.order_and_repeats(timestamps[good], halves[good])
    for number, count in Counter(owner[good[repeats]].tolist()).items():
        batch = decoded.batches[number]
        decoded.duplicates[batch.source, batch.partition] = count
    chosen = good[kept]
    picked = pa.array(chosen)
    sources = pa.array([batch.source for batch in decoded.batches], pa.string())
    partitions = np.array([batch.partition for batch in decoded.batches], np.int32)
    decoded.events = check_events(
        pa.table(
            [
                columns.ids_to_arrow(halves[chosen]),
                pa.array(rows.event_type, pa.string()).take(picked),
                pa.array(rows.user_id, pa.string()).take(picked),
                pa.array(rows.session_id, pa.string()).take(picked),
                pa.array(rows.properties, pa.binary()).take(picked).view(pa.string()),
                columns.times_to_arrow(timestamps[chosen]),
                pa.array(columns.late(timestamps[chosen], reached[chosen], limits.grace)),
                sources.take(pa.array(owner[chosen])),
                pa.array(partitions[owner[chosen]]),
                pa.array(offsets[chosen]),
                pa.array(rows.version, pa.int32()).take(picked),
            ],
            schema=EVENTS_SCHEMA,
        )
    )


def _reached(messages: Sequence[Message], now: datetime) -> columns.Int64:
    """When each message reached its source, in µs; now where the message does not say."""
    millis = [at if kind else -1 for kind, at in (message.timestamp() for message in messages)]
    known = np.array([min(at, LATEST_MILLIS) for at in millis], np.int64)
    return np.where(known < 0, micros(now), known * 1000)
