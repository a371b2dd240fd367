"""What a list of events is asked for: range, filters, page, shape.

Belongs here: reading the query string. Does not belong here: SQL (`pages`), writing rows (`rows`), documented shapes of
answers (`schemas`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.reach import EVERYTHING, Reach
from api.cursors import check_mark, range_of
from api.errors import Forbidden, invalid_parameter
from api.events.cursors import Cursor, Row, read_cursor
from api.events.formats import Format, accepted
from api.events.identity import range_near, read_id
from api.events.property_filters import Operator, PropertyFilter, read_filter
from api.opaque import mark_of
from api.parameters import AFTER, END_TIME, START_TIME, Parameter, Query

COLUMNS = ("id", "event_type", "user_id", "session_id", "properties", "timestamp", "created_at")
_PROPERTY = "properties."
_MOST_TEXT = 255
_MOST_TYPES = 20
_MOST_FILTERS = 10
_MOST_FIELDS = 50


class Order(StrEnum):
    """By (timestamp, id)."""

    DESC = "desc"
    ASC = "asc"


class Total(StrEnum):
    """How matching events are counted."""

    ESTIMATED = "estimated"
    EXACT = "exact"


EVENT_TYPE = Parameter(
    "event_type",
    "Only events of this type; given several times, of any of them. `order.*` stands for all that begin with `order.`.",
    "order.placed",
    repeats=True,
)
USER = Parameter("user_id", "Only events of this user.", "user123")
SESSION = Parameter("session_id", "Only events of this session.", "session456")
ID = Parameter(
    "id",
    "Only the event of this id. Ids made here and UUIDs of version 7 hold the time near which they are looked for; "
    "others need `start_time` and `end_time`.",
    "0197f2f0-6c5c-7d3e-8a4b-1c2d3e4f5a6b",
    (("type", "string"), ("format", "uuid")),
)
PROPERTY = Parameter(
    "property",
    "Only events whose property fits, written `name:operator:value`; several must all fit. Operators: "
    + ", ".join(Operator)
    + ". Numbers, true, false and null are what JSON says, anything else is text; a text that looks like a number is "
    'written in quotes: `"5"`. `in` takes values with commas between.',
    "price:gte:50000",
    repeats=True,
)
ORDER = Parameter(
    "order", "By time: desc (default) or asc.", "desc", (("type", "string"), ("enum", list(Order)))
)
LIMIT = Parameter(
    "limit",
    "Most events of a page. Default 100. A page of large events ends earlier.",
    100,
    (("type", "integer"), ("minimum", 1)),
)
CURSOR = Parameter("cursor", "`next_cursor` or `previous_cursor` of another page of the same question.")
FIELDS = Parameter(
    "fields",
    "Only these fields, commas between: " + ", ".join(COLUMNS) + ", or one property as `properties.<name>`.",
    "timestamp,properties.symbol,properties.price",
)
TOTAL = Parameter(
    "total",
    "Also count all events that fit: estimated (cheap) or exact.",
    "estimated",
    (("type", "string"), ("enum", list(Total))),
)
FORMAT = Parameter(
    "format",
    "json (default), or a stream of all events that fit, without pages: ndjson, csv or arrow (IPC stream). "
    "An Accept header says the same.",
    "json",
    (("type", "string"), ("enum", list(Format))),
)
PARAMETERS = (
    START_TIME, END_TIME, EVENT_TYPE, USER, SESSION, ID, PROPERTY, ORDER, LIMIT, CURSOR, FIELDS, TOTAL, FORMAT,
)  # fmt: skip


class Field(NamedTuple):
    """One field of an answer: a column, or one property of `properties`."""

    name: str
    property_name: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events: all conditions must hold; of the types, any."""

    start: datetime
    end: datetime
    types: tuple[str, ...] = ()
    type_prefixes: tuple[str, ...] = ()
    user_id: str | None = None
    session_id: str | None = None
    id: UUID | None = None
    properties: tuple[PropertyFilter, ...] = ()
    reach: Reach = EVERYTHING
    """What may be seen."""

    @property
    def owners(self) -> dict[str, str]:
        """User and session asked for, by column."""
        asked = {"user_id": self.user_id, "session_id": self.session_id}
        return {column: value for column, value in asked.items() if value is not None}

    @property
    def has_every_type(self) -> bool:
        """Whether no type is left out."""
        return not self.types and not self.type_prefixes and self.reach.event_types is None

    def has_type(self, event_type: str) -> bool:
        """Whether events of this type may be among them, prefixes aside."""
        return (not self.types or event_type in self.types) and self.reach.has_type(event_type)

    @property
    def is_counted_by_rollups(self) -> bool:
        """Whether the counts by type tell how many there are."""
        return not (self.type_prefixes or self.owners or self.id or self.properties or self.reach.dimensions)


