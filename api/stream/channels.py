"""What a stream tells: channels that say what has changed since they were last asked.

Belongs here: one class per channel. Does not belong here: connections and the wire (`streams`), the numbers themselves
(`reads`, `events.pages`).

A channel is asked when its client has taken what it said before, so nothing queues for a slow one: it misses states in
between, never the newest.
"""

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson

from analytics_pipeline.events.reach import EVERYTHING, Reach
from api.database import Database
from api.entity_tags import identity
from api.events.cursors import Cursor, Row, read_cursor
from api.events.listing import EventList, Filters, Order
from api.events.pages import Event, read_page
from api.events.rows import json_rows
from api.reads import CachedReads

_LONGEST_LOOK_BACK = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(seconds=5)
_LONGEST_WAY = timedelta(seconds=5)
"""From an event's own time until it is in Kafka or was posted, as far as a tail goes back for it."""
_MOST_EVENTS = 200
"""In one message, and of those that land between two looks: a live tail is looked at, so the newest count."""
_MOST_AGAIN = 5_000
"""At one look, for a client that has come back, and is told all that it has missed."""
_MOST_BYTES = 4 << 20
"""Of properties, at one look."""
# Everything before this has landed, of Kafka and of POST.
_LANDED_UNTIL = """
SELECT now(), least(
    now(),
    (SELECT min(coalesce(caught_up_at, 'epoch')) FROM ingest_offsets WHERE NOT is_retired),
    (SELECT min(received_at) FROM http_inbox)
)
"""


class Change(NamedTuple):
    """One server-sent event; `id` comes back as `Last-Event-ID` when a client connects again."""

    event: str
    data: bytes
    id: str


class Channel(Protocol):
    """Something that changes."""

    seconds: float
    """Of this process's time that the last call took to compare a large answer with the one before, if it did."""

    async def changes(self) -> Sequence[Change]:
        """What is new since the last call.

        Raises:
            Problem: it cannot be told at the moment; the next call goes on where this one was.
        """


class _Horizon(NamedTuple):
    """Up to when events are told, and up to when all sources have landed: earlier, if one stands still."""

    until: datetime
    landed: datetime


class Dashboard:
    """The newest answer of the dashboard, whenever it is another."""

    seconds = 0.0

    def __init__(self, reads: CachedReads, path: str, last_id: str) -> None:
        """Take the path of the read and what the client had last."""
        self._reads, self._path, self._last = reads, path, last_id

    async def changes(self) -> Sequence[Change]:
        """See `Channel`."""
        question = self._reads.question(self._path, b"", EVERYTHING)
        key = self._reads.key(question)
        version = key or question.fingerprint
        if version == self._last:
            return []
        body = (await self._reads.get(question, key)).body
        self._last = version
        return [Change("dashboard", body, version)]


_Place = tuple[str, str, bytes]
"""Of a point: the metric, the time, and the dimensions."""


class Metric:
    """An answer of `/api/v1/metrics`: whole at first, then the points that changed; whole again if others are gone."""

    def __init__(
        self, reads: CachedReads, path: str, query_string: bytes, reach: Reach, last_id: str = ""
    ) -> None:
        """Take the question, as it would be asked there by who sees only `reach`, and what the client had last.

        Raises:
            BadRequest: it makes no sense.
            Forbidden: the metric cannot be cut down to `reach`.
        """
        self._reads, self._path, self._query, self._reach = reads, path, query_string, reach
        self._key: str | None = None
        self._last = last_id
        self._points: dict[_Place, Any] | None = None
        self._intervals: list[str] = []
        self.seconds = 0.0
        self._reads.question(path, query_string, reach)

    async def changes(self) -> Sequence[Change]:
        """See `Channel`."""
        self.seconds = 0.0
        question = self._reads.question(self._path, self._query, self._reach)
        key = self._reads.key(question)
        if key is not None and key == self._key:
            return []
        found = await self._reads.get(question, key)
        began = time.perf_counter()
        try:
            return self._compare(found.body, identity(found.etag), key)
        finally:
            self.seconds = time.perf_counter() - began

    def _compare(self, body: bytes, own: str, key: str | None) -> Sequence[Change]:
        """What is another than in the answer before."""
        content = orjson.loads(body)
        results = content["results"] if "results" in content else [content["result"]]
        points = {
            (
                result["metric_name"],
                point["timestamp"],
                orjson.dumps(point["dimensions"], option=orjson.OPT_SORT_KEYS),
            ): point
            for result in results
            for point in result["data_points"]
        }
        before, self._points, self._key = self._points, points, key
        intervals, self._intervals = self._intervals, [result["interval"] for result in results]
        if before is None and own == self._last:
            return []
        if (
            before is None
            or intervals != self._intervals
            or _are_gone(before.keys() - points.keys(), results)
        ):
            return [Change("snapshot", body, own)]
        changed = [
            point if len(results) == 1 else {"metric_name": place[0]} | point
            for place, point in points.items()
            if before.get(place) != point
        ]
        return [Change("points", orjson.dumps({"data_points": changed}), own)] if changed else []


