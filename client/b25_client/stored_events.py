"""Stored events: what can be asked, events and pages of them, and counts.

Belongs here: parameters and answers of `GET /api/v1/events` and below. Does not belong here: events to send (`events`),
sending requests (`transport`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from b25_client.errors import ScanBudgetExceeded, StreamBroken
from b25_client.filters import Filter
from b25_client.request import Answer, Request, path_of, read_time, write_parameters

PATH = "/api/v1/events"
STATS_PATH = "/api/v1/events/stats"

_JOINED = frozenset({"fields"})
_PROPERTY = "properties."

Format = Literal["ndjson", "csv", "arrow"]


class EventsFilter(TypedDict, total=False):
    """Keyword arguments that say which events, and which of their fields; see docs/reading-events.md.

    Several values of `event_type` mean any of them, several of `property` all of them.
    """

    event_type: str | Sequence[str]
    user_id: str
    session_id: str
    property: Filter | str | Sequence[Filter | str]
    fields: str | Sequence[str]


class EventsQuery(EventsFilter, total=False):
    """The same within a range, `[start_time, end_time)`, default the last 24 hours; `order` is desc or asc.

    `after` is a landing token of posted events, or `topic:partition:offset`: the answer comes when that has landed.
    """

    start_time: datetime | str
    end_time: datetime | str
    id: UUID | str
    order: Literal["desc", "asc"]
    after: str


class EventPagesQuery(EventsQuery, total=False):
    """The same in pages of `limit` events, from `cursor` on; `total` also counts all events that fit."""

    limit: int
    cursor: str
    total: Literal["exact", "estimated"]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event; with `fields`, what was not asked for is None.

    Attributes:
        properties: empty if the event has none.
        created_at: when it landed.
        values: the single properties asked for by `fields=["properties.symbol"]`, by their names.
    """

    id: UUID | None
    event_type: str | None
    timestamp: datetime | None
    user_id: str | None = None
    session_id: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventsPage:
    """One page, in the order asked for.

    Attributes:
        next_cursor: leads to the page behind this one, if there is one.
        previous_cursor: leads to the page before this one, if there is one.
        total: how many events fit, whatever the page; only if `total` was asked for.
        is_total_exact: whether it was counted, not estimated.
        warnings: such as that a search ended early, within its budget.
    """

    events: tuple[StoredEvent, ...]
    start_time: datetime | None = None
    end_time: datetime | None = None
    next_cursor: str | None = None
    previous_cursor: str | None = None
    total: int | None = None
    is_total_exact: bool = False
    warnings: tuple[str, ...] = ()


class SingleQuery(TypedDict, total=False):
    """What helps to find one event, and what to wait for before it is looked for."""

    timestamp: datetime | str
    after: str


class StatisticsQuery(TypedDict, total=False):
    """Keyword arguments of counts: the range, `interval` for counts per bucket, and `after` as of `EventsQuery`."""

    start_time: datetime | str
    end_time: datetime | str
    interval: str
    after: str


@dataclass(frozen=True, slots=True)
class EventCounts:
    """How many events of each type there are in one bucket, `timestamp` its start."""

    timestamp: datetime
    total_events: int
    by_type: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EventStatistics:
    """How many events of each type there are in a range.

    Attributes:
        by_type: the most frequent first.
        buckets: with `interval`, the same for each bucket in which something happened, oldest first.
    """

    start_time: datetime
    end_time: datetime
    total_events: int
    by_type: Mapping[str, int]
    buckets: tuple[EventCounts, ...] = ()


def page_request(asked: Mapping[str, Any]) -> Request[EventsPage]:
    """Ask for a page.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    return Request(PATH, _read_page, write_parameters(asked, EventPagesQuery, joined=_JOINED))


def request_behind(
    page: EventsPage | ScanBudgetExceeded, asked: Mapping[str, Any], *, is_back: bool
) -> Request[EventsPage] | None:
    """Ask for the page that follows one, or a search that found nothing within its budget; None behind the last."""
    cursor = page.previous_cursor if is_back else page.next_cursor
    if cursor is None:
        return None
    return page_request(
        {name: value for name, value in asked.items() if name not in {"total", "after"}} | {"cursor": cursor}
    )


def export_request(asked: Mapping[str, Any], form: Format) -> Request[None]:
    """Ask for all events that fit, as a stream."""
    parameters = [*write_parameters(asked, EventsQuery, joined=_JOINED), ("format", form)]
    return Request(PATH, lambda _: None, parameters)


def statistics_request(asked: Mapping[str, Any]) -> Request[EventStatistics]:
    """Ask for counts by type."""
    return Request(STATS_PATH, _read_statistics, write_parameters(asked, StatisticsQuery))


def event_request(
    id: UUID | str, timestamp: datetime | str | None, after: str | None
) -> Request[StoredEvent]:
    """Ask for one event."""
    path = path_of("api", "v1", "events", str(id))
    at = write_parameters({"timestamp": timestamp, "after": after}, SingleQuery)
    return Request(path, lambda answer: event_of(answer.json()), at)


class EventsDecoder:
    """Events of an NDJSON stream that comes in pieces of any size; holds one piece and one line at a time."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """The beginning of a line."""

    def feed(self, piece: bytes) -> Iterator[StoredEvent]:
        """The events that are whole now."""
        first, *more = piece.split(b"\n")
        self._rest.append(first)
        for begun in more:
            line = b"".join(self._rest)
            self._rest = [begun]
            try:
                event = event_of(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise StreamBroken("a line that is no event") from error
            yield event

    def end(self) -> Iterator[StoredEvent]:
        """Nothing more comes.

        Raises:
            StreamBroken: in the middle of a line.
        """
        if any(self._rest):
            raise StreamBroken("the last line has no end: the stream is not whole")
        return iter(())


class BytesDecoder:
    """A stream as it is."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The same."""
        yield piece

    def end(self) -> Iterator[bytes]:
        """Nothing more comes."""
        return iter(())


def event_of(content: Mapping[str, Any]) -> StoredEvent:
    """An event, as answers and streams have it."""
    identity = content.get("id")
    return StoredEvent(
        None if identity is None else UUID(identity),
        content.get("event_type"),
        _time(content.get("timestamp")),
        content.get("user_id"),
        content.get("session_id"),
        content.get("properties") or {},
        _time(content.get("created_at")),
        {
            name.removeprefix(_PROPERTY): value
            for name, value in content.items()
            if name.startswith(_PROPERTY)
        },
    )


def _read_page(answer: Answer) -> EventsPage:
    content = answer.json()
    total = content.get("total") or {}
    return EventsPage(
        tuple(event_of(item) for item in content["events"]),
        read_time(content["start_time"]),
        read_time(content["end_time"]),
        content.get("next_cursor"),
        content.get("previous_cursor"),
        total.get("value"),
        total.get("is_exact") is True,
        tuple(content.get("warnings") or ()),
    )


def _read_statistics(answer: Answer) -> EventStatistics:
    content = answer.json()
    return EventStatistics(
        read_time(content["start_time"]),
        read_time(content["end_time"]),
        content["total_events"],
        content["by_type"],
        tuple(
            EventCounts(read_time(one["timestamp"]), one["total_events"], one["by_type"])
            for one in content.get("buckets") or ()
        ),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else read_time(text)
