"""`/api/v1/sources`: what each producer of each topic sends, how late, and what becomes of it."""

from dataclasses import asdict
from datetime import datetime, timedelta

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from analytics_pipeline.storage.source_statistics import read
from api.access import READ
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import invalid_parameter
from api.operations.ledger_schemas import SOURCE
from api.parameters import END_TIME, START_TIME, Parameter, Query, openapi_parameters
from api.times import floor_time, format_time

router = APIRouter(tags=["Operations"])
PATH = "/api/v1/sources"
PRODUCER = Parameter("producer", "Of this producer alone, as it names itself.", "order-execution")
PARAMETERS = (START_TIME, END_TIME, SOURCE, PRODUCER)

MOST_DAYS = 31


class SourceAnswer(BaseModel):
    """What one producer of one source sent; null where nothing is known."""

    source: str = Field(description="The topic, or `http`.", examples=["order.events"])
    producer: str | None = Field(
        description="As it names itself; null without a name, `__other__` beyond 200 names a day.",
        examples=["order-execution"],
    )
    first_at: datetime = Field(description="When the first of its messages landed.")
    last_at: datetime = Field(description="When the last of them landed.")
    read: int = Field(examples=[360000])
    stored: int = Field(examples=[359950])
    duplicate: int = Field(examples=[40])
    dead: int = Field(examples=[10])
    rate: float = Field(description="Messages a second, over the range.", examples=[100.0])
    lateness_p50_ms: float | None = Field(
        description="Event time to the message's own time, median.", examples=[3.2]
    )
    lateness_p99_ms: float | None = Field(examples=[48.0])
    ahead_p99_ms: float | None = Field(
        description="Clock skew: how far events are ahead of their message's time.", examples=[0.0]
    )
    ahead_max_ms: float = Field(examples=[12.5])
    reasons: dict[str, int] = Field(
        description="Dead letters by reason code.", examples=[{"bad_user_id": 10}]
    )


class SourcesAnswer(BaseModel):
    """By source, the busiest producer first."""

    start_time: datetime = Field(description="Statistics are kept by the hour: the start of the first one.")
    end_time: datetime
    sources: list[SourceAnswer]


@router.get(
    PATH,
    summary="Show what each producer sends",
    response_model=SourcesAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[READ],
)
async def get_sources(request: Request, services: ServicesDependency) -> Response:
    """Rate, lateness, clock skew, duplicates and dead letters, true to the last landing. Ranges of 31 days at most.

    Whole hours by when messages landed, the last one up to `end_time`. The same as `analytics sources`.
    """
    query = Query(request.scope["query_string"], PARAMETERS)
    start, end = query.range(services.clock())
    if end - start > timedelta(days=MOST_DAYS):
        raise invalid_parameter("start_time", f"is more than {MOST_DAYS} days before end_time")
    source, producer = query.text(SOURCE, limit=255), query.text(PRODUCER, limit=255)
    found = await services.desk.read(
        "sources", lambda opened: read(opened, since=start, until=end, source=source, producer=producer)
    )
    content = {
        "start_time": format_time(floor_time(start, 3_600)),
        "end_time": format_time(end),
        "sources": [asdict(one) for one in found],
    }
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), media_type="application/json")
