"""Raw messages to the table of events.

Belongs here: what needs the whole batch: ids, age, lateness, duplicates, order.
Does not belong here: reading one message (`reading`), and why it is refused (`document`, `properties`).
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import methodcaller

import numpy as np
import pyarrow as pa

from analytics_pipeline.events import columns, ids
from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import Limits, too_far_in_future, too_old
from analytics_pipeline.events.messages import LATEST_MILLIS, DeadLetter, Message, RawBatch, dead_letter
from analytics_pipeline.events.posted import PostedEvent, decode_posted
from analytics_pipeline.events.reading import Reader, Rows
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.schema import EVENTS_SCHEMA, check_events
from analytics_pipeline.events.source_statistics import Arrivals
from analytics_pipeline.events.times import micros

__all__ = ["Decoded", "PostedEvent", "decode_batches", "decode_posted"]


_offset_of = methodcaller("offset")
_time_of = methodcaller("timestamp")


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
    arrivals: Arrivals | None = None

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
    reader = Reader(limits, definitions)
    counts = []
    for batch in batches:
        before = len(reader.rows.message)
        reader.read(batch)
        counts.append(len(reader.rows.message) - before)
    decoded = Decoded(batches, EVENTS_SCHEMA.empty_table(), reader.dead, unknown_fields=reader.unknown_fields)
    if reader.rows.message:
        _build(decoded, reader.rows, np.array(counts), now, limits)
    return decoded


def _build(decoded: Decoded, rows: Rows, counts: columns.Int64, now: datetime, limits: Limits) -> None:
    """Fill `decoded` from the rows, of which each batch gave `counts`."""
    offsets = np.array(list(map(_offset_of, rows.message)), np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    reached = _reached(rows.message, now)
    timestamps, is_missing = columns.micros_since_epoch(rows.time)
    halves, has_id, is_bad = columns.parse_ids(rows.id)
    inside, is_seven = columns.uuid7_micros(halves)
    timestamps = np.where(is_missing, np.where(has_id & is_seven, inside, reached), timestamps)
    is_old = timestamps < micros(limits.oldest(now))
    is_ahead = timestamps > micros(limits.latest(now))
    decoded.arrivals = Arrivals(owner, offsets, reached - timestamps)

    for row in np.flatnonzero(is_bad | is_old | is_ahead).tolist():
        if is_bad[row]:
            rejected = Rejected(Reason.BAD_ID, path="$.id")
        elif is_old[row]:
            rejected = too_old(limits.oldest(now))
        else:
            rejected = too_far_in_future(int(timestamps[row]) - micros(now), limits)
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
                columns.texts_to_arrow(rows.properties).take(picked),
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
    millis = [at if kind else -1 for kind, at in map(_time_of, messages)]
    known = np.minimum(np.array(millis, np.int64), LATEST_MILLIS)
    return np.where(known < 0, micros(now), known * 1000)
