"""Questions and answers of `/api/v1/metrics`: parameters, what they mean, and the documented shapes.

Belongs here: turning a query string into a `Selection` of points. Does not belong here: SQL (`repository`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field

from analytics_pipeline.events.reach import EVERYTHING, Reach
from analytics_pipeline.rollups.catalog import SKIPPED, Aggregation, Catalog, Metric, dimension_set_name
from analytics_pipeline.rollups.schema import LEVELS
from api.errors import invalid_parameter
from api.metrics.parts import visible_set
from api.metrics.service import Served, always, cut
from api.parameters import END_TIME, START_TIME, Parameter, Query
from api.times import EPOCH, ceil_time, format_time

METRIC_NAME = Parameter(
    "metric_name",
    "A metric of the catalog, such as `trading.total_volume`, or `events.count.<event type>`.",
    "events.count.order.placed",
    required=True,
)
INTERVAL = Parameter(
    "interval",
    "Width of a bucket. Default 1h.",
    "1h",
    (("type", "string"), ("enum", list(LEVELS)), ("default", "1h")),
)
AGGREGATION = Parameter(
    "aggregation",
    "What a point is. Default: the metric's own, such as the sum of a volume or the count of events.",
    "sum",
    (("type", "string"), ("enum", [one.value for one in Aggregation])),
)
GROUP_BY = Parameter(
    "group_by",
    "A declared dimension of the metric, or several with commas: one point per bucket and value instead of the total.",
    "symbol",
)
TIME_ZONE = Parameter("time_zone", "Zone of the buckets; this version knows UTC.", "UTC")
PARAMETERS = (METRIC_NAME, INTERVAL, START_TIME, END_TIME, AGGREGATION, GROUP_BY, TIME_ZONE)

_LONGEST_NAME = 520
UNKNOWN = "The catalog has no metric of this name."
BEYOND_BUDGET = "There were more values than the metric's budget of series: the rest is counted as __other__."


@dataclass(frozen=True, slots=True)
class Series:
    """Which points are asked for.

    Attributes:
        metric: its declaration, or None if the catalog has none of this name.
        metric_name: as asked for.
        interval: a key of `LEVELS`.
        start: start of the range, UTC.
        end: end of the range, UTC, not included.
        aggregation: what a point is.
        dimension_set: '' for the total, else the stored name of the grouping.
        is_grouped: whether points carry dimensions.
        carried: the dimensions that are kept of series whose last values are carried forward and summed; None where
            a point is what is stored.
        carried_until: no value is carried into buckets that start then or later.
        served: the versions of the metric.
        reach: only rows of series that are in it.
    """

    metric: Metric | None
    metric_name: str
    interval: str
    start: datetime
    end: datetime
    aggregation: str
    dimension_set: str
    is_grouped: bool
    carried: tuple[str, ...] | None = None
    carried_until: datetime | None = None
    served: tuple[Served, ...] = ()
    reach: Reach = EVERYTHING

    @property
    def parts(self) -> list[Served]:
        """The buckets asked for, by the version that answers for them."""
        return cut(self.served, self.first_bucket, self.end_bucket, LEVELS[self.interval])

    @property
    def first_bucket(self) -> datetime:
        """Start of the first bucket that lies in the range."""
        return ceil_time(self.start, LEVELS[self.interval])

    @property
    def end_bucket(self) -> datetime:
        """Start of the first bucket beyond the range."""
        return ceil_time(self.end, LEVELS[self.interval])

    @property
    def data_from(self) -> datetime:
        """From when on events matter to the points."""
        return self.start if self.carried is None else EPOCH

    @property
    def canonical(self) -> str:
        """One text for every way to ask the same."""
        parts = (
            self.metric_name,
            self.interval,
            format_time(self.start),
            format_time(self.end),
            self.aggregation,
            *map(str, self.parts),
        )
        if self.carried is not None and self.carried_until is not None:
            parts = (*parts, "carried", ",".join(self.carried), format_time(self.carried_until))
        return "\n".join(("metrics", *parts, self.dimension_set if self.is_grouped else ""))


def read_series(
    query_string: bytes,
    *,
    now: datetime,
    max_points: int,
    catalog: Catalog,
    versions_of: Callable[[Metric], tuple[Served, ...]] = lambda metric: (always(metric),),
    reach: Reach = EVERYTHING,
) -> Series:
    """Understand a query string, by the metrics of a catalog and their versions, for who sees only `reach`.

    Raises:
        Forbidden: no series of the metric is made of what may be seen alone.
        BadRequest: a parameter is missing, malformed, unknown to the metric, or asks for too many points.
    """
    query = Query(query_string, PARAMETERS)
    name = query.text(METRIC_NAME, limit=_LONGEST_NAME) or ""
    interval = query.choice(INTERVAL, tuple(LEVELS)) or "1h"
    start, end = query.range(now)
    zone = query.text(TIME_ZONE)
    if zone is not None and zone.upper() not in {"UTC", "ETC/UTC", "Z"}:
        raise invalid_parameter("time_zone", "this version has buckets of UTC only")
    if (end - start) / timedelta(seconds=LEVELS[interval]) > max_points:
        raise invalid_parameter(
            "interval",
            f"the range has more than {max_points} buckets of this interval (analytics.query.max_points); "
            "ask for a longer interval or a shorter range",
        )
    aggregation = query.choice(AGGREGATION, [one.value for one in Aggregation])
    group_by = query.text(GROUP_BY)
    selection = catalog.resolve(name)
    if selection is None:
        return Series(None, name, interval, start, end, aggregation or Aggregation.COUNT.value, "", False)
    metric = selection.metric
    aggregation = _aggregation(metric, aggregation)
    asked = _names(group_by)
    carried = _carried(metric, aggregation, asked)
    has_total = metric.has_total or aggregation == Aggregation.SKIPPED.value
    if carried is None and asked is None and not selection.dimension_set and not has_total:
        raise invalid_parameter("group_by", f"this metric has no total: group by {_groupings(metric)}")
    if aggregation == Aggregation.SKIPPED.value:
        if asked is not None:
            raise invalid_parameter("group_by", "what is skipped is counted in total alone")
        dimension_set = SKIPPED
    elif carried is not None:
        dimension_set = dimension_set_name(metric.dimension_sets[0])
    else:
        dimension_set = selection.dimension_set if asked is None else _dimension_set(metric, asked)
    return Series(
        metric=metric,
        metric_name=name,
        interval=interval,
        start=start,
        end=end,
        aggregation=aggregation,
        dimension_set=visible_set(
            metric, name, aggregation, dimension_set, is_grouped=group_by is not None, reach=reach
        ),
        is_grouped=group_by is not None,
        carried=carried,
        carried_until=None if carried is None else min(end, now),
        served=versions_of(metric),
        reach=reach,
    )


def _aggregation(metric: Metric, asked: str | None) -> str:
    if asked is None:
        return metric.default_aggregation.value
    allowed = [
        one.value for one in (*metric.aggregations, *([Aggregation.SKIPPED] if metric.is_summed else []))
    ]
    if asked not in allowed:
        raise invalid_parameter("aggregation", f"this metric has {', '.join(allowed)}")
    return asked


def _names(group_by: str | None) -> tuple[str, ...] | None:
    return None if group_by is None else tuple(sorted(part.strip() for part in group_by.split(",")))


def _carried(metric: Metric, aggregation: str, asked: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Which dimensions are kept, where last values are summed; None where what is stored is asked for."""
    if not metric.is_carried or aggregation != Aggregation.LAST.value:
        return None
    kept, [stored] = asked or (), metric.dimension_sets
    return kept if set(kept) < set(stored) else None


