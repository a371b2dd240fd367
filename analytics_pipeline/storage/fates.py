"""What became of messages, looked up by where they were in Kafka.

Belongs here: what follows from readings and events, for any number of messages at once. Does not belong here: looking
up by ids of events (`fates_of_ids`), the readings (`readings`), finding events (`event_lookup`), what Kafka says
(`ingest.unread`), words for people (`cli.fate`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.messages import HTTP_SOURCE, Offset
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.event_lookup import Span, Stored, by_offset
from analytics_pipeline.storage.readings import Letter, Line, hours_of, letters_of, lines_of

NO_TOPIC = "landing has never read this topic"
_NO_PARTITION = "landing has never read this partition"

_BEFORE, _AFTER = timedelta(minutes=1), timedelta(seconds=5)
"""Around a landing: where the events that came without delay are, so that hours need not be read for them."""
_SECOND = timedelta(seconds=1)
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(hours=1)

_STANDINGS = "SELECT source, partition, next_offset FROM ingest_offsets"


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
    MISSING = "missing"
    """It was stored, and something else than retention has deleted or changed its event."""
    UNKNOWN = "unknown"


class Fate(NamedTuple):
    """One thing that is known of a message; `at` is when it landed, `detail` a sentence for a person.

    `dead_letter` is the letter that the message is, or was until it was replayed.
    """

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


def outcome(fates: Sequence[Fate]) -> Fate:
    """What a message is in the end: stored if it ever was, else what the last reading made of it."""
    return next((one for one in fates if one.verdict is Verdict.STORED), fates[-1])


def is_unread(fate: Fate) -> bool:
    """Whether landing has not come to a message; Kafka may know more of it."""
    return fate.verdict is Verdict.WAITING or fate.detail in (NO_TOPIC, _NO_PARTITION)


def at_offsets(connection: Connection, wanted: Sequence[Offset]) -> list[list[Fate]]:
    """What became of the message at each offset, in this order: one fate each time that it was read, oldest first.

    A handful of questions to Postgres, however many offsets there are; what is held is a few hundred bytes of each.
    """
    asked = list(dict.fromkeys(wanted))
    if not asked:
        return []
    # In this order: what has landed in between is seen by the next question, and by none as missing.
    standings = {(row[0], row[1]): row[2] for row in connection.execute(_STANDINGS)}
    lines, letters = lines_of(connection, asked), letters_of(connection, asked)
    found = _events(connection, asked, lines, letters)
    known = {
        one: _readings(one, lines[one], letters[one], found[one]) or [_never_read(standings, one)]
        for one in asked
    }
    return [known[one] for one in wanted]


def _events(
    connection: Connection,
    asked: Collection[Offset],
    lines: Mapping[Offset, Sequence[Line]],
    letters: Mapping[Offset, Sequence[Letter]],
) -> Mapping[Offset, list[Stored]]:
    """The events of the messages: first where they most likely are, then all hours that their batches touched."""
    near: dict[Offset, list[Span]] = {}
    batches: dict[Offset, list[int]] = {}
    for one in asked:
        dead = {letter.batch_id for letter in letters[one]}
        storing = [line for line in lines[one] if line.stored and line.batch_id not in dead]
        replayed = [letter for letter in letters[one] if letter.replay_batch_id is not None]
        if storing or replayed:
            near[one] = [(line.began_at - _BEFORE, line.committed_at + _AFTER) for line in storing]
            near[one] += [_around(letter.event_time) for letter in replayed]
            batches[one] = [line.batch_id for line in storing]
            batches[one] += [
                letter.replay_batch_id for letter in replayed if letter.replay_batch_id is not None
            ]
    found: dict[Offset, list[Stored]] = defaultdict(list)
    for event in by_offset(connection, near, _all(near.values())):
        found[_place(event)].append(event)
    if missing := [one for one in near if one not in found]:
        numbers = sorted({number for one in missing for number in batches[one]})
        for event in by_offset(connection, missing, hours_of(connection, numbers)):
            found[_place(event)].append(event)
    return found


def _around(time: datetime) -> Span:
    first = max(min(time, _LAST), datetime.min.replace(tzinfo=UTC) + timedelta(hours=1))
    return first - _SECOND, first + _SECOND


def _all(groups: Iterable[Sequence[Span]]) -> list[Span]:
    return [span for group in groups for span in group]


def _place(event: Stored) -> Offset:
    assert event.source is not None
    assert event.partition is not None
    assert event.offset is not None
    return Offset(event.source, event.partition, event.offset)


def _readings(
    place: Offset, lines: Sequence[Line], letters: Sequence[Letter], events: Sequence[Stored]
) -> list[Fate]:
    """`events.created_at` is the moment at which a batch began, so it tells which one stored an event."""
    stored = {event.created_at: event for event in events}
    moments = {line.began_at for line in lines} | {letter.replayed_at for letter in letters}
    others = [event for event in events if event.created_at not in moments]
    fates = []
    for line in lines:
        dead = [letter for letter in letters if letter.batch_id == line.batch_id]
        event = stored.get(line.began_at)
        if event is None and others and line.stored and not dead:
            event = others.pop()  # of a ledger that was upgraded: such moments were reckoned
        if event is not None:
            fates.append(stored_fate(event, line.batch_id))
        elif dead:
            fates += [_of_letter(place, letter, stored) for letter in dead]
        else:
            fates.append(_without_trace(place, line))
    known = {line.batch_id for line in lines}
    return fates + [_of_letter(place, letter, stored) for letter in letters if letter.batch_id not in known]


def _without_trace(place: Offset, line: Line) -> Fate:
    verdict, detail = Verdict.EXPIRED, "its event has been removed by retention"
    if line.duplicate:
        verdict, detail = Verdict.DUPLICATE, "an event of the same id and time was stored before"
    elif line.skipped:
        verdict, detail = Verdict.SKIPPED, line.note or "Kafka gave no message at this offset"
    elif line.is_kept:
        verdict, detail = (
            Verdict.MISSING,
            "its event was stored, and is gone although retention has left its hour",
        )
    return Fate(verdict, detail, *place, line.batch_id, at=line.committed_at)


def _never_read(standings: Mapping[tuple[str, int], int], place: Offset) -> Fate:
    if place.topic == HTTP_SOURCE:
        detail = "posted events are not looked up by offset: ask by id, or the API by landing token"
        return Fate(Verdict.UNKNOWN, detail, *place)
    next_offset = standings.get((place.topic, place.partition))
    if next_offset is not None and place.offset >= next_offset:
        return Fate(Verdict.WAITING, f"landing stands at offset {next_offset}", *place)
    detail = "it is older than the ledger, or before the first message read"
    if next_offset is None:
        detail = _NO_PARTITION if any(source == place.topic for source, _ in standings) else NO_TOPIC
    return Fate(Verdict.UNKNOWN, detail, *place)


def stored_fate(event: Stored, batch_id: int | None = None) -> Fate:
    """That an event is stored."""
    return Fate(
        Verdict.STORED,
        "",
        event.source,
        event.partition,
        event.offset,
        batch_id,
        event.id,
        event.timestamp,
        event.event_type,
        at=event.created_at,
    )


def _of_letter(place: Offset, letter: Letter, stored: Mapping[datetime, Stored]) -> Fate:
    if letter.replayed_at is not None:
        words = f"as dead letter {letter.id} ({letter.reason}) was replayed"
        event = stored.get(letter.replayed_at)
        if event is not None:
            fate = stored_fate(event, letter.replay_batch_id)
            return fate._replace(detail=words, dead_letter=letter.id)
        verdict, detail = Verdict.EXPIRED, f"stored {words}; retention has removed it since"
        if letter.replay_duplicates:
            verdict, detail = Verdict.DUPLICATE, f"an event of the same id and time was there {words}"
        return Fate(
            verdict, detail, *place, letter.replay_batch_id, dead_letter=letter.id, at=letter.replayed_at
        )
    return Fate(
        Verdict.DEAD,
        letter.detail if letter.status == "open" else f"{letter.detail} ({letter.status} since)",
        *place,
        event_type=letter.event_type,
        dead_letter=letter.id,
        reason=letter.reason,
        at=letter.created_at,
    )
