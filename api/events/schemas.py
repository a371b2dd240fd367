"""Answers of `/api/v1/events`, and bodies, as they are documented.

Belongs here: shapes and examples. Does not belong here: parameters (`listing`, `statistics`), SQL (`repository`),
what an event may be (`analytics_pipeline.events`).
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field


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


class StatisticsBucket(BaseModel):
    """The events of one bucket that lie in the range."""

    timestamp: datetime = Field(description="Start of the bucket, UTC.", examples=["2026-01-31T12:00:00Z"])
    total_events: int = Field(examples=[420])
    by_type: dict[str, int] = Field(examples=[{"order.placed": 220, "order.filled": 200}])


class StatisticsAnswer(BaseModel):
    """Event counts of a range, to the microsecond."""

    start_time: datetime
    end_time: datetime
    total_events: int = Field(examples=[10000])
    by_type: dict[str, int] = Field(
        description="The most frequent first.",
        examples=[{"order.placed": 4500, "order.filled": 4200, "order.canceled": 300}],
    )
    interval: str | None = Field(default=None, description="Only if it was asked for.", examples=["1h"])
    buckets: list[StatisticsBucket] | None = Field(
        default=None,
        description="Only with `interval`: oldest first, those without events left out. The first and the last hold "
        "only what lies in the range, so that all of them add up to the totals.",
    )
    warnings: list[str] | None = Field(default=None, description="Only when there is something to say.")


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
        "7f3c2a10-fills-0412",
        "The request is stored once, however often it is sent, and its answer is repeated.",
    ),
    ("X-Client-Id", "order-gateway-2", "Name of the sender, for the statistics of sources."),
    ("Prefer", "return=minimal", "`return=minimal` leaves the accepted items out of a batch's results."),
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
                "example": example,
            }
            for name, example, text in HEADERS
        ],
        "requestBody": {
            "required": True,
            "description": "May be compressed: `Content-Encoding: gzip`.",
            "content": {
                "application/json": {
                    "schema": {"oneOf": [event, {"type": "array", "items": event, "minItems": 1}]},
                    "example": example,
                },
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"event_type":"page.view","user_id":"u1"}\n{"event_type":"user.logout"}',
                },
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
