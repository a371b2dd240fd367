"""`GET /api/v1/dashboard/metrics`: the ten numbers of the original's dashboard."""

from collections.abc import Callable
from datetime import datetime

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.catalog import Catalog
from api.access import READ, READ_PART
from api.cache import Answer, Question
from api.dashboard import batch
from api.dashboard.repository import Parts, read_dashboard
from api.dashboard.schemas import (
    EXAMPLE_QUERY,
    Dashboard,
    DashboardAnswer,
    QueryAnswer,
    QueryBody,
    Windows,
)
from api.database import Reader
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.events.schemas import request_body
from api.metrics import endpoints as metrics
from api.metrics import parameters as metric_parameters
from api.metrics.service import MetricService
from api.parameters import AFTER, openapi_parameters
from api.principal import reach_of
from api.reads import answer_question, answer_read
from api.times import days_of, format_time

router = APIRouter(tags=["Dashboard"])
PATH = "/api/v1/dashboard/metrics"
QUERY_PATH = "/api/v1/dashboard/query"


@router.get(
    PATH,
    summary="Live dashboard numbers",
    response_model=DashboardAnswer,
    responses=errors(400, 409, 429, 503),
    openapi_extra=openapi_parameters((AFTER,)),
    dependencies=[READ],
)
async def get_dashboard(request: Request, services: ServicesDependency) -> Response:
    """True to the last landed event; computed at most once a second for everybody.

    It is of all events, so a key that sees only a part has to ask for metrics instead.
    """
    return await answer_read(request, services.reads, PATH)


@router.post(
    QUERY_PATH,
    status_code=200,
    summary="Many metrics and tiles at once",
    response_model=QueryAnswer,
    responses=errors(400, 403, 409, 413, 415, 429, 503),
    openapi_extra=request_body(QueryBody, EXAMPLE_QUERY),
    dependencies=[READ_PART],
)
async def post_query(request: Request, services: ServicesDependency) -> Response:
    """At most 50 queries, answered from one snapshot: no event is in one answer and missing in another.

    A query that is refused has its problem in its place and does not fail the rest. Together they may take
    `analytics.query.timeout`.
    """
    body = batch.read_body(await request.body(), [one.name for one in metric_parameters.PARAMETERS])
    reads, reach = services.reads, reach_of(request)
    now, has_waited = await reads.once_landed(body.after, reach)
    asked = batch.question_of(
        body.queries,
        reach,
        metric=lambda query_string: reads.build(metrics.PATH, query_string, now, reach),
        dashboard=lambda query_string: reads.build(PATH, query_string, now, reach),
        database=services.database,
        seconds=services.settings.analytics.query.timeout.total_seconds(),
    )
    return await answer_question(request, reads, asked, has_waited=has_waited)


def question(
    _query_string: bytes,
    now: datetime,
    _reach: Reach,
    *,
    catalog: Callable[[], Catalog],
    versions: MetricService,
) -> Question:
    """The one question there is, at this second."""
    windows = Windows(now)
    read = Parts.of(catalog(), versions, windows)

    async def ask(database: Reader) -> Answer:
        body = _body(windows, await read_dashboard(database, windows, read))
        return Answer(body, body)

    return Question(f"{windows.canonical}\n{read}", *days_of(windows.hour, windows.end), ask, True)


def _body(windows: Windows, found: Dashboard) -> bytes:
    content: dict[str, object] = {
        "active_users": found.active_users,
        "events_per_second": found.events / windows.elapsed,
        "orders_placed": found.orders_placed,
        "orders_filled": found.orders_filled,
        "active_strategies": found.active_strategies,
        "total_volume": found.total_volume,
        "average_latency": found.average_latency,
        "error_rate": found.orders_rejected / found.orders_placed if found.orders_placed else 0.0,
        "custom_metrics": found.custom,
        "last_updated": format_time(windows.now),
    }
    return orjson.dumps(content)
