"""What became of one message, looked up by where it was in Kafka or by the event's id.

Belongs here: the questions to ledger, events and dead letters. Does not belong here: words for people (`cli.fate`).
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.ids import time_of
from analytics_pipeline.events.messages import HTTP_SOURCE
from analytics_pipeline.storage.connection import Connection

AROUND = timedelta(minutes=5)
"""How far from the time inside its id an event without a known time is looked for."""
_LAST = datetime.max.replace(tzinfo=UTC)

_BATCHES = """
SELECT batch_id, committed_at, hours, duplicate, skipped, note FROM ingest_batches
WHERE source = %s AND partition = %s AND first_offset <= %s AND next_offset > %s ORDER BY batch_id
"""
_NEXT_OFFSET = "SELECT next_offset FROM ingest_offsets WHERE source = %s AND partition = %s"
_EVENT_AT = """
SELECT event.source, event.source_partition, event.source_offset, event.id, event.timestamp, event.event_type,
    event.created_at
FROM unnest(%s::timestamptz []) AS touched (hour)
INNER JOIN events AS event ON event.timestamp >= touched.hour AND event.timestamp < touched.hour + interval '1 hour'
WHERE event.source = %s AND event.source_partition = %s AND event.source_offset = %s
"""
_EVENT = """
SELECT source, source_partition, source_offset, id, timestamp, event_type, created_at FROM events
WHERE timestamp >= %s AND timestamp <= %s AND id = %s ORDER BY timestamp
"""
_LETTER_COLUMNS = "id, source, partition, source_offset, reason, detail, status, event_type, created_at"
_LETTERS_AT = f"""
SELECT {_LETTER_COLUMNS} FROM dead_letter_events
WHERE source = %s AND partition = %s AND source_offset = %s ORDER BY id
"""  # noqa: S608
_LETTERS_OF = f"""
SELECT {_LETTER_COLUMNS} FROM dead_letter_events
WHERE created_at >= %s AND position(%s::bytea IN value) > 0 ORDER BY id LIMIT 100
"""  # noqa: S608


class Verdict(StrEnum):
    """What became of a message."""

    STORED = "stored"
    DEAD = "dead"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"
    """Kafka gave nothing at this offset, or an operator went past it."""
    WAITING = "waiting"
    """Landing has not come so far."""
    EXPIRED = "expired"
    """It was read; what it became is not kept any more."""
    UNKNOWN = "unknown"


class Fate(NamedTuple):
    """One thing that is known of a message; `at` is when it landed, `detail` a sentence for a person."""

    verdict: Verdict
    detail: str = ""
    source: str | None = None
    partition: int | None = None
    offset: int | None = None
    batch_id: int | None = None
    event_id: UUID | None = None
    event_time: datetime | None = None
    event_type: str | None = None
    dead_letter: int | None = None
    reason: str | None = None
    at: datetime | None = None


def at_offset(connection: Connection, source: str, partition: int, offset: int) -> list[Fate]:
    """What became of the message at an offset: one fate each time that it was read, oldest first."""
    key = (source, partition, offset)
    letters = [_of_letter(row) for row in connection.execute(_LETTERS_AT, key)]
    batches = connection.execute(_BATCHES, (*key, offset)).fetchall()
    if not batches:
        return letters or [_never_read(connection, *key)]
    fates: list[Fate] = []
    for batch_id, committed_at, hours, duplicate, skipped, note in batches:
        stored = [_of_event(row, batch_id) for row in connection.execute(_EVENT_AT, (hours, *key))]
        if stored or letters:
            fates += stored
            continue
        verdict, detail = Verdict.EXPIRED, "its event has been removed by retention"
        if duplicate:
            verdict, detail = Verdict.DUPLICATE, "an event of the same id and time was stored before"
        elif skipped:
            verdict, detail = Verdict.SKIPPED, note or "Kafka gave no message at this offset"
        fates.append(Fate(verdict, detail, *key, batch_id, at=committed_at))
    return fates + letters


def of_event(connection: Connection, event_id: UUID, at: datetime | None) -> list[Fate]:
    """What became of the event with an id: stored, dead letters that hold the id, or nothing known.

    Args:
        connection: any.
        event_id: its id.
        at: its time, exactly; None looks around the time inside the id, if it has one.
    """
    inside = time_of(event_id)
    first, last = (at, at) if at is not None else (inside, inside)
    if at is None and inside is not None:
        first, last = inside - AROUND, min(inside, _LAST - AROUND) + AROUND
    if first is None:
        return [Fate(Verdict.UNKNOWN, "this id holds no time: give the event's own", event_id=event_id)]
    found = [_of_event(row, None) for row in connection.execute(_EVENT, (first, last, event_id))]
    # The letter was written when its message was read: not before the event happened, its clock being right.
    found += [
        _of_letter(row)._replace(event_id=event_id)
        for row in connection.execute(_LETTERS_OF, (first - timedelta(hours=1), str(event_id).encode()))
    ]
    return found or [
        Fate(Verdict.UNKNOWN, "no event and no dead letter has this id at this time", event_id=event_id)
    ]


def _never_read(connection: Connection, source: str, partition: int, offset: int) -> Fate:
    if source == HTTP_SOURCE:
        detail = "posted events are not looked up by offset: ask by id, or the API by landing token"
        return Fate(Verdict.UNKNOWN, detail, source, partition, offset)
    row = connection.execute(_NEXT_OFFSET, (source, partition)).fetchone()
    verdict, detail = Verdict.UNKNOWN, "it is older than the ledger, or before the first message read"
    if row is None:
        detail = "landing has never read this partition"
    elif offset >= row[0]:
        verdict, detail = Verdict.WAITING, f"landing stands at offset {row[0]}"
    return Fate(verdict, detail, source, partition, offset)


def _of_event(row: tuple[str, int, int, UUID, datetime, str, datetime], batch_id: int | None) -> Fate:
    source, partition, offset, event_id, event_time, event_type, created_at = row
    return Fate(
        Verdict.STORED,
        "",
        source,
        partition,
        offset,
        batch_id,
        event_id,
        event_time,
        event_type,
        at=created_at,
    )


def _of_letter(row: tuple[int, str, int, int, str, str, str, str | None, datetime]) -> Fate:
    letter, source, partition, offset, reason, detail, status, event_type, created_at = row
    return Fate(
        Verdict.DEAD,
        detail if status == "open" else f"{detail} ({status} since)",
        source,
        partition,
        offset,
        event_type=event_type,
        dead_letter=letter,
        reason=reason,
        at=created_at,
    )
