"""`/api/v1/audit`: which key wrote what."""

from datetime import datetime

import orjson
from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row
from pydantic import BaseModel, Field

from analytics_pipeline.storage import audit_log
from api.access import ADMIN
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.parameters import END_TIME, START_TIME, Parameter, Query, openapi_parameters

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/audit"

KEY_ID = Parameter("key_id", "Only what was written with this key.", "4f1c20b7a9de")
BEFORE = Parameter(
    "before", "Only lines older than this id, for the next page.", 1000, (("type", "integer"), ("minimum", 1))
)
LIMIT = Parameter("limit", "Most lines to return. Default 100.", 100, (("type", "integer"), ("minimum", 1)))
PARAMETERS = (START_TIME, END_TIME, KEY_ID, BEFORE, LIMIT)

_NEWEST = 2**39


class LineAnswer(BaseModel):
    """A request that wrote, or several alike."""

    id: int
    at: datetime
    key_id: str | None = Field(description="Null: anonymous, or no key that holds.")
    method: str = Field(description="`CLI` for a command of `analytics keys`.", examples=["POST"])
    route: str = Field(examples=["/api/v1/custom-events"])
    status: int = Field(examples=[201])
    request_id: str = Field(description="Of the first of them.")
    subject: str | None = Field(description="What it was about.", examples=["custom.trading.signal"])
    requests: int = Field(
        description="Posted events, and refused requests, of a second share a line.", examples=[1]
    )


class AuditAnswer(BaseModel):
    """Lines, newest first."""

    lines: list[LineAnswer]


@router.get(
    PATH,
    summary="Read the audit log",
    response_model=AuditAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[ADMIN],
)
async def get_audit(request: Request, services: ServicesDependency) -> Response:
    """Requests that write, of `[start_time, end_time)`, refused ones too; never what they said."""
    settings = services.settings.analytics.query
    query = Query(request.scope["query_string"], PARAMETERS)
    start, end = query.range(services.clock())
    values = {
        "start": start,
        "end": end,
        "key_id": query.text(KEY_ID),
        "before": query.number(BEFORE, default=_NEWEST, low=1, high=_NEWEST),
        "limit": query.number(LIMIT, default=settings.default_limit, low=1, high=settings.max_results),
    }
    async with (
        services.database.read("audit") as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        await cursor.execute(audit_log.READ, values)
        lines = await cursor.fetchall()
    body = orjson.dumps({"lines": lines}, option=orjson.OPT_UTC_Z)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
