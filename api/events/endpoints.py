"""`/api/v1/events`: track one event, list events, count them by type."""

from datetime import datetime

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.reach import Reach
from api.access import READ_PART, WRITE_PART
from api.cache import Answer, Question
from api.database import Database
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.events import schemas
from api.events.listing import PARAMETERS, Format, read_event_list
from api.events.reading import EventReader
from api.events.repository import COUNTED, count_events
from api.events.rows import media_type
from api.metrics.service import MetricService
from api.parameters import openapi_parameters
from api.patient_response import PatientResponse
from api.principal import principal_of, reach_of
from api.reads import answer_read
from api.times import days_of, format_time

router = APIRouter(tags=["Events"])
PATH = "/api/v1/events"
STATS_PATH = "/api/v1/events/stats"


@router.post(
    PATH,
    status_code=201,
    summary="Track an event, or several",
    response_model=schemas.PostAnswer | schemas.BatchAnswer,
    responses=errors(400, 403, 413, 415, 422, 429, 503)
    | {207: {"model": schemas.BatchAnswer, "description": "Some items were accepted, some were not."}},
    openapi_extra=schemas.posting(),
    dependencies=[WRITE_PART],
)
async def post_event(request: Request, services: ServicesDependency) -> Response:
    """Validated at once; 201 means that what was accepted is durable and will be counted within seconds.

    The header `X-Landing-Token` leads to what becomes of it.
    """
    reply = await services.poster.answer(dict(request.headers.raw), request.receive, principal_of(request))
    return Response(
        reply.body, reply.status, headers={name.decode(): value.decode() for name, value in reply.headers}
    )


@router.get(
    PATH,
    summary="List events",
    response_model=schemas.EventsAnswer,
    responses=errors(400, 429, 503) | schemas.STREAMS,
    openapi_extra=openapi_parameters(PARAMETERS),
    dependencies=[READ_PART],
)
async def get_events(request: Request, services: ServicesDependency) -> Response:
    """Stored events of `[start_time, end_time)`, newest first; a posted event appears when it has landed.

    Pages lead to each other by cursors and neither skip nor repeat an event while others arrive. Formats other than
    json stream everything that fits.
    """
    query = services.settings.analytics.query
    wanted = read_event_list(
        request.scope["query_string"],
        now=services.clock(),
        default_limit=query.default_limit,
        max_results=query.max_results,
        accept=request.headers.get("accept", ""),
        reach=reach_of(request),
    )
    reader = EventReader(services.database, query.max_scanned, services.versions)
    if wanted.format is not Format.JSON:
        return PatientResponse(
            reader.stream(wanted),
            media_type=media_type(wanted.format),
            patience=services.settings.server.write_timeout.total_seconds(),
        )
    return _json(await reader.page(wanted))


@router.get(
    STATS_PATH,
    summary="Count events by type",
    response_model=schemas.StatisticsAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(schemas.STATS_PARAMETERS),
    dependencies=[READ_PART],
)
async def get_statistics(request: Request, services: ServicesDependency) -> Response:
    """Exact for any range: whole minutes from rollups, cut minutes from events, in one snapshot."""
    return await answer_read(request, services.reads, STATS_PATH)


def statistics_question(
    query_string: bytes, now: datetime, reach: Reach, *, versions: MetricService
) -> Question:
    """The cacheable question behind a query string.

    Raises:
        Forbidden: counts cannot be cut down to `reach`.
        BadRequest: it makes no sense.
    """
    wanted = schemas.read_statistics(query_string, now=now, reach=reach)
    served = versions.of(COUNTED)

    async def ask(database: Database) -> Answer:
        counts = await count_events(database, wanted, served)
        content = {
            "start_time": format_time(wanted.start),
            "end_time": format_time(wanted.end),
            "total_events": sum(counts.values()),
            "by_type": counts,
        }
        body = orjson.dumps(content)
        return Answer(body, body)

    return Question(
        f"{wanted.canonical}\n{served}", *days_of(wanted.start, wanted.end), ask, wanted.end == now
    )


def _json(content: object) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), media_type=media_type(Format.JSON))
