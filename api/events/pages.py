"""Pages of events: one keyset query, or a bounded look through events where no index leads to them.

Belongs here: SQL of lists of events. Does not belong here: counts (`repository`), reading the query string (`listing`),
writing rows (`rows`).
"""

from contextlib import nullcontext
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.sql import SQL, Composable, Composed

from analytics_pipeline.events.times import MICROSECOND
from api.database import Reader
from api.events.cursors import Row
from api.events.listing import EventList, Filters, Order
from api.reach_sql import events_in

_PAGE = SQL("""
SELECT id, event_type, user_id, session_id, properties::text, timestamp, created_at
FROM events
WHERE {indexed}
ORDER BY {order}
LIMIT %(limit)s
""")
# A look-up by index for each value: one scan for all of them reads past everything else.
_PAGE_OF_TYPES = SQL("""
SELECT
    found.id, found.event_type, found.user_id, found.session_id, found.properties::text, found.timestamp,
    found.created_at
FROM unnest(%(types)s::text[]) AS wanted (event_type)
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE events.event_type = wanted.event_type AND {indexed}
    ORDER BY {order}
    LIMIT %(limit)s
) AS found
ORDER BY {order}
LIMIT %(limit)s
""")
# The inner LIMIT is the budget; the outer one ends the scan as soon as the page is full.
_SEARCH = SQL("""
SELECT id, event_type, user_id, session_id, properties::text, timestamp, created_at
FROM (SELECT * FROM events WHERE {indexed} ORDER BY {order} LIMIT %(most_seen)s) AS seen
WHERE {searched}
ORDER BY {order}
LIMIT %(limit)s
""")
_LAST_SEEN = SQL("""
SELECT timestamp, id FROM events WHERE {indexed} ORDER BY {order} OFFSET %(most_seen)s - 1 LIMIT 1
""")
# The first whose properties have so many bytes together.
_FITTING = SQL("""
SELECT id, event_type, user_id, session_id, properties, timestamp, created_at
FROM (
    SELECT *, sum(size) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS total
    FROM (SELECT *, coalesce(octet_length(properties), 0) AS size FROM ({page}) AS found) AS sized
) AS summed
WHERE total - size < %(most_bytes)s
ORDER BY {order}
""")
_INDEXED_BEFORE = SQL("""
SELECT least(greatest(indexed_before, %(start)s), %(end)s) FROM event_index_state
""")
_COUNT = SQL("SELECT count(*) FROM events WHERE {conditions}")
_DOWN: LiteralString = "timestamp DESC, id DESC"
_UP: LiteralString = "timestamp, id"
_OF_TYPE: LiteralString = "event_type = ANY(%(types)s::text[])"
_OF_PREFIX: LiteralString = (
    "EXISTS (SELECT FROM unnest(%(prefixes)s::text[]) AS wanted (prefix)"
    " WHERE starts_with(event_type, wanted.prefix))"
)
_OWNERS = {"user_id": SQL("user_id = %(user_id)s"), "session_id": SQL("session_id = %(session_id)s")}


class Event(NamedTuple):
    """A row of events; `properties` is JSON text."""

    id: UUID
    event_type: str
    user_id: str | None
    session_id: str | None
    properties: str | None
    timestamp: datetime
    created_at: datetime

    @property
    def row(self) -> Row:
        """Where it stands."""
        return Row(self.timestamp, self.id)


class Page(NamedTuple):
    """Events in the order asked for.

    `has_more` says that others may follow in the direction of the walk. `seen_until` is where a search ended that has
    used up its budget; None where everything was looked at, or the page is full.
    """

    events: list[Event]
    has_more: bool
    seen_until: Row | None = None


class _Span(NamedTuple):
    """Part of a range, and whether its days have the indexes by user and session."""

    start: datetime
    end: datetime
    has_owners: bool


class _Conditions:
    """What the statements of one span have in common.

    `indexed` are conditions that an index answers or that come with its order; `searched` look at each event.
    """

    def __init__(self, filters: Filters, span: _Span) -> None:
        self.parameters: dict[str, Any] = {"start": span.start, "end": span.end}
        self.indexed: list[Composable] = [SQL("timestamp >= %(start)s AND timestamp < %(end)s")]
        self.searched: list[Composable] = []
        if filters.id is not None:
            self.parameters["id"] = filters.id
            self.indexed.append(SQL("id = %(id)s"))
        self._add_types(filters)
        owners = self.indexed if span.has_owners else self.searched
        for column, value in filters.owners.items():
            self.parameters[column] = value
            owners.append(_OWNERS[column])
        self._add_reach(filters)
        self.searched += [one.condition(n, self.parameters) for n, one in enumerate(filters.properties)]

    def _add_types(self, filters: Filters) -> None:
        self.parameters |= {"types": list(filters.types), "prefixes": list(filters.type_prefixes)}
        if filters.type_prefixes:
            self.searched.append(SQL(f"({_OF_TYPE} OR {_OF_PREFIX})"))
        elif len(filters.types) == 1:
            self.parameters["event_type"] = filters.types[0]
            self.indexed.append(SQL("event_type = %(event_type)s"))
        elif filters.types:
            self.indexed.append(SQL(_OF_TYPE))

    def _add_reach(self, filters: Filters) -> None:
        if filters.reach.is_everything:
            return
        is_by_type = bool(filters.types) and not filters.type_prefixes  # all of them may be seen
        conditions, parameters = events_in(filters.reach, has_type=not is_by_type)
        self.searched += conditions
        self.parameters |= parameters

    def start_behind(self, row: Row, *, is_down: bool) -> None:
        """Leave out a row and everything before it in the direction of the walk."""
        self.parameters |= {"after_time": row.timestamp, "after_id": row.id}
        self.indexed.append(
            SQL("(timestamp, id) {} (%(after_time)s, %(after_id)s)").format(SQL("<" if is_down else ">"))
        )

    def all(self) -> Composed:
        """Every condition."""
        return SQL(" AND ").join([*self.indexed, *self.searched])


