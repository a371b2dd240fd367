"""`/api/v1/retention/plan`: what retention would remove, when, how large, and what is in its way."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from analytics_pipeline.retention.plan import Kind
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.expired_rows import preview_expired_rows
from analytics_pipeline.storage.expiring import outlook
from analytics_pipeline.storage.forgotten_rows import preview_forgotten_rows
from api.access import READ
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import invalid_parameter
from api.json_answer import json_answer
from api.operations.ledger_schemas import read_flag
from api.parameters import Parameter, Query, openapi_parameters
from api.times import format_time

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/retention/plan"

AT = Parameter(
    "at",
    "The time of the run that is planned: RFC 3339 with a zone, not before now. Default: now.",
    "2100-01-01T00:00:00Z",
    (("type", "string"), ("format", "date-time")),
)
ROWS = Parameter(
    "rows",
    "`true`: also count rows of tables without partitions, which takes longer; goes without `at`.",
    "true",
    schema=(("type", "string"), ("enum", ["true", "false"])),
)
PARAMETERS = (AT, ROWS)


class ExpiringAnswer(BaseModel):
    """A partition that would go."""

    partition: str = Field(examples=["events_p20260101"])
    parent: str = Field(description="Its table.", examples=["events"])
    kind: Kind = Field(
        description="raw events, rollup or mart: what must be true before it goes.", examples=["raw"]
    )
    lower: datetime = Field(description="Start of its time.")
    upper: datetime = Field(description="End of its time.")
    due_at: datetime = Field(description="From then on a run removes it.")
    bytes: int | None = Field(description="With indexes; null when unknown.", examples=[455081984])
    is_archived_first: bool = Field(examples=[True])
    step: str | None = Field(description="The last one that an interrupted run has done.", examples=[None])
    pending_hours: int = Field(description="Hours whose deltas the run merges first.", examples=[0])
    blocked_by: list[str] = Field(description="What would make a run skip it at this moment.", examples=[[]])


class ExpiredRowsAnswer(BaseModel):
    """Rows of tables without partitions that would go."""

    dead_letter_contents: int = Field(
        description="Settled letters whose bytes would be erased.", examples=[0]
    )
    ledger_lines: int = Field(examples=[12000])
    dead_letters: int = Field(description="That would go with their lines.", examples=[31])
    held: list[str] = Field(
        description="Partitions of topics with a line that is old enough and has to stay, as one with an open letter.",
        examples=[["order.events/2"]],
    )
    restatements: int = Field(examples=[0])
    backfill_progress: int = Field(description="Hours of backfills that were given up.", examples=[0])


class PlanAnswer(BaseModel):
    """What a run would do; nothing is changed."""

    at: datetime = Field(description="The time of that run.")
    raw_floor: datetime = Field(description="Where the raw floor would stand: older events are refused.")
    bytes: int = Field(description="Of all partitions that would go.", examples=[910163968])
    count: int = Field(description="How many would go.", examples=[2])
    blocked_by: list[str] = Field(
        description="What would keep a run from doing anything at this moment.",
        examples=[["analytics.retention.cleanup_enabled is false"]],
    )
    partitions: list[ExpiringAnswer] = Field(description="In the order in which they would go.")
    rows: ExpiredRowsAnswer | None = Field(default=None, description="Only with `rows=true`.")


@router.get(
    PATH,
    summary="Show what retention would remove",
    response_model=PlanAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[READ],
)
async def get_retention_plan(request: Request, services: ServicesDependency) -> Response:
    """A dry run by the settings of this process; nothing is changed, and nobody waits for it."""
    query, now = Query(request.scope["query_string"], PARAMETERS), services.clock()
    at = query.time(AT) or now
    if at < now:
        raise invalid_parameter(AT.name, "is before now: what was due then is due now, too")
    has_rows = read_flag(query, ROWS)
    if has_rows and at > now:
        raise invalid_parameter(ROWS.name, "goes without at: rows are counted for a run that begins now")
    settings = services.settings.analytics.retention
    content = await services.desk.read(
        "retention", lambda opened: _plan(opened, settings, at, has_rows=has_rows)
    )
    return json_answer(content)


def _plan(connection: Connection, settings: Retention, at: datetime, *, has_rows: bool) -> dict[str, Any]:
    found = outlook(connection, settings, at=at)
    content: dict[str, Any] = {
        "at": format_time(at),
        "raw_floor": found.floor,
        "bytes": sum(each.bytes or 0 for each in found.partitions),
        "count": len(found.partitions),
        "blocked_by": found.blocked_by,
        "partitions": [asdict(each) for each in found.partitions],
    }
    if has_rows:
        rows = preview_expired_rows(connection, settings, now=at)
        forgotten = preview_forgotten_rows(connection, settings, now=at)
        content["rows"] = {
            "dead_letter_contents": rows.contents_erased,
            "ledger_lines": rows.ledger_lines,
            "dead_letters": rows.dead_letters,
            "held": rows.held,
            "restatements": forgotten.restatements,
            "backfill_progress": forgotten.backfill_progress,
        }
    return content
