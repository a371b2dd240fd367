"""Metrics over time: what can be asked, the points that come, and the table of them.

Belongs here: parameters and answers of `GET /api/v1/metrics`. Does not belong here: pyarrow (`arrow`), sending
(`transport`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from b25_client.arrow import make_table
from b25_client.request import Answer, Request, read_time, write_parameters

if TYPE_CHECKING:
    import pyarrow as pa

PATH = "/api/v1/metrics"
_JOINED = frozenset({"group_by"})
_ENDS = ("open", "high", "low", "close")


class MetricsQuery(TypedDict, total=False):
    """Keyword arguments that narrow metrics down; see docs/metrics.md.

    `start_time` and `end_time` are the half-open range, default the last 24 hours. `after` is a landing token of posted
    events, or `topic:partition:offset`: the answer comes when that has landed, and holds it.
    """

    interval: str
    start_time: datetime | str
    end_time: datetime | str
    aggregation: str
    group_by: str | Sequence[str]
    time_zone: str
    after: str


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket.

    Attributes:
        timestamp: start of the bucket.
        value: with `aggregation="ohlc"` the same as `close`.
        dimensions: what it is grouped by; empty for totals.
        is_incomplete: events are missing until a backfill has read them.
        is_predecessor: from an earlier definition of the metric.
    """

    timestamp: datetime
    value: float
    dimensions: Mapping[str, Any]
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    is_incomplete: bool = False
    is_predecessor: bool = False


@dataclass(frozen=True, slots=True)
class Metrics:
    """A metric over time, oldest first.

    Attributes:
        is_cached: whether it came from the service's cache; it is valid either way.
        warnings: what the service remarks, such as that it has no metric of this name.
    """

    metric_name: str
    interval: str
    start_time: datetime
    end_time: datetime
    aggregation: str
    points: tuple[Point, ...]
    is_cached: bool = False
    warnings: tuple[str, ...] = ()

    def to_arrow(self) -> "pa.Table":
        """One row a point: `timestamp`, `value`, each dimension as text, `is_incomplete`, `is_predecessor`.

        With `ohlc` also `open`, `high`, `low` and `close`. A dimension that has the name of another column is called
        `dimension_<name>`.

        Raises:
            MissingLibrary: pyarrow is not installed.
        """
        points = self.points
        columns: dict[str, tuple[str, list[Any]]] = {
            "timestamp": ("time", [point.timestamp for point in points]),
            "value": ("number", [point.value for point in points]),
        }
        if any(point.close is not None for point in points):
            columns |= {name: ("number", [getattr(point, name) for point in points]) for name in _ENDS}
        marks = {
            name: ("truth", [getattr(point, name) for point in points])
            for name in ("is_incomplete", "is_predecessor")
        }
        for name in dict.fromkeys(name for point in points for name in point.dimensions):
            title = f"dimension_{name}" if name in columns | marks else name
            columns[title] = ("text", [_dimension(point.dimensions.get(name)) for point in points])
        return make_table(columns | marks)


def metrics_request(metric_name: str, asked: Mapping[str, Any]) -> Request[Metrics]:
    """Ask for a metric.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    return Request(PATH, read_metrics, metrics_parameters(metric_name, asked))


def metrics_parameters(metric_name: str, asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The query string of `/api/v1/metrics`, and of its stream."""
    return [("metric_name", metric_name), *write_parameters(asked, MetricsQuery, joined=_JOINED)]


def read_metrics(answer: Answer) -> Metrics:
    """The answer of `/api/v1/metrics`."""
    return metrics_of(answer.json())


def metrics_of(content: Mapping[str, Any]) -> Metrics:
    """The content of such an answer."""
    result = content["result"]
    return Metrics(
        result["metric_name"],
        result["interval"],
        read_time(result["start_time"]),
        read_time(result["end_time"]),
        result["aggregation"],
        points_of(result["data_points"]),
        content["cached"],
        tuple(content.get("warnings") or ()),
    )


def points_of(items: Sequence[Mapping[str, Any]]) -> tuple[Point, ...]:
    """Points, as answers and streams have them."""
    return tuple(
        Point(
            read_time(item["timestamp"]),
            item["value"],
            item["dimensions"],
            **{name: item.get(name) for name in _ENDS},
            is_incomplete=item.get("incomplete") is True,
            is_predecessor=item.get("predecessor") is True,
        )
        for item in items
    )


def _dimension(value: object) -> str | None:
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