async def read_page(
    database: Reader, wanted: EventList, *, most_seen: int, most_bytes: int | None = None
) -> Page:
    """The next events behind `wanted.after`.

    Args:
        database: read from.
        wanted: what is asked for.
        most_seen: how many events a search without an index may look at.
        most_bytes: the page ends with the event whose properties, with those before, make so many; None: never.

    Raises:
        Unavailable: Postgres is down or busy, or the query took too long.
    """
    is_down = (wanted.order is Order.DESC) is not wanted.is_back
    found: list[Event] = []
    seen_until, bytes_left = None, most_bytes
    async with (
        database.read("events") as connection,
        # Where one statement says what the next one begins from, both have to see the same events.
        connection.transaction() if _takes_several(wanted.filters) else nullcontext(),
        connection.cursor(binary=True) as cursor,
    ):
        for span in await _spans(cursor, wanted, is_down=is_down):
            conditions = _Conditions(wanted.filters, span)
            if wanted.after is not None:
                conditions.start_behind(wanted.after, is_down=is_down)
            left = wanted.limit + 1 - len(found)
            parameters = conditions.parameters | {
                "limit": left, "most_seen": most_seen, "most_bytes": bytes_left
            }  # fmt: skip
            parts = {
                "indexed": SQL(" AND ").join(conditions.indexed),
                "order": SQL(_DOWN if is_down else _UP),
            }
            statement = _statement(wanted.filters, conditions, parts)
            if bytes_left is not None:
                statement = _FITTING.format(page=statement, order=parts["order"])
            await cursor.execute(statement, parameters)
            events = [Event(*row) for row in await cursor.fetchall()]
            found += events
            if bytes_left is not None:
                bytes_left -= sum(len((event.properties or "").encode()) for event in events)
            if len(found) > wanted.limit or _is_full(bytes_left):
                break
            if conditions.searched:
                await cursor.execute(_LAST_SEEN.format(**parts), parameters)
                row = await cursor.fetchone()
                if row is not None:
                    seen_until = Row(*row)
                    break
    has_more = len(found) > wanted.limit or seen_until is not None or _is_full(bytes_left)
    events = found[: wanted.limit]
    return Page(events[::-1] if wanted.is_back else events, has_more, seen_until)


def _is_full(bytes_left: int | None) -> bool:
    """Whether a page ends here for its size: others may follow."""
    return bytes_left is not None and bytes_left <= 0


def _takes_several(filters: Filters) -> bool:
    """Whether a page takes more than one statement; one alone is spared the round trips of a transaction."""
    is_searched = filters.type_prefixes or filters.properties or not filters.reach.is_everything
    return bool(filters.owners or is_searched)


async def _spans(cursor: AsyncCursor[Any], wanted: EventList, *, is_down: bool) -> list[_Span]:
    """The range behind `wanted.after`, cut where days without the indexes by user and session begin."""
    start, end, after = wanted.filters.start, wanted.filters.end, wanted.after
    if after is not None:
        # The bound on the time alone leaves out partitions, which a comparison of rows does not.
        if is_down:
            end = min(end, after.timestamp + MICROSECOND)
        else:
            start = max(start, after.timestamp)
    if not wanted.filters.owners:
        return [_Span(start, end, has_owners=False)]
    await cursor.execute(_INDEXED_BEFORE, {"start": start, "end": end})
    row = await cursor.fetchone()
    border = row[0] if row else start
    spans = [_Span(start, border, has_owners=True), _Span(border, end, has_owners=False)]
    return [span for span in (spans[::-1] if is_down else spans) if span.start < span.end]


async def count_matching(database: Reader, filters: Filters) -> int:
    """How many events fit, counted one by one.

    Raises:
        Unavailable: Postgres is down or busy, or counting took too long.
    """
    conditions = _Conditions(filters, _Span(filters.start, filters.end, has_owners=False))
    async with database.read("events-total") as connection, connection.cursor(binary=True) as cursor:
        await cursor.execute(_COUNT.format(conditions=conditions.all()), conditions.parameters)
        row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def estimate_matching(database: Reader, filters: Filters) -> int:
    """How many events fit by the planner's statistics, without looking at any of them."""
    conditions = _Conditions(filters, _Span(filters.start, filters.end, has_owners=False))
    statement = SQL("EXPLAIN (FORMAT JSON) SELECT FROM events WHERE {}").format(conditions.all())
    async with database.read("events-total") as connection, connection.cursor() as cursor:
        await cursor.execute(statement, conditions.parameters)
        row = await cursor.fetchone()
    return int(row[0][0]["Plan"]["Plan Rows"]) if row else 0


def _statement(filters: Filters, conditions: _Conditions, parts: dict[str, Composable]) -> Composed:
    if conditions.searched:
        return _SEARCH.format(searched=SQL(" AND ").join(conditions.searched), **parts)
    if len(filters.types) > 1:
        return _PAGE_OF_TYPES.format(**parts)
    return _PAGE.format(**parts)
