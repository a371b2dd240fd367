"""`/api/v1/metrics/catalog` and `/api/v1/dimensions`: what can be asked for."""

from collections import defaultdict
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from analytics_pipeline.rollups.catalog_page import precision_of, value_of
from analytics_pipeline.rollups.precision import bounds_of
from analytics_pipeline.rollups.schema import LEVELS
from api.access import READ_PART
from api.dependencies import Services, ServicesDependency
from api.discovery import schemas
from api.discovery.repository import read_dimension_values
from api.discovery.visible import Visible, stored_sets, visible_metrics
from api.documentation import errors
from api.errors import Forbidden, NotFound, invalid_parameter
from api.metrics.measures import has_quantiles
from api.metrics.parts import visible_versions
from api.parameters import openapi_parameters
from api.principal import reach_of

router = APIRouter(tags=["Discovery"])
CATALOG_PATH = "/api/v1/metrics/catalog"
DIMENSIONS_PATH = "/api/v1/dimensions"

MOST_LOOKS = 2_000
"""Days × metrics that one page may look at, each a short piece of an index."""


@router.get(
    CATALOG_PATH,
    summary="All metrics that can be asked for",
    response_model=schemas.CatalogAnswer,
    responses=errors(429, 503),
    dependencies=[READ_PART],
)
async def get_catalog(request: Request, services: ServicesDependency) -> Response:
    """What each metric is, what may be asked of it, and since when it is complete; those of custom events, too.

    A key that sees a part of the events is shown what it may ask for. No query is run for it.
    """
    metrics = [
        _metric(services, one) for one in visible_metrics(services.definitions.catalog(), reach_of(request))
    ]
    return _json({"metrics": metrics, "count": len(metrics)})


@router.get(
    DIMENSIONS_PATH,
    summary="All dimensions that metrics can be grouped by",
    response_model=schemas.DimensionsAnswer,
    responses=errors(429, 503),
    dependencies=[READ_PART],
)
async def get_dimensions(request: Request, services: ServicesDependency) -> Response:
    """Which metrics have which dimension. A key that sees a part of the events is shown what it may group by."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for one in visible_metrics(services.definitions.catalog(), reach_of(request)):
        for name in sorted({name for names in one.dimension_sets for name in names}):
            found[name].append(one.metric.name)
    dimensions = [{"name": name, "metrics": metrics} for name, metrics in sorted(found.items())]
    return _json({"dimensions": dimensions, "count": len(dimensions)})


@router.get(
    DIMENSIONS_PATH + "/{dimension}/values",
    summary="The values a dimension has had",
    response_model=schemas.ValuesAnswer,
    responses=errors(400, 404, 429, 503),
    openapi_extra=openapi_parameters(schemas.VALUES_PARAMETERS),
    dependencies=[READ_PART],
)
async def get_dimension_values(dimension: str, request: Request, services: ServicesDependency) -> Response:
    """Those seen on the UTC days that `[start_time, end_time)` touches, by default of the last 24 hours.

    From the register of series, so a value without a place in its metric's budget is not among them. A key that sees a
    part of the events is shown the values of series that are made of its events alone.
    """
    query = services.settings.analytics.query
    asked = schemas.read_values(
        request.scope["query_string"],
        now=services.clock(),
        default_limit=query.default_limit,
        most=query.max_results,
    )
    sets = _sets(dimension, asked, request, services)
    looks = asked.day_count * sum(map(len, sets.values()))
    if looks > MOST_LOOKS:
        raise invalid_parameter(
            "start_time",
            f"{looks:,} days of metrics would have to be looked at, and {MOST_LOOKS:,} is the most; shorten the range "
            "or give metric_name",
        )
    found = await read_dimension_values(services.database, dimension, asked, sets, reach_of(request))
    return _json(schemas.values_content(dimension, asked, found))


def _sets(name: str, asked: schemas.Values, request: Request, services: Services) -> dict[str, list[str]]:
    """The ids of metrics to look at, by dimension set.

    Raises:
        NotFound: no metric has the dimension.
        BadRequest: the metric asked for does not have it.
        Forbidden: the key sees none of the series.
    """
    catalog = services.definitions.catalog()
    having = [metric for metric in catalog.metrics if any(name in one for one in metric.dimension_sets)]
    if not having:
        raise NotFound("No metric has a dimension of this name; /api/v1/dimensions lists all.")
    if asked.metric_name is not None:
        selected = catalog.resolve(asked.metric_name)
        having = [metric for metric in having if selected is not None and metric is selected.metric]
        if not having:
            raise invalid_parameter(
                "metric_name", "the catalog has no metric of this name with this dimension"
            )
    sets: defaultdict[str, list[str]] = defaultdict(list)
    for metric in having:
        reach, served = reach_of(request), services.versions.of(metric)
        for dimension_set in stored_sets(metric, name, reach):
            if visible := visible_versions(dimension_set, served, reach):
                sets[dimension_set] += dict.fromkeys(one.metric_id for one in visible)
    if not sets:
        raise Forbidden("No series with this dimension is made of events alone that the key sees.")
    return sets


def _metric(services: Services, one: Visible) -> dict[str, Any]:
    metric = one.metric
    in_force = services.versions.in_force(metric)
    is_grouped = any(metric.dimension_sets)
    bounds = bounds_of(metric)
    return {
        "name": metric.name,
        "description": metric.description,
        "unit": metric.unit,
        "event_types": metric.event_types,
        "value": value_of(metric),
        "intervals": list(LEVELS),
        "aggregations": one.aggregations,
        "has_quantiles": has_quantiles(metric),
        "default_aggregation": metric.default_aggregation,
        "dimension_sets": one.dimension_sets,
        "has_total": one.has_total,
        "name_by": metric.dimension_sets[-1][0] if metric.name_by_dimension else None,
        "is_carried": metric.is_carried,
        "precision": precision_of(metric),
        "errors": {
            aggregation: {name: value for name, value in bound._asdict().items() if value is not None}
            for aggregation, bound in bounds.items()
            if aggregation in one.aggregations
        },
        "series_limit": metric.series_limit if is_grouped else None,
        "available_from": None if in_force is None else schemas.beginning(in_force.complete_from),
        "is_custom": metric.property_name is not None,
    }


def _json(content: object) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS),
        media_type="application/json",
    )