def _are_gone(places: Set[_Place], results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of these places is gone though its time still belongs to the range, as one displaced from the top."""
    starts = {result["metric_name"]: datetime.fromisoformat(result["start_time"]) for result in results}
    return any(datetime.fromisoformat(at) >= starts[name] for name, at, _ in places)


@dataclass
class EventTail:
    """Events as they land, oldest first, up to the moment before which everything has landed.

    Attributes:
        database: read from.
        wanted: filters and fields; its range does not matter.
        position: behind which event to go on.
        landed_until: up to when events were told.
        most_seen: how many events one look may search.
    """

    database: Database
    wanted: EventList
    position: Row
    landed_until: datetime
    most_seen: int
    has_gap: bool = False
    """Whether some were left out before the position."""
    is_catching_up: bool = False
    """Whether its client has come back: it is told all that it has missed before what is new."""
    seconds: float = 0.0

    async def changes(self) -> Sequence[Change]:
        """See `Channel`."""
        horizon = await self._horizon()
        until = max(horizon.until, self.landed_until)
        filters = replace(self.wanted.filters, start=self.position.timestamp, end=until)
        if self.is_catching_up:
            missed = await self._missed(filters, until)
            if missed or self.is_catching_up:
                return missed
        newest = replace(
            self.wanted, filters=filters, order=Order.DESC, limit=_MOST_EVENTS, after=None, is_back=False
        )
        page = await read_page(self.database, newest, most_seen=self.most_seen, most_bytes=_MOST_BYTES)
        events = [event for event in reversed(page.events) if event.row > self.position]
        has_gap, self.has_gap, self.landed_until = page.has_more or self.has_gap, False, until
        if events:
            self.position = events[-1].row
        else:
            # Else what a rare filter looks through grows without end. What may land yet is looked for once more, but
            # not where it was just said that events are left out.
            seen = until if page.has_more else max(horizon.landed, until - _LONGEST_LOOK_BACK)
            self.position = max(self.position, Row(min(seen, until) - _LONGEST_WAY, UUID(int=0)))
            if not has_gap:
                return []
        return [self._change(events, until, has_gap=has_gap)]

    async def _missed(self, filters: Filters, until: datetime) -> list[Change]:
        """What comes next behind the position, oldest first."""
        oldest = replace(
            self.wanted,
            filters=filters,
            order=Order.ASC,
            limit=_MOST_AGAIN,
            after=self.position,
            is_back=False,
        )
        page = await read_page(self.database, oldest, most_seen=self.most_seen, most_bytes=_MOST_BYTES)
        self.is_catching_up = page.has_more
        found = []
        for number in range(0, len(page.events), _MOST_EVENTS):
            events = page.events[number : number + _MOST_EVENTS]
            self.position, self.landed_until = events[-1].row, until
            found.append(self._change(events, until, has_gap=self.has_gap))
            self.has_gap = False
        self.position = page.seen_until or self.position
        return found

    def _change(self, events: Sequence[Event], until: datetime, *, has_gap: bool) -> Change:
        content = {"events": json_rows(events, self.wanted.fields), "has_gap": has_gap}
        cursor = Cursor(self.position, self.position.timestamp, until).text()
        return Change("events", orjson.dumps(content, option=orjson.OPT_UTC_Z), cursor)

    async def _horizon(self) -> _Horizon:
        async with self.database.read("tail") as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(_LANDED_UNTIL)
            row = await cursor.fetchone()
        assert row is not None
        now: datetime
        landed: datetime
        now, landed = row
        # A source that stands still must not hold up all others.
        return _Horizon(max(landed, now - _LONGEST_WAIT), landed)


def tail_from(last_id: str, now: datetime) -> tuple[Row, bool]:
    """Where a tail begins, and whether events before that are left out: behind the client's last, or now.

    Raises:
        ValueError: the id is none of ours.
    """
    if not last_id:
        return Row(now, UUID(int=0)), False
    row = read_cursor(last_id).row
    oldest = now - _LONGEST_LOOK_BACK
    return (row, False) if row.timestamp >= oldest else (Row(oldest, UUID(int=0)), True)