def _dimension_set(metric: Metric, asked: tuple[str, ...]) -> str:
    name = dimension_set_name(asked)
    if name not in [dimension_set_name(dimensions) for dimensions in metric.dimension_sets if dimensions]:
        known = _groupings(metric)
        raise invalid_parameter(
            "group_by", f"this metric has {known}" if known else "this metric has no dimensions"
        )
    return name


def _groupings(metric: Metric) -> str:
    return ", ".join(dimension_set_name(dimensions) for dimensions in metric.dimension_sets if dimensions)


class DataPoint(BaseModel):
    """One bucket."""

    timestamp: datetime = Field(description="Start of the bucket.", examples=["2026-01-31T12:00:00Z"])
    value: float = Field(description="With `ohlc`, the same as `close`.", examples=[4500])
    open: float | None = Field(default=None, description="Only with `ohlc`: the first value.")
    high: float | None = Field(default=None, description="Only with `ohlc`: the largest.")
    low: float | None = Field(default=None, description="Only with `ohlc`: the smallest.")
    close: float | None = Field(default=None, description="Only with `ohlc`: the last.")
    dimensions: dict[str, Any] = Field(description="Empty for totals.", examples=[{"symbol": "BTCUSDT"}])
    incomplete: bool | None = Field(
        default=None, description="Only if true: events are missing until a backfill has read them."
    )
    predecessor: bool | None = Field(
        default=None, description="Only if true: from an earlier definition of the metric."
    )


class MetricResult(BaseModel):
    """The points, oldest first."""

    metric_name: str = Field(examples=["events.count.order.placed"])
    interval: str = Field(examples=["1h"])
    start_time: datetime
    end_time: datetime
    data_points: list[DataPoint]
    total_count: int = Field(description="How many points.", examples=[24])
    aggregation: str = Field(examples=["count"])


class MetricsAnswer(BaseModel):
    """A metric over time: settled rollups plus what has landed since, in one snapshot."""

    cached: bool = Field(description="Whether it came from the cache; it is valid either way.")
    result: MetricResult
    warnings: list[str] | None = Field(default=None, description="Only when there is something to say.")
