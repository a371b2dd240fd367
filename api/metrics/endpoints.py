"""`GET /api/v1/metrics`: one series of the catalog, through the cache."""

from collections.abc import Callable
from datetime import datetime

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.cardinality import OTHER
from analytics_pipeline.rollups.catalog import Catalog, Metric
from api.access import READ_PART
from api.arrivals import AFTER
from api.cache import Answer, Question
from api.database import Reader
from api.dependencies import ServicesDependency
from api.documentation import errors
from api.errors import invalid_parameter
from api.metrics import schemas
from api.metrics.points import Point
from api.metrics.repository import read_points
from api.metrics.service import Served
from api.parameters import openapi_parameters
from api.reads import answer_read
from api.times import days_of, format_time

router = APIRouter(tags=["Metrics"])
PATH = "/api/v1/metrics"


@router.get(
    PATH,
    summary="A metric over time",
    response_model=schemas.MetricsAnswer,
    responses=errors(400, 409, 429, 503),
    openapi_extra=openapi_parameters((*schemas.PARAMETERS, AFTER)),
    dependencies=[READ_PART],
)
async def get_metrics(request: Request, services: ServicesDependency) -> Response:
    """Points of whole buckets whose start lies in `[start_time, end_time)`, the open one included.

    Without `group_by` a point is the total of its bucket. A metric the catalog does not know has no points and
    a warning.
    """
    return await answer_read(request, services.reads, PATH)


def question(
    query_string: bytes,
    now: datetime,
    reach: Reach,
    *,
    max_points: int,
    catalog: Callable[[], Catalog],
    versions_of: Callable[[Metric], tuple[Served, ...]],
) -> Question:
    """The cacheable question behind a query string, by the catalog of this moment.

    Raises:
        Forbidden: the metric cannot be cut down to `reach`.
        BadRequest: it makes no sense.
    """
    series = schemas.read_series(
        query_string,
        now=now,
        max_points=max_points,
        catalog=catalog(),
        versions_of=versions_of,
        reach=reach,
    )

    async def ask(database: Reader) -> Answer:
        points = await read_points(database, series, limit=max_points + 1)
        if len(points) > max_points:
            raise invalid_parameter(
                "group_by",
                f"there are more than {max_points} points (analytics.query.max_points); shorten the range",
            )
        return _answer(series, points)

    return Question(series.canonical, *days_of(series.data_from, series.end), ask, series.end == now)


def _answer(series: schemas.Series, points: list[Point]) -> Answer:
    result = {
        "metric_name": series.metric_name,
        "interval": series.interval,
        "start_time": format_time(series.start),
        "end_time": format_time(series.end),
        "data_points": [
            {
                "timestamp": point.timestamp,
                "value": point.value,
                "dimensions": orjson.Fragment(point.dimensions if series.is_grouped else "{}"),
            }
            | (point.ohlc._asdict() if point.ohlc else {})
            | ({"incomplete": True} if point.is_incomplete else {})
            | ({"predecessor": True} if point.is_predecessor else {})
            for point in points
        ],
        "total_count": len(points),
        "aggregation": series.aggregation,
    }
    rest: dict[str, object] = {"result": result}
    if series.metric is None:
        rest["warnings"] = [schemas.UNKNOWN]
    elif series.is_grouped and any(f'"{OTHER}"' in point.dimensions for point in points):
        rest["warnings"] = [schemas.BEYOND_BUDGET]
    fresh, hit = (
        orjson.dumps({"cached": cached} | rest, option=orjson.OPT_UTC_Z) for cached in (False, True)
    )
    return Answer(fresh, hit)
