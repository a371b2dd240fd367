"""Metrics over time: what can be asked, the points that come, and the table of them.

Belongs here: parameters and answers of `GET /api/v1/metrics`. Does not belong here: pyarrow (`arrow`), sending
(`transport`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from b25_client.arrow import make_table
from b25_client.filters import Filter
from b25_client.request import Request, read_time, write_parameters

if TYPE_CHECKING:
    import pyarrow as pa

PATH = "/api/v1/metrics"
_JOINED = frozenset({"group_by"})
_FLAGS = frozenset({"counts", "explain"})
_ENDS = ("open", "high", "low", "close")
_COMPARED = ("compared", "change", "change_percent")
_MARKS = ("is_incomplete", "is_predecessor", "is_pending", "is_filled", "is_unbounded")


class MetricsQuery(TypedDict, total=False):
    """Keyword arguments that narrow metrics down; see docs/metrics.md.

    `start_time` and `end_time` are the half-open range, default the last 24 hours; `last` stands instead of them.
    Several values of `dimension` must all fit. `limit` is the size of a page. `after` is a landing token of posted
    events, or `topic:partition:offset`: the answer comes when that has landed, and holds it.
    """

    interval: str
    start_time: datetime | str
    end_time: datetime | str
    aggregation: str
    group_by: str | Sequence[str]
    last: timedelta | str
    dimension: Filter | str | Sequence[Filter | str]
    top: int
    fill: Literal["none", "null", "zero", "previous"]
    time_zone: str
    compare: Literal["previous", "1d", "7d"]
    order: Literal["asc", "desc"]
    limit: int
    cursor: str
    max_points: int
    counts: bool
    explain: bool
    after: str


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket.

    Attributes:
        timestamp: start of the bucket.
        value: with `aggregation="ohlc"` the same as `close`; None only with `fill`.
        dimensions: what it is grouped by; empty for totals.
        is_incomplete: events are missing until a backfill has read them.
        is_predecessor: from an earlier definition of the metric.
        state: of the bucket: open, settling, final or restated; None if nothing has landed in it.
        revision: how often the bucket was changed.
        is_pending: events have landed in the bucket since its last merge; they are counted.
        is_filled: `fill` put it there.
        is_unbounded: a quantile for which `relative_error` does not hold: the true one is no larger in magnitude.
        is_compared_unbounded: the same of `compared`.
        count: with `counts`, how many events the value is made of; of a ratio those it is divided by.
        late_count: with `counts`, how many events of the bucket, whatever their type, were late; None for a key that
            sees only a part of events.
        compared: with `compare`, the earlier value.
        change: value − compared.
        change_percent: 100 × change ÷ |compared|.
        metric_name: in a stream of several metrics, which one it belongs to.
    """

    timestamp: datetime
    value: float | None
    dimensions: Mapping[str, Any]
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    is_incomplete: bool = False
    is_predecessor: bool = False
    state: str | None = None
    revision: int = 0
    is_pending: bool = False
    is_filled: bool = False
    compared: float | None = None
    change: float | None = None
    change_percent: float | None = None
    count: int | None = None
    metric_name: str | None = None
    is_unbounded: bool = False
    late_count: int | None = None
    is_compared_unbounded: bool = False


