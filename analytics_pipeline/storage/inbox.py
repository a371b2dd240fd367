"""The inbox of posted events: appended by the API, emptied by landing.

Belongs here: the statements on `http_inbox`, `http_accepted` and `http_duplicates`. Does not belong here: validation
(`events.posted`), which has happened before, and landing, whose transaction the rows are taken in.

A row holds what concurrent requests posted, one event a line. The event at position p of a row is read as offset
row + p of source `http`; the sequence of the rows leaves room for `MOST_EVENTS`.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import psycopg
import pyarrow as pa

from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.messages import HTTP_SOURCE, DeadLetter, Headers, Message, PlainMessage
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.tracing import TRACEPARENT

CHANNEL = "inbox"

MOST_EVENTS = 65_536
"""Events that one row may hold: the distance between two ids."""

PRODUCER_HEADER = "client_id"
"""Header under which the name of a posting client goes on, as if it had come over Kafka."""

QUIET = 0.05
"""Seconds between two notifications of one process: each costs every other transaction that notifies, and a wake-up."""

_MOST_ROWS = 1_000
_MOST_BYTES = 32 * 1024 * 1024

# One round trip and one COMMIT. NOTIFY is not a statement here, so that it can be part of this one.
_APPEND = """
WITH entry AS (
    INSERT INTO http_inbox (payload, events, received_at, producers)
    VALUES (%(payload)b, %(events)s, %(now)s, %(producers)s) RETURNING id
), counted AS (
    INSERT INTO http_accepted AS day (process_id, day, accepted) VALUES (%(process)s, %(day)s, %(events)s)
    ON CONFLICT (process_id, day) DO UPDATE SET accepted = day.accepted + excluded.accepted
)
SELECT id, CASE WHEN %(wake)s THEN pg_notify('inbox', '')::text END FROM entry
"""
# No cursor over ids: they become visible out of order. At least one row, then as many as the limits allow: `sized`
# guesses how many, so that no more are locked than are taken; they may be others, so they are counted again.
_TAKE = """
WITH oldest AS (
    SELECT id, events, octet_length(payload) AS bytes FROM http_inbox ORDER BY id LIMIT %(rows)s
), sized AS (
    SELECT
        sum(events) OVER (ORDER BY id) - events AS events_before,
        sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before
    FROM oldest
), locked AS (
    SELECT id, events, octet_length(payload) AS bytes FROM http_inbox ORDER BY id
    LIMIT (SELECT count(*) FROM sized WHERE events_before < %(events)s AND bytes_before < %(bytes)s)
    FOR UPDATE SKIP LOCKED
), counted AS (
    SELECT
        id,
        sum(events) OVER (ORDER BY id) - events AS events_before,
        sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before
    FROM locked
)
DELETE FROM http_inbox WHERE id = ANY(ARRAY(
    SELECT id FROM counted WHERE events_before < %(events)s AND bytes_before < %(bytes)s
))
RETURNING id, payload, events, (extract(EPOCH FROM received_at) * 1000)::bigint, producers
"""
# The same without a lock: somebody else may take them meanwhile.
_LOOK = """
WITH sized AS (
    SELECT
        id, payload, events, received_at, producers,
        sum(events) OVER (ORDER BY id) - events AS events_before,
        sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS bytes_before
    FROM (SELECT * FROM http_inbox ORDER BY id LIMIT %(rows)s) AS oldest
)
SELECT id, payload, events, (extract(EPOCH FROM received_at) * 1000)::bigint, producers FROM sized
WHERE events_before < %(events)s AND bytes_before < %(bytes)s
"""
_TAKE_SEEN = "DELETE FROM http_inbox WHERE id = ANY(%s) RETURNING id"
_DUPLICATES = """
INSERT INTO http_duplicates (inbox_id, positions)
SELECT repeats.inbox_id, array_agg(repeats.position ORDER BY repeats.position)
FROM unnest(%s::bigint [], %s::integer []) AS repeats (inbox_id, position)
GROUP BY repeats.inbox_id
"""
_OUTCOME = """
SELECT
    (SELECT last_value FROM http_inbox_id_seq) >= %(row)s,
    EXISTS (SELECT FROM http_inbox WHERE id = %(row)s),
    ARRAY(
        SELECT repeats.position FROM http_duplicates, unnest(positions) AS repeats (position)
        WHERE inbox_id = %(row)s AND repeats.position >= %(first)s AND repeats.position < %(last)s
        ORDER BY 1
    ),
    ARRAY(
        SELECT (source_offset - %(row)s)::text || ' ' || reason FROM dead_letter_events
        WHERE source = 'http' AND partition = 0 AND status <> 'replayed'
            AND source_offset >= %(row)s::bigint + %(first)s AND source_offset < %(row)s::bigint + %(last)s
        ORDER BY source_offset
    )
