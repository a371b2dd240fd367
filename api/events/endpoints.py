"""`/api/v1/events`: track one event, list events, count them by type."""

from datetime import UTC, datetime

import orjson
from fastapi import APIRouter, Request, Response

from api.cache import Answer, Question
from api.database import Database
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.events import schemas
from api.events.repository import Event, count_events, list_events
from api.parameters import openapi_parameters
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
)
async def post_event(request: Request, services: ServicesDependency) -> Response:
    """Validated at once; 201 means that what was accepted is durable and will be counted within seconds.

    The header `X-Landing-Token` leads to what becomes of it.
    """
    reply = await services.poster.answer(dict(request.headers.raw), request.receive)
    return Response(
        reply.body, reply.status, headers={name.decode(): value.decode() for name, value in reply.headers}
    )


@router.get(
    PATH,
    summary="List events",
    response_model=schemas.EventsAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(schemas.LIST_PARAMETERS),
)
async def get_events(request: Request, services: ServicesDependency) -> Response:
    """Stored events of `[start_time, end_time)`, newest first; a posted event appears when it has landed."""
    query = services.settings.analytics.query
    wanted = schemas.read_event_list(
        request.scope["query_string"],
        now=services.clock(),
        default_limit=query.default_limit,
        max_results=query.max_results,
    )
    found = await list_events(services.database, wanted)
    content = {
        "events": [_event(event) for event in found],
        "count": len(found),
        "start_time": format_time(wanted.start),
        "end_time": format_time(wanted.end),
    }
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), media_type="application/json")


@router.get(
    STATS_PATH,
    summary="Count events by type",
    response_model=schemas.StatisticsAnswer,
    responses=errors(400, 429, 503),
    openapi_extra=openapi_parameters(schemas.STATS_PARAMETERS),
)
async def get_statistics(request: Request, services: ServicesDependency) -> Response:
    """Exact for any range: whole minutes from rollups, cut minutes from events, in one snapshot."""
    return await answer_read(request, services.reads, STATS_PATH)


def statistics_question(query_string: bytes, now: datetime) -> Question:
    """The cacheable question behind a query string.

    Raises:
        BadRequest: it makes no sense.
    """
    wanted = schemas.read_statistics(query_string, now=now)

    async def ask(database: Database) -> Answer:
        counts = await count_events(database, wanted)
        content = {
            "start_time": format_time(wanted.start),
            "end_time": format_time(wanted.end),
            "total_events": sum(counts.values()),
            "by_type": counts,
        }
        body = orjson.dumps(content)
        return Answer(body, body)

    return Question(wanted.canonical, *days_of(wanted.start, wanted.end), ask, wanted.end == now)


def _event(event: Event) -> dict[str, object]:
    """Without `user_id` and `session_id` where there is none, as the original."""
    content: dict[str, object] = {"id": event.id, "event_type": event.event_type}
    if event.user_id is not None:
        content["user_id"] = event.user_id
    if event.session_id is not None:
        content["session_id"] = event.session_id
    content["properties"] = orjson.Fragment(event.properties or "{}")
    content["timestamp"] = event.timestamp.astimezone(UTC)
    content["created_at"] = event.created_at.astimezone(UTC)
    return content
