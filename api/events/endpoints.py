"""`/api/v1/events`: track events, list them, find one, count them by type."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Request, Response

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import Retention
from api.access import READ_PART, WRITE_PART
from api.arrivals import read_after
from api.cache import Answer, Question
from api.database import Reader
from api.dependencies import Services, ServicesDependency
from api.documentation import errors
from api.events import schemas, single
from api.events.formats import Format
from api.events.listing import PARAMETERS, read_event_list
from api.events.posting import POSTED
from api.events.reading import EventReader
from api.events.repository import COUNTED, Count, by_type, count_per_bucket
from api.events.rows import media_type
from api.events.statistics import PARAMETERS as STATS_PARAMETERS
from api.events.statistics import Statistics, read_statistics, too_many
from api.json_answer import json_answer
from api.metrics.buckets import kept_since
from api.metrics.service import MetricService
from api.parameters import AFTER, openapi_parameters
from api.patient_response import PatientResponse
from api.principal import principal_of, reach_of
from api.reads import answer_read
from api.times import days_of, floor_time, format_time
from api.timing import spending

router = APIRouter(tags=["Events"])
PATH = "/api/v1/events"
STATS_PATH = "/api/v1/events/stats"
SINGLE_PATH = "/api/v1/events/{id}"
_GONE = "The range begins before all that is counted is kept: some of it may have been deleted."


@router.post(
    PATH,
    status_code=201,
    summary="Track an event, or several",
    response_model=schemas.PostAnswer | schemas.BatchAnswer,
    responses=errors(400, 403, 413, 415, 422, 429, 503)
    | {
        201: {"headers": POSTED},
        207: {
            "model": schemas.BatchAnswer,
            "description": "Some items were accepted, some were not.",
            "headers": POSTED,
        },
    },
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
    responses=errors(400, 409, 429, 503) | schemas.STREAMS,
    openapi_extra=openapi_parameters((*PARAMETERS, AFTER)),
    dependencies=[READ_PART],
)
async def get_events(request: Request, services: ServicesDependency) -> Response:
    """Stored events of `[start_time, end_time)`, newest first; a posted event appears when it has landed.

    Pages lead to each other by cursors and neither skip nor repeat an event while others arrive. Formats other than
    json stream everything that fits.
    """
    query = services.settings.analytics.query
    understand = partial(
        read_event_list,
        request.scope["query_string"],
        default_limit=query.default_limit,
        max_results=query.max_results,
        accept=request.headers.get("accept", ""),
        reach=reach_of(request),
    )
    wanted = understand(now=services.clock())
    if await _has_waited(request, services):
        wanted = understand(now=services.clock() + timedelta(seconds=1))
    reader = _reader(services)
    if wanted.format is not Format.JSON:
        return PatientResponse(
            reader.stream(wanted),
            media_type=media_type(wanted.format),
            patience=services.settings.server.write_timeout.total_seconds(),
        )
    return json_answer(await reader.page(wanted))


@router.get(
    STATS_PATH,
    summary="Count events by type",
    response_model=schemas.StatisticsAnswer,
    responses=errors(400, 409, 429, 503),
    openapi_extra=openapi_parameters((*STATS_PARAMETERS, AFTER)),
    dependencies=[READ_PART],
)
async def get_statistics(request: Request, services: ServicesDependency) -> Response:
    """Exact for any range: whole minutes from rollups, cut minutes from events, in one snapshot.

    With `interval` also per bucket; the buckets add up to the totals.
    """
    return await answer_read(request, services.reads, STATS_PATH)


@router.get(
    SINGLE_PATH,
    summary="One event",
    response_model=schemas.StoredEvent,
    responses=errors(400, 404, 409, 429, 503),
    openapi_extra=openapi_parameters((*single.PARAMETERS, AFTER)),
    dependencies=[READ_PART],
)
async def get_event(
    id: Annotated[str, Path(description="Of the event.", json_schema_extra={"format": "uuid"})],
    request: Request,
    services: ServicesDependency,
) -> Response:
    """The stored event of this id; one that a key does not see is not there for it."""
    wanted = single.read_single(id, request.scope["query_string"], reach=reach_of(request))
    await _has_waited(request, services)
    return json_answer(await _reader(services).single(wanted))


async def _has_waited(request: Request, services: Services) -> bool:
    """Wait for what `after` names, if it does; whether there was something to wait for.

    Raises:
        Problem: as `Arrivals.wait`; or it names nothing.
    """
    sent = read_after(request.scope["query_string"])
    if sent is None:
        return False
    with spending("wait"):
        await services.arrivals.wait(sent, sees_everything=reach_of(request).is_everything)
    return True


def statistics_question(
    query_string: bytes,
    now: datetime,
    reach: Reach,
    *,
    max_points: int,
    retention: Retention,
    versions: MetricService,
) -> Question:
    """The cacheable question behind a query string.

    Raises:
        Forbidden: counts cannot be cut down to `reach`.
        BadRequest: it makes no sense.
    """
    wanted = read_statistics(query_string, now=now, max_points=max_points, reach=reach)
    served = versions.of(COUNTED)
    raw_kept = floor_time(now - retention.raw_events, LEVELS["1d"])
    warnings = [_GONE] if wanted.is_partly_gone(kept_since(retention, now), raw_kept) else []

    async def ask(database: Reader) -> Answer:
        counts = await count_per_bucket(database, wanted, served, limit=max_points + 1)
        if len(counts) > max_points:
            raise too_many(max_points, "counts of a bucket and type")
        content = _statistics(wanted, counts)
        body = orjson.dumps(content | {"warnings": warnings} if warnings else content)
        return Answer(body, body)

    return Question(
        f"{wanted.canonical}\n{served}\n{warnings}",
        *days_of(wanted.start, wanted.end),
        ask,
        wanted.end == now,
    )


def _statistics(wanted: Statistics, counts: Sequence[Count]) -> dict[str, object]:
    content: dict[str, object] = {
        "start_time": format_time(wanted.start),
        "end_time": format_time(wanted.end),
        "total_events": sum(count.events for count in counts),
        "by_type": by_type(counts),
    }
    if wanted.interval is None:
        return content
    buckets = ((at, list(found)) for at, found in groupby(counts, lambda count: count.bucket))
    return content | {
        "interval": wanted.interval,
        "buckets": [
            {
                "timestamp": format_time(at),
                "total_events": sum(count.events for count in found),
                "by_type": by_type(found),
            }
            for at, found in buckets
        ],
    }


def _reader(services: Services) -> EventReader:
    return EventReader(services.database, services.settings.analytics.query.max_scanned, services.versions)
