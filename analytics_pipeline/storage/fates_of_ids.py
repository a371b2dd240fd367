"""What became of events, looked up by their ids, and of a list that names some by id and some by offset.

Belongs here: where an event of an id can be, stored or in a dead letter. Does not belong here: what became of the
message at an offset (`fates`), finding events (`event_lookup`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.ids import time_of
from analytics_pipeline.events.messages import Offset
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.event_lookup import Stored, by_id, by_key
from analytics_pipeline.storage.fates import Fate, Verdict, at_offsets, stored_fate

AROUND = timedelta(minutes=5)
"""How far from the time inside its id an event without a known time is looked for."""

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC) + AROUND, datetime.max.replace(tzinfo=UTC) - AROUND
_MICROSECOND = timedelta(microseconds=1)
_CLOCKS = timedelta(hours=1)
"""A letter is written when its message is read: not before the event happened, its clock being right within this."""
_LETTERS = """
SELECT asked.id, letter.id, letter.source, letter.partition, letter.source_offset
FROM dead_letter_events AS letter
CROSS JOIN LATERAL (
    SELECT DISTINCT lower(found.texts [1]) AS id
    FROM regexp_matches(encode(letter.value, 'escape'), %(pattern)s, 'gi') AS found (texts)
) AS inside
INNER JOIN unnest(%(ids)s::text [], %(sinces)s::timestamptz []) AS asked (id, since)
    ON inside.id = asked.id AND letter.created_at >= asked.since
WHERE letter.created_at >= %(since)s
ORDER BY letter.id
"""
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MOST_LETTERS = 100
"""Of one id."""


class EventKey(NamedTuple):
    """An event's id and its timestamp; without one it is looked for around the time inside the id, if it has one."""

    id: UUID
    timestamp: datetime | None = None

    @property
    def time(self) -> datetime | None:
        """About when it happened."""
        return self.timestamp if self.timestamp is not None else time_of(self.id)


Question = Offset | EventKey


def fates_of(connection: Connection, wanted: Sequence[Question]) -> list[list[Fate]]:
    """What became of each of these messages, in this order."""
    at = iter(at_offsets(connection, [one for one in wanted if isinstance(one, Offset)]))
    of = iter(of_events(connection, [one for one in wanted if isinstance(one, EventKey)]))
    return [next(at) if isinstance(one, Offset) else next(of) for one in wanted]


def of_events(connection: Connection, wanted: Sequence[EventKey]) -> list[list[Fate]]:
    """What became of each event, in this order: stored, dead letters that hold its id, or nothing known."""
    asked = {key: key.time for key in wanted}
    stored = _stored(connection, [key for key, time in asked.items() if time is not None])
    letters = _letters(connection, {key: time for key, time in asked.items() if time is not None})
    places = list(dict.fromkeys(place for found in letters.values() for _, place in found))
    at = dict(zip(places, at_offsets(connection, places), strict=True))
    return [_fates(key, time, stored[key], letters[key], at) for key in wanted for time in (asked[key],)]


def _fates(
    key: EventKey,
    time: datetime | None,
    stored: Sequence[Stored],
    letters: Sequence[tuple[int, Offset]],
    at: Mapping[Offset, Sequence[Fate]],
) -> list[Fate]:
    if time is None:
        return [Fate(Verdict.UNKNOWN, "this id holds no time: give the event's own", event_id=key.id)]
    of_letters = [
        one._replace(event_id=key.id)
        for number, place in letters
        for one in at[place]
        if one.dead_letter == number and _may_be(one, key)
    ]
    known = {one.event_time for one in of_letters}
    found = [stored_fate(event) for event in stored if event.timestamp not in known] + of_letters
    return found or [
        Fate(Verdict.UNKNOWN, "no event and no dead letter has this id at this time", event_id=key.id)
    ]


def _may_be(fate: Fate, key: EventKey) -> bool:
    """Whether this is the event: the id may be inside a property of another, and with another time it is another."""
    return fate.event_id is None or (fate.event_id == key.id and key.timestamp in (None, fate.event_time))


def _stored(connection: Connection, asked: Sequence[EventKey]) -> Mapping[EventKey, list[Stored]]:
    exact = [(key.timestamp, key.id) for key in asked if key.timestamp is not None]
    around = {
        key.id: min(max(key.time, _FIRST), _LAST) for key in asked if key.timestamp is None and key.time
    }
    found: dict[EventKey, list[Stored]] = defaultdict(list)
    for event in by_key(connection, exact):
        found[EventKey(event.id, event.timestamp)].append(event)
    spans = [(time - AROUND, time + AROUND + _MICROSECOND) for time in around.values() if time < _LAST]
    for event in by_id(connection, around, spans):
        if abs(event.timestamp - around[event.id]) <= AROUND:
            found[EventKey(event.id)].append(event)
    return found


def _letters(
    connection: Connection, asked: Mapping[EventKey, datetime]
) -> Mapping[EventKey, list[tuple[int, Offset]]]:
    """Number and place of the letters that hold each id."""
    found: dict[EventKey, list[tuple[int, Offset]]] = defaultdict(list)
    if not asked:
        return found
    sinces: dict[str, datetime] = {}
    for key, time in asked.items():
        since = max(time, _FIRST + _CLOCKS) - _CLOCKS
        sinces[str(key.id)] = min(since, sinces.get(str(key.id), since))
    values = {
        "pattern": f"({_UUID})",
        "ids": list(sinces),
        "sinces": list(sinces.values()),
        "since": min(sinces.values()),
    }
    holding: dict[str, list[tuple[int, Offset]]] = defaultdict(list)
    for text, number, *place in connection.execute(_LETTERS, values):
        if len(holding[text]) < _MOST_LETTERS:
            holding[text].append((number, Offset(*place)))
    for key in asked:
        found[key] = holding[str(key.id)]
    return found
