"""`GET /api/v1/metrics`: metrics of the catalog over time, through the cache."""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.catalog import Catalog, Metric
from analytics_pipeline.settings import Retention
from api.access import READ_PART
from api.cache import Answer, Question
from api.database import Reader
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.metrics import schemas
from api.metrics.answers import answer
from api.metrics.buckets import kept_since
from api.metrics.parameters import PARAMETERS
from api.metrics.points import too_many
from api.metrics.query import read_queries
from api.metrics.reading import read, snapshot
from api.metrics.service import Served
from api.parameters import AFTER, openapi_parameters
from api.reads import answer_read
from api.times import days_of

router = APIRouter(tags=["Metrics"])
PATH = "/api/v1/metrics"
_MOST_KEPT_BUCKETS = 2_000
"""Of a question that is kept to be asked again: the edges of its buckets are most of what it takes."""


@router.get(
    PATH,
    summary="Metrics over time",
    response_model=schemas.MetricsAnswer,
    responses=errors(400, 409, 429, 503),
    openapi_extra=openapi_parameters((*PARAMETERS, AFTER)),
    dependencies=[READ_PART],
)
async def get_metrics(request: Request, services: ServicesDependency) -> Response:
    """Points of whole buckets whose start lies in `[start_time, end_time)`, the open one included.

    Without `group_by` a point is the total of its bucket. A metric the catalog does not know has no points and
    a warning. All metrics of one call are read in one snapshot.
    """
    return await answer_read(request, services.reads, PATH)


def question(
    query_string: bytes,
    now: datetime,
    reach: Reach,
    *,
    max_points: int,
    retention: Retention,
    catalog: Callable[[], Catalog],
    versions_of: Callable[[Metric], tuple[Served, ...]],
) -> Question:
    """The cacheable question behind a query string, by the catalog of this moment.

    Raises:
        Forbidden: a metric cannot be cut down to `reach`.
        BadRequest: it makes no sense.
    """
    queries = read_queries(
        query_string,
        now=now,
        max_points=max_points,
        catalog=catalog(),
        versions_of=versions_of,
        reach=reach,
        kept=kept_since(retention, now),
    )

    async def ask(database: Reader) -> Answer:
        results, points = [], 0
        async with snapshot(database) as connection:
            for query in queries:
                results.append(await read(connection, query))
                points += len(results[-1].points)
                if points > max_points:
                    raise too_many(query.frame)
            return answer(results)

    first = min(query.data_from for query in queries)
    until = max(query.data_until for query in queries)
    canonical = "\n\n".join(query.canonical for query in queries)
    frame = queries[0].frame
    is_large = len(frame.buckets) > _MOST_KEPT_BUCKETS
    return Question(canonical, *days_of(first, until), ask, frame.end == now, is_large)