@dataclass(frozen=True, slots=True)
class EventList:
    """One page of events, or a stream of them."""

    filters: Filters
    limit: int
    order: Order = Order.DESC
    after: Row | None = None
    """The page begins behind this row."""
    is_back: bool = False
    """Behind is against the order."""
    fields: tuple[Field, ...] = ()
    """Empty for all columns as the original has them."""
    total: Total | None = None
    format: Format = Format.JSON
    mark: bytes | None = None
    """Of what its cursors belong to."""

    @property
    def beginning(self) -> Row:
        """A place before the first event, in the order asked for."""
        if self.order is Order.DESC:
            return Row(self.filters.end, UUID(int=0))
        return Row(self.filters.start, UUID(int=0))

    def cursor(self, row: Row, *, is_back: bool) -> str:
        """The text that continues this list behind a row."""
        return Cursor(row, self.filters.start, self.filters.end, is_back, self.mark).text()


def read_event_list(
    query_string: bytes,
    *,
    now: datetime,
    default_limit: int,
    max_results: int,
    accept: str = "",
    reach: Reach = EVERYTHING,
) -> EventList:
    """Understand a query string, for who sees only `reach`.

    Raises:
        BadRequest: a parameter is malformed, or does not go with another.
        Forbidden: none of the events of a type may be seen.
    """
    query = Query(query_string, (*PARAMETERS, AFTER))
    form = Format(query.choice(FORMAT, list(Format)) or accepted(accept))
    limit = query.number(LIMIT, default=default_limit, low=1, high=max_results)
    cursor = _cursor(query)
    identity = _id(query)
    start, end = _range(query, now, cursor, identity)
    types = _types(query, reach)
    order = Order(query.choice(ORDER, list(Order)) or Order.DESC)
    filters = Filters(
        start,
        end,
        tuple(name for name in types if not name.endswith("*")),
        tuple(name[:-1] for name in types if name.endswith("*")),
        query.text(USER, limit=_MOST_TEXT),
        query.text(SESSION, limit=_MOST_TEXT),
        identity,
        tuple(_filter(text) for text in query.texts(PROPERTY, most=_MOST_FILTERS)),
        reach,
    )
    question = (
        sorted(query.texts(EVENT_TYPE, most=_MOST_TYPES, limit=_MOST_TEXT)),
        *(filters.user_id, filters.session_id, filters.id, sorted(map(repr, filters.properties)), order),
    )  # not what the key sees: it may change during a walk
    if cursor is not None:
        check_mark(cursor.mark, *question)
    total = query.choice(TOTAL, list(Total))
    if form is not Format.JSON:
        for parameter, is_given in ((CURSOR, cursor is not None), (TOTAL, total is not None)):
            if is_given:
                raise invalid_parameter(parameter.name, "goes with format=json alone: a stream has no pages")
    return EventList(
        filters,
        limit,
        order,
        None if cursor is None else cursor.row,
        cursor is not None and cursor.is_back,
        _fields(query),
        None if total is None else Total(total),
        form,
        mark_of(*question),
    )


def _range(
    query: Query, now: datetime, cursor: Cursor | None, identity: UUID | None
) -> tuple[datetime, datetime]:
    """That of the cursor; else the range asked for, else what the id says."""
    if cursor is not None:
        return range_of(query, cursor.start, cursor.end)
    is_given = query.time(START_TIME) is not None or query.time(END_TIME) is not None
    if not is_given and identity is not None:
        near = range_near(identity)
        if near is None:
            raise invalid_parameter("id", "does not hold a time: start_time and end_time are needed as well")
        return near
    return query.range(now)


def _types(query: Query, reach: Reach) -> Sequence[str]:
    """The types asked for; of who asks for none the types that may be seen, where an index leads to each."""
    types = query.texts(EVENT_TYPE, most=_MOST_TYPES, limit=_MOST_TEXT)
    if not all(name.endswith("*") or reach.has_type(name) for name in types):
        raise Forbidden("The key does not see events of this type.")
    return types or (() if reach.prefixes else reach.names)


def _cursor(query: Query) -> Cursor | None:
    text = query.text(CURSOR)
    try:
        return None if text is None else read_cursor(text)
    except ValueError as error:
        raise invalid_parameter(CURSOR.name, str(error)) from None


def _id(query: Query) -> UUID | None:
    text = query.text(ID)
    return None if text is None else read_id(text)


def _filter(text: str) -> PropertyFilter:
    try:
        return read_filter(text)
    except ValueError as error:
        raise invalid_parameter(PROPERTY.name, str(error)) from None


def _fields(query: Query) -> tuple[Field, ...]:
    text = query.text(FIELDS, limit=4096)
    if text is None:
        return ()
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if len(names) > _MOST_FIELDS:
        raise invalid_parameter(FIELDS.name, f"names more than {_MOST_FIELDS} fields")
    found = []
    for name in names:
        is_property = name.startswith(_PROPERTY) and len(name) > len(_PROPERTY)
        if not is_property and name not in COLUMNS:
            raise invalid_parameter(
                FIELDS.name, f"each is one of {', '.join(COLUMNS)}, or properties.<name> for one property"
            )
        found.append(Field(name, name.removeprefix(_PROPERTY) if is_property else None))
    return tuple(found)
