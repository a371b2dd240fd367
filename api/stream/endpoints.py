"""`/api/v1/stream/…`: server-sent events."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from api.access import READ, READ_PART
from api.dashboard import endpoints as dashboard
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import invalid_parameter
from api.events import listing
from api.metrics import endpoints as metrics
from api.metrics import parameters as metric_parameters
from api.parameters import MAX_TEXT, Parameter, Query, openapi_parameters, without
from api.patient_response import PatientResponse
from api.principal import principal_of, reach_of
from api.stream.channels import Channel, Dashboard, EventTail, Metric, tail_from

router = APIRouter(tags=["Streams"])
PREFIX = "/api/v1/stream"

LAST_EVENT_ID = Parameter(
    "last_event_id",
    "Where to go on, as the header Last-Event-ID, which browsers send by themselves when they connect again.",
)
_LAST_EVENT_ID_HEADER = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "`id` of the last message that was seen: the stream goes on behind it. Browsers send it by "
    "themselves when they connect again; it goes before `last_event_id`.",
    "schema": {"type": "string", "maxLength": MAX_TEXT},
}
_EVENT_PARAMETERS = (
    listing.EVENT_TYPE, listing.USER, listing.SESSION, listing.PROPERTY, listing.FIELDS, LAST_EVENT_ID,
)  # fmt: skip
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream that ends when the client goes, or with `event: bye`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def _resumed(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """`openapi_extra` of a stream that goes on where a client was."""
    found = openapi_parameters(parameters)
    found["parameters"].append(_LAST_EVENT_ID_HEADER)
    return found


@router.get(
    f"{PREFIX}/dashboard",
    summary="The dashboard, live",
    status_code=200,
    response_class=PatientResponse,
    responses=errors(400, 404, 429, 503) | _STREAM,
    openapi_extra=_resumed((LAST_EVENT_ID,)),
    dependencies=[READ],
)
async def stream_dashboard(request: Request, services: ServicesDependency) -> PatientResponse:
    """`event: dashboard` with the answer of `/api/v1/dashboard/metrics`, every `realtime.update_interval`."""
    _, last = _asked(request)
    return _open(request, services, Dashboard(services.reads, dashboard.PATH, last))


@router.get(
    f"{PREFIX}/metrics",
    summary="A metric, live",
    status_code=200,
    response_class=PatientResponse,
    responses=errors(400, 404, 429, 503) | _STREAM,
    openapi_extra=_resumed((*metric_parameters.PARAMETERS, LAST_EVENT_ID)),
    dependencies=[READ_PART],
)
async def stream_metrics(request: Request, services: ServicesDependency) -> PatientResponse:
    """`event: snapshot` with the answer of `/api/v1/metrics`, then `event: points` with the points that changed.

    With `Last-Event-ID` it goes on with changes, if the answer still is what that message left; else it begins whole.
    """
    query_string, last = _asked(request)
    return _open(
        request, services, Metric(services.reads, metrics.PATH, query_string, reach_of(request), last)
    )


@router.get(
    f"{PREFIX}/events",
    summary="Events, as they land",
    status_code=200,
    response_class=PatientResponse,
    responses=errors(400, 404, 429, 503) | _STREAM,
    openapi_extra=_resumed(_EVENT_PARAMETERS),
    dependencies=[READ_PART],
)
async def stream_events(request: Request, services: ServicesDependency) -> PatientResponse:
    """`event: events` with the newest events, at most 200 at a time; `has_gap` says that others were left out.

    In the order of their time, up to the moment before which all sources have landed. Late events are not told. With
    `Last-Event-ID` all that was missed comes first, oldest first, of the last five minutes.
    """
    now = datetime.now(UTC)
    query_string, last = _asked(request)
    query = services.settings.analytics.query
    wanted = listing.read_event_list(
        query_string,
        now=now,
        default_limit=1,
        max_results=query.max_results,
        reach=reach_of(request),
    )
    try:
        position, has_gap = tail_from(last, now)
    except ValueError:
        raise invalid_parameter(LAST_EVENT_ID.name, "is not an id of this stream") from None
    tail = EventTail(
        services.database, wanted, position, position.timestamp, query.max_scanned, has_gap, bool(last)
    )
    return _open(request, services, tail)


def _open(request: Request, services: ServicesDependency, channel: Channel) -> PatientResponse:
    """A stream that ends with the key that opened it."""
    principal = principal_of(request)
    return services.streams.open(channel, lambda: services.keyring.holds(principal))


def _asked(request: Request) -> tuple[bytes, str]:
    """The question as the feature reads it, and the id of the last message that the client has seen."""
    query_string = request.scope["query_string"]
    last = request.headers.get("last-event-id")
    query = Query(query_string, (LAST_EVENT_ID,), is_all=False)
    return without(query_string, LAST_EVENT_ID), last or query.text(LAST_EVENT_ID) or ""