"""
_BACKLOG = "SELECT coalesce(sum(events), 0)::bigint FROM (SELECT events FROM http_inbox LIMIT %s) AS waiting"

_FORGET = """
DELETE FROM http_duplicates WHERE landed_at < %s
"""


class Entry(NamedTuple):
    """Accepted events of one request: their JSON texts, joined by newlines, how many they are, who sent them, and the
    W3C context of the request, if it is traced.
    """

    payload: bytes
    events: int
    producer: str = ""
    context: str = ""


class Landing(NamedTuple):
    """Where the events of one request wait: a row of the inbox, and their positions in it."""

    row: int
    first: int
    events: int

    def __str__(self) -> str:
        """The token that a client is given."""
        return f"{self.row:x}-{self.first:x}-{self.events:x}"

    @classmethod
    def parse(cls, token: str) -> "Landing | None":
        """The opposite of `str`; None for anything else."""
        try:
            row, first, events = (int(part, 16) for part in token.split("-"))
        except ValueError:
            return None
        made = cls(row, first, events)
        is_possible = 0 < row < 1 << 63 and events > 0 and first + events <= MOST_EVENTS
        return made if is_possible and str(made) == token else None


class Outcome(NamedTuple):
    """What became of the events of one request.

    `is_waiting`: still in the inbox, so nothing is known yet. Otherwise all landed in one transaction: those at
    `duplicates` were stored already, those in `dead` could not be (position, reason), the others were stored.
    Positions count from the first event of the request.
    """

    is_waiting: bool
    events: int
    duplicates: list[int]
    dead: list[tuple[int, str]]

    @property
    def stored(self) -> int:
        """Events that are stored because of this request."""
        return 0 if self.is_waiting else self.events - len(self.duplicates) - len(self.dead)

    def of(self, position: int) -> tuple[str, str | None]:
        """(`waiting`, `stored`, `duplicate` or `dead`, and why it is dead) of one event."""
        if self.is_waiting:
            return "waiting", None
        reason = dict(self.dead).get(position)
        if reason is not None:
            return "dead", reason
        return ("duplicate" if position in self.duplicates else "stored"), None


async def append(
    connection: psycopg.AsyncConnection,
    entries: Sequence[Entry],
    *,
    process_id: UUID,
    now: datetime,
    wake: bool = True,
) -> list[Landing]:
    """Append accepted events as one row, in one statement: durable when this returns, unless in a transaction.

    Args:
        connection: in autocommit, or in the transaction that the events shall be part of.
        entries: at least one; together at most `MOST_EVENTS` events.
        process_id: of the API process, for the count of accepted events.
        now: arrival time.
        wake: tell ingest. Whoever was told less than `QUIET` ago may be spared: it looks again by itself.

    Returns:
        Where the events of each entry are, in the order given.

    Raises:
        psycopg.Error: none of them was appended.
    """
    events = sum(entry.events for entry in entries)
    parameters = {
        "payload": b"\n".join([entry.payload for entry in entries]),
        "events": events,
        "now": now,
        "process": process_id,
        "day": now.astimezone(UTC).date(),
        "wake": wake,
        "producers": _producers(entries),
    }
    cursor = await connection.execute(_APPEND, parameters)
    found = await cursor.fetchone()
    assert found is not None
    row, landings, first = int(found[0]), [], 0
    for entry in entries:
        landings.append(Landing(row, first, entry.events))
        first += entry.events
    return landings


def take(cursor: Cursor, limit: int) -> list[Message]:
    """Take events out of the inbox, oldest first, inside the landing transaction.

    Whole rows: at least one, no further one once `limit` events are reached. Rows that another landing has taken
    are passed over; a rollback puts them back.
    """
    return _messages(cursor.execute(_TAKE, _limits(limit)).fetchall())


def look(cursor: Cursor, limit: int) -> tuple[list[int], list[Message]]:
    """What `take` would take, left where it is: the rows, and their events."""
    found = cursor.execute(_LOOK, _limits(limit)).fetchall()
    return [row for row, *_ in found], _messages(found)


def take_seen(cursor: Cursor, rows: Sequence[int]) -> bool:
    """Take rows that were looked at, inside the landing transaction; whether all of them were still there."""
    return len(cursor.execute(_TAKE_SEEN, (rows,)).fetchall()) == len(rows)


def _limits(events: int) -> dict[str, int]:
    return {"rows": min(events, _MOST_ROWS), "events": events, "bytes": _MOST_BYTES}


def _messages(found: Sequence[tuple[Any, ...]]) -> list[Message]:
    messages: list[Message] = []
    for row, payload, events, millis, producers in sorted(found, key=_by_row):
        if producers is None:
            for position, line in enumerate(_lines(payload, events)):
                messages.append(PlainMessage(line, row + position, millis))
        else:
            headers = _headers(producers, events)
            for position, line in enumerate(_lines(payload, events)):
                messages.append(PlainMessage(line, row + position, millis, extra=headers[position]))
    return messages


def _by_row(found: tuple[Any, ...]) -> int:
    return int(found[0])


def _producers(entries: Sequence[Entry]) -> str | None:
    """JSON list of [name, events], and the context where there is one; None when there is nothing to say, as a rule."""
    if not any([entry.producer or entry.context for entry in entries]):  # noqa: C419  (a list is quicker)
        return None
    return json.dumps([[entry.producer, entry.events, *filter(None, [entry.context])] for entry in entries])


def _headers(producers: Sequence[Sequence[Any]], events: int) -> list[Headers]:
    """What each event would have as Kafka headers."""
    headers: list[Headers] = []
    for name, count, *contexts in producers:
        named: Headers = ((PRODUCER_HEADER, name.encode()),) if name else ()
        headers += [named + tuple((TRACEPARENT, context.encode()) for context in contexts)] * count
    return headers + [()] * (events - len(headers))


def _lines(payload: bytes, events: int) -> list[bytes]:
    """Exactly as many as were counted, so that the books balance whatever the payload is."""
    lines = payload.split(b"\n", events - 1)
    return lines + [b""] * (events - len(lines))


def note_duplicates(cursor: Cursor, decoded: Decoded, stored: pa.Table, dead: Sequence[DeadLetter]) -> None:
    """Write down which events of an inbox batch were stored already; costs nothing when there are none.

    Args:
        cursor: inside the landing transaction.
        decoded: the batch.
        stored: rows that were stored.
        dead: its dead letters.
    """
    messages = [
        message for batch in decoded.batches if batch.source == HTTP_SOURCE for message in batch.messages
    ]
    if len(messages) == stored.num_rows + len(dead):
        return
    offsets = np.array([message.offset() for message in messages], np.int64)
    gone = np.concatenate(
        [stored["source_offset"].to_numpy(), np.array([letter.offset for letter in dead], np.int64)]
    )
    repeats = np.setdiff1d(offsets, gone, assume_unique=True)
    positions = repeats % MOST_EVENTS
    cursor.execute(_DUPLICATES, ((repeats - positions).tolist(), positions.tolist()))


async def outcome(connection: psycopg.AsyncConnection, landing: Landing) -> Outcome | None:
    """What became of the events that a landing token stands for; None if there was no such row.

    Known for as long as dead letters and `http_duplicates` are kept.
    """
    span = {"row": landing.row, "first": landing.first, "last": landing.first + landing.events}
    cursor = await connection.execute(_OUTCOME, span)
    found = await cursor.fetchone()
    assert found is not None
    is_known, is_waiting, duplicates, dead = found
    if not is_known:
        return None
    pairs = (text.split(" ", 1) for text in dead)
    return Outcome(
        is_waiting,
        landing.events,
        [position - landing.first for position in duplicates],
        [(int(position) - landing.first, reason) for position, reason in pairs],
    )


async def backlog(connection: psycopg.AsyncConnection, most_rows: int) -> int:
    """Events that wait in the inbox, of at most `most_rows` rows."""
    cursor = await connection.execute(_BACKLOG, (most_rows,))
    found = await cursor.fetchone()
    return int(found[0]) if found else 0


async def forget_duplicates(connection: psycopg.AsyncConnection, before: datetime) -> None:
    """Delete what was written down about duplicates that landed before that time."""
    await connection.execute(_FORGET, (before,))