@dataclass(frozen=True, slots=True)
class Metrics:
    """A metric over time, oldest first unless `order` says otherwise.

    Attributes:
        precision: exact; bounded: off by at most `relative_error`; unbounded: the same, but for points marked so;
            estimated: by that as a rule.
        next_cursor: leads to the page behind this one, if there is one.
        explain: with `explain`, what was read.
        is_cached: whether it came from the service's cache; it is valid either way.
        warnings: what the service remarks, such as that it has no metric of this name.
        group_by: the dimensions that were asked for; `to_arrow` has their columns, whether or not there are points.
    """

    metric_name: str
    interval: str
    start_time: datetime
    end_time: datetime
    aggregation: str
    points: tuple[Point, ...]
    is_cached: bool = False
    warnings: tuple[str, ...] = ()
    time_zone: str = "UTC"
    precision: str = "exact"
    relative_error: float = 0.0
    next_cursor: str | None = None
    explain: Mapping[str, Any] | None = None
    is_compared: bool = False
    group_by: tuple[str, ...] = ()

    def to_arrow(self) -> "pa.Table":
        """One row a point: `timestamp`, `value`, each dimension as text, `state`, `revision`, `is_…`.

        With `ohlc` also `open`, `high`, `low` and `close`; with `counts` also `count` and `late_count`; with
        `compare` also `compared`, `change`, `change_percent` and `is_compared_unbounded`. A dimension that has the
        name of another column is called `dimension_<name>`.

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
        if any(point.count is not None for point in points):
            columns["count"] = ("whole", [point.count for point in points])
        if any(point.late_count is not None for point in points):
            columns["late_count"] = ("whole", [point.late_count for point in points])
        if self.is_compared:
            columns |= {name: ("number", [getattr(point, name) for point in points]) for name in _COMPARED}
        marks: dict[str, tuple[str, list[Any]]] = {
            "state": ("text", [point.state for point in points]),
            "revision": ("whole", [point.revision for point in points]),
        }
        names = (*_MARKS, "is_compared_unbounded") if self.is_compared else _MARKS
        marks |= {name: ("truth", [getattr(point, name) for point in points]) for name in names}
        for name in dict.fromkeys((*self.group_by, *(name for point in points for name in point.dimensions))):
            title = f"dimension_{name}" if name in columns | marks else name
            columns[title] = ("text", [_dimension(point.dimensions.get(name)) for point in points])
        return make_table(columns | marks)


def metrics_request(metric_name: str, asked: Mapping[str, Any]) -> Request[Metrics]:
    """Ask for a metric.

    Raises:
        TypeError, ValueError: an argument is not known, or cannot be written.
    """
    return Request(
        PATH, lambda answer: _only(metrics_of(answer.json(), asked)), metrics_parameters([metric_name], asked)
    )


def several_request(metric_names: Sequence[str], asked: Mapping[str, Any]) -> Request[tuple[Metrics, ...]]:
    """Ask for several metrics, of one moment."""
    return Request(
        PATH, lambda answer: metrics_of(answer.json(), asked), metrics_parameters(metric_names, asked)
    )


def request_behind(page: Metrics, asked: Mapping[str, Any]) -> Request[Metrics] | None:
    """Ask for the page that follows one; None behind the last."""
    if page.next_cursor is None:
        return None
    rest = {name: value for name, value in asked.items() if name != "after"}
    return metrics_request(page.metric_name, rest | {"cursor": page.next_cursor})


def metrics_parameters(metric_names: Sequence[str], asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The query string of `/api/v1/metrics`, and of its stream."""
    told = dict(asked)
    for flag in _FLAGS & told.keys():
        told[flag] = int(bool(told[flag]))
    names = [("metric_name", name) for name in metric_names]
    return names + write_parameters(told, MetricsQuery, joined=_JOINED)


def metrics_of(content: Mapping[str, Any], asked: Mapping[str, Any] = {}) -> tuple[Metrics, ...]:
    """The metrics of an answer of `/api/v1/metrics`, in the order asked for."""
    results = content["results"] if "results" in content else [content["result"]]
    group_by = asked.get("group_by") or ()
    names = group_by.split(",") if isinstance(group_by, str) else group_by
    grouped = tuple(name.strip() for name in names)
    return tuple(_metrics(result, content, grouped) for result in results)


def _metrics(result: Mapping[str, Any], content: Mapping[str, Any], group_by: tuple[str, ...]) -> Metrics:
    points = result["data_points"]
    return Metrics(
        result["metric_name"],
        result["interval"],
        read_time(result["start_time"]),
        read_time(result["end_time"]),
        result["aggregation"],
        points_of(points),
        content["cached"],
        tuple(content.get("warnings") or ()),
        result.get("time_zone", "UTC"),
        result.get("precision", "exact"),
        result.get("relative_error", 0.0),
        result.get("next_cursor"),
        result.get("explain"),
        any("compared" in point for point in points),
        group_by,
    )


def _only(found: tuple[Metrics, ...]) -> Metrics:
    [one] = found
    return one


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
            state=item.get("state"),
            revision=item.get("revision", 0),
            is_pending=item.get("pending") is True,
            is_filled=item.get("filled") is True,
            **{name: item.get(name) for name in _COMPARED},
            count=item.get("count"),
            metric_name=item.get("metric_name"),
            is_unbounded=item.get("unbounded") is True,
            late_count=item.get("late_count"),
            is_compared_unbounded=item.get("compared_unbounded") is True,
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
