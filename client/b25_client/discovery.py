"""What can be asked for: the catalog of metrics, dimensions, and the values that they have had.

Belongs here: requests and answers of `/api/v1/metrics/catalog` and `/api/v1/dimensions`. Does not belong here: asking
for metrics (`metrics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from b25_client.request import Answer, Page, Request, path_of, read_record, write_parameters

CATALOG_PATH = "/api/v1/metrics/catalog"
DIMENSIONS_PATH = "/api/v1/dimensions"


@dataclass(frozen=True, slots=True)
class ErrorBound:
    """How far values may be from the true ones.

    Attributes:
        relative: the most that one can be off, as a part of the true value.
        standard: one standard deviation, as a part of the true value.
        exact_up_to: values up to this one are exact.
    """

    relative: float | None = None
    standard: float | None = None
    exact_up_to: int | None = None


@dataclass(frozen=True, slots=True)
class CatalogMetric:
    """A metric, as far as the key may ask for it.

    Attributes:
        unit: such as `ms`, `percent` or `quote`.
        event_types: events that count; none: all.
        value: what of an event is aggregated.
        intervals: widths of buckets.
        aggregations: what `aggregation` takes.
        has_quantiles: whether it also takes any quantile, `p0` to `p100`.
        dimension_sets: what `group_by` takes.
        has_total: whether it can be asked for without `group_by`.
        name_by: the dimension whose values are metric names too.
        is_carried: whether a last value holds until the next one.
        precision: how exact it is, in words.
        errors: bounds of the aggregations that are not exact.
        series_limit: most series of a dimension set in a UTC day.
        available_from: buckets from then on are complete; None: no landing computes this definition yet.
        is_custom: whether it follows from a definition of custom events.
    """

    name: str
    description: str
    unit: str
    event_types: tuple[str, ...]
    value: str
    intervals: tuple[str, ...]
    aggregations: tuple[str, ...]
    has_quantiles: bool
    default_aggregation: str
    dimension_sets: tuple[tuple[str, ...], ...]
    has_total: bool
    name_by: str | None
    is_carried: bool
    precision: str
    errors: Mapping[str, ErrorBound]
    series_limit: int | None
    available_from: datetime | None
    is_custom: bool


class DimensionValuesQuery(TypedDict, total=False):
    """Keyword arguments: of which time and metric, and how values begin; `limit` is the size of a page."""

    start_time: datetime | str
    end_time: datetime | str
    metric_name: str
    prefix: str
    limit: int


class _Paged(DimensionValuesQuery, total=False):
    cursor: str


def catalog_request() -> Request[tuple[CatalogMetric, ...]]:
    """Ask for all metrics in service."""
    return Request(CATALOG_PATH, lambda answer: tuple(map(_metric, answer.json()["metrics"])))


def dimensions_request() -> Request[Mapping[str, tuple[str, ...]]]:
    """Ask which metrics have which dimension."""
    return Request(DIMENSIONS_PATH, _read_dimensions)


def values_request(dimension: str, asked: Mapping[str, Any], cursor: str | None) -> Request[Page[str | None]]:
    """Ask for a page of the values of a dimension.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    write_parameters(asked, DimensionValuesQuery)
    parameters = write_parameters({**asked, "cursor": cursor}, _Paged)
    return Request(path_of("api", "v1", "dimensions", dimension, "values"), _read_values, parameters)


def _metric(content: Mapping[str, Any]) -> CatalogMetric:
    return read_record(
        CatalogMetric,
        content,
        dimension_sets=tuple(map(tuple, content["dimension_sets"])),
        errors={name: read_record(ErrorBound, one) for name, one in content["errors"].items()},
    )


def _read_dimensions(answer: Answer) -> Mapping[str, tuple[str, ...]]:
    return {one["name"]: tuple(one["metrics"]) for one in answer.json()["dimensions"]}


def _read_values(answer: Answer) -> Page[str | None]:
    content = answer.json()
    return Page(tuple(content["values"]), content.get("next_cursor"))
