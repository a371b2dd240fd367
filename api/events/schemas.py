"""Questions and answers of `/api/v1/events`.

Belongs here: parameters, ranges, and the documented shapes. Does not belong here: SQL (`repository`),
what an event may be (`analytics_pipeline.events`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from analytics_pipeline.events.reach import EVERYTHING, Reach
from api.errors import Forbidden
from api.parameters import END_TIME, START_TIME, Query
from api.times import ceil_time, floor_time, format_time

STATS_PARAMETERS = (START_TIME, END_TIME)


@dataclass(frozen=True, slots=True)
class Tile:
    """Whole buckets of one level: `[start, end)`."""

    interval: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Statistics:
    """A range to count events in, to the microsecond."""

    start: datetime
    end: datetime
    reach: Reach = EVERYTHING

    @property
    def whole(self) -> tuple[datetime, datetime]:
        """The whole minutes of the range; empty (equal times) if it has none."""
        first, last = ceil_time(self.start, 60), floor_time(self.end, 60)
        return (first, last) if first < last else (self.start, self.start)

    @property
    def cuts(self) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime]]:
        """The cut minutes at both ends, to be counted from raw events."""
        first, last = self.whole
        if first == last:
            return (self.start, self.end), (self.end, self.end)
        return (self.start, first), (last, self.end)

    @property
    def canonical(self) -> str:
        """One text for every way to ask the same."""
        return f"stats\n{format_time(self.start)}\n{format_time(self.end)}"


def read_statistics(query_string: bytes, *, now: datetime, reach: Reach = EVERYTHING) -> Statistics:
    """Understand a query string, for who sees only `reach`.

    Raises:
        BadRequest: a parameter is malformed.
        Forbidden: events of a type are not counted by what may be seen.
    """
    if reach.dimensions:
        names = ", ".join(name for name, _ in reach.dimensions)
        raise Forbidden(
            f"Events of a type are counted together, not by {names}, by which the key sees them; ask for metrics that "
            "are kept by it, or for the events themselves."
        )
    return Statistics(*Query(query_string, STATS_PARAMETERS).range(now), reach)


_LEVELS = (("1d", 86_400), ("1h", 3_600), ("1m", 60))


def tiles(start: datetime, end: datetime, levels: tuple[tuple[str, int], ...] = _LEVELS) -> list[Tile]:
    """Whole minutes, as few buckets as possible: days where they are whole, hours and minutes at the ends."""
    if start >= end:
        return []
    (interval, seconds), *finer = levels
    first, last = ceil_time(start, seconds), floor_time(end, seconds)
    if first >= last:
        return tiles(start, end, tuple(finer)) if finer else []
    middle = [Tile(interval, first, last)]
    if not finer:
        return middle
    return tiles(start, first, tuple(finer)) + middle + tiles(last, end, tuple(finer))


class PostedEvent(BaseModel):
    """An event to track."""

    event_type: str = Field(min_length=1, max_length=255, examples=["order.placed"])
    id: UUID | None = Field(
        default=None, description="Made here if absent. Send it and `timestamp` to make retries safe."
    )
    user_id: str | None = Field(default=None, max_length=255, examples=["user123"])
    session_id: str | None = Field(default=None, max_length=255, examples=["session456"])
    properties: dict[str, Any] | None = Field(
        default=None, examples=[{"symbol": "BTCUSDT", "price": 50000, "quantity": 0.1}]
    )
    timestamp: datetime | None = Field(
        default=None, description="RFC 3339 with a zone; the arrival time if absent."
    )


class PostAnswer(BaseModel):
    """The event is durable."""

    success: bool = Field(examples=[True])
    event_id: UUID


class ItemResult(BaseModel):
    """The verdict on one item of a batch."""

    index: int = Field(description="Of the item in the body, from 0; blank lines of NDJSON are no items.")
    status: Literal[201, 400]
    event_id: UUID | None = Field(default=None, description="Of an accepted event.")
    reason: str | None = Field(
        default=None, description="Why it was refused; a reason code, as of dead letters."
    )
    path: str | None = Field(default=None, description="Where in the item.", examples=["$.timestamp"])
    detail: str | None = None


class BatchAnswer(BaseModel):
    """The accepted events are durable, all of them in one transaction."""

    success: bool = Field(description="Whether all items were accepted.")
    accepted: int
    rejected: int
    landing: str = Field(description="Landing token of the accepted events.")
    results: list[ItemResult] = Field(
        description="In the order of the items; with `Prefer: return=minimal` only the rejected ones."
    )


class StoredEvent(BaseModel):
    """An event as it is stored; `user_id` and `session_id` only where it has them. With `fields`, those alone."""

    id: UUID | None = None
    event_type: str | None = Field(default=None, examples=["order.placed"])
    user_id: str | None = Field(default=None, examples=["user123"])
    session_id: str | None = Field(default=None, examples=["session456"])
    properties: dict[str, Any] | None = None
    timestamp: datetime | None = None
    created_at: datetime | None = Field(default=None, description="When it landed.")


class EventsTotal(BaseModel):
    """How many events fit, whatever the page."""

    value: int = Field(examples=[12345])
    is_exact: bool = Field(description="False for the estimate of Postgres' statistics.")


class EventsAnswer(BaseModel):
    """Events, newest first unless `order` says otherwise."""

    events: list[StoredEvent]
    count: int = Field(description="How many are in this answer.", examples=[1])
    start_time: datetime
    end_time: datetime
    next_cursor: str | None = Field(
        default=None, description="Leads to the page behind this one, if there is one."
    )
    previous_cursor: str | None = Field(
        default=None, description="Leads to the page before this one, if there is one."
    )
    total: EventsTotal | None = Field(default=None, description="Only if `total` was asked for.")
    warnings: list[str] | None = None


class StatisticsAnswer(BaseModel):
    """Event counts of a range, to the microsecond."""

    start_time: datetime
    end_time: datetime
    total_events: int = Field(examples=[10000])
    by_type: dict[str, int] = Field(
        examples=[{"order.placed": 4500, "order.filled": 4200, "order.canceled": 300}]
    )


STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of events; with another `format`, all that fit.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.arrow.stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

EXAMPLE_EVENT = {
    "event_type": "order.placed",
    "user_id": "user123",
    "session_id": "session456",
    "properties": {"symbol": "BTCUSDT", "price": 50000, "quantity": 0.1},
    "timestamp": "2026-01-31T12:00:00Z",
}


HEADERS = (
    (
        "Idempotency-Key",
        "The request is stored once, however often it is sent, and its answer is repeated.",
    ),
    ("X-Client-Id", "Name of the sender, for the statistics of sources."),
    ("Prefer", "`return=minimal` leaves the accepted items out of a batch's results."),
)


def posting() -> dict[str, Any]:
    """`openapi_extra` of the route that posts: it reads its body itself."""
    event = PostedEvent.model_json_schema()
    example = EXAMPLE_EVENT
    return {
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in HEADERS
        ],
        "requestBody": {
            "required": True,
            "description": "May be compressed: `Content-Encoding: gzip`.",
            "content": {
                "application/json": {
                    "schema": {"oneOf": [event, {"type": "array", "items": event, "minItems": 1}]},
                    "example": example,
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
    }


def request_body(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself."""
    schema = model.model_json_schema()
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }
