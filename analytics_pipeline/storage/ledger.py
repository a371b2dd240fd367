"""Keeping the books of a batch, and the rows that go with it: ledger lines, dead letters, deltas.

Belongs here: what landing writes beside the events, as pure data and one statement each.
Does not belong here: the order of the steps and what their failures mean (`storage.landing`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.messages import DeadLetter
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA
from analytics_pipeline.storage.copying import Copier, Cursor
from analytics_pipeline.storage.offsets import Partition, Span

_DEAD_SCHEMA = pa.schema(
    [
        pa.field("batch_id", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("source_offset", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("event_type", pa.string()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.binary()),
        pa.field("message_timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("fingerprint", pa.string()),
        pa.field("producer", pa.string()),
    ]
)
_DEAD = Copier("dead_letter_events", _DEAD_SCHEMA)
_BATCH_ID = pa.field("batch_id", pa.int64())
_DELTAS = Copier("rollup_deltas", DELTAS_SCHEMA.append(_BATCH_ID), jsonb=frozenset({"dimensions"}))

_PENDING = """
INSERT INTO pending_batches (hour, batch_id) SELECT touched.hour, %s FROM unnest(%s::timestamptz []) AS touched (hour)
"""
_LEDGER = """
INSERT INTO ingest_batches (
    batch_id, source, partition, first_offset, next_offset, read, stored, duplicate, dead, skipped,
    catalog_version, hours, seconds
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What became of the messages of one partition; offsets are None for the inbox, which has none."""

    source: str
    partition: int
    first_offset: int | None
    next_offset: int | None
    read: int
    stored: int
    duplicate: int
    dead: int
    skipped: int


def balance(
    spans: Sequence[Span], decoded: Decoded, stored: pa.Table, dead: Sequence[DeadLetter]
) -> list[Line]:
    """Account for every message of a batch.

    Duplicates are counted, not left over: those removed in the batch, and events that were there before.

    Raises:
        InvariantBroken: a message is unaccounted for.
    """
    events_of, stored_of = _by_partition(decoded.events), _by_partition(stored)
    dead_of = Counter((letter.source, letter.partition) for letter in dead)
    dead_later = dead_of - Counter((letter.source, letter.partition) for letter in decoded.dead)
    spans_of = {span.key: span for span in spans}
    read_of = {(batch.source, batch.partition): len(batch.messages) for batch in decoded.batches}
    lines = []
    for key in sorted(spans_of.keys() | read_of.keys()):
        span, read = spans_of.get(key), read_of.get(key, 0)
        duplicate = decoded.duplicates[key] + events_of[key] - stored_of[key] - dead_later[key]
        line = Line(
            source=key[0],
            partition=key[1],
            first_offset=span.first_offset if span else None,
            next_offset=span.next_offset if span else None,
            read=read,
            stored=stored_of[key],
            duplicate=duplicate,
            dead=dead_of[key],
            skipped=span.skipped if span else 0,
        )
        if line.read != line.stored + line.duplicate + line.dead or duplicate < 0 or line.skipped < 0:
            raise InvariantBroken(f"the books of a batch do not balance: {line}")
        if span is not None and span.read != read:
            raise InvariantBroken(f"a batch says that it read {span.read} messages, it holds {read}: {line}")
        lines.append(line)
    return lines


def write_lines(
    cursor: Cursor,
    batch_id: int,
    lines: Sequence[Line],
    *,
    catalog_version: str,
    hours: Sequence[datetime],
    seconds: float,
) -> None:
    """Insert the ledger's rows."""
    cursor.executemany(
        _LEDGER,
        [
            (batch_id, line.source, line.partition, line.first_offset, line.next_offset, line.read, line.stored,
             line.duplicate, line.dead, line.skipped, catalog_version, list(hours), seconds)
            for line in lines
        ],
    )  # fmt: skip


def write_dead_letters(cursor: Cursor, batch_id: int, letters: Sequence[DeadLetter]) -> None:
    """Copy dead letters, bytes as they came."""
    if not letters:
        return
    columns = {
        "batch_id": [batch_id] * len(letters),
        "source": [letter.source for letter in letters],
        "partition": [letter.partition for letter in letters],
        "source_offset": [letter.offset for letter in letters],
        "reason": [letter.reason.value for letter in letters],
        "detail": [letter.detail for letter in letters],
        "event_type": [letter.event_type for letter in letters],
        "key": [letter.key for letter in letters],
        "value": [letter.value for letter in letters],
        "headers": [letter.headers for letter in letters],
        "message_timestamp": [letter.message_timestamp for letter in letters],
        "fingerprint": [letter.fingerprint for letter in letters],
        "producer": [letter.producer for letter in letters],
    }
    _DEAD.copy(cursor, pa.table(columns, schema=_DEAD_SCHEMA))


def write_deltas(cursor: Cursor, batch_id: int, deltas: pa.Table) -> list[datetime]:
    """Copy partial states and note which hours they are pending in; return those hours."""
    if deltas.num_rows == 0:
        return []
    hours = sorted(pc.unique(deltas["hour"]).to_pylist())
    cursor.execute(_PENDING, (batch_id, hours))
    _DELTAS.copy(cursor, deltas.append_column(_BATCH_ID, pa.array([batch_id] * deltas.num_rows, pa.int64())))
    return hours


def _by_partition(events: pa.Table) -> Counter[Partition]:
    if events.num_rows == 0:
        return Counter()
    counted = events.group_by(["source", "source_partition"]).aggregate([("source_offset", "count")])
    return Counter(
        {
            (source, number): count
            for source, number, count in zip(
                counted["source"].to_pylist(),
                counted["source_partition"].to_pylist(),
                counted["source_offset_count"].to_pylist(),
                strict=True,
            )
        }
    )
