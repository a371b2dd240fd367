"""What a point is: the aggregations that a metric declares, any quantile of its states, and rates.

Belongs here: their names, what each needs of the rows, how exact each is. Does not belong here: arithmetic over rows
(`values`), declarations (`analytics_pipeline.rollups.catalog`).
"""

import re
from decimal import Decimal
from typing import NamedTuple

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Aggregation, Kind, Metric
from analytics_pipeline.rollups.precision import DISTINCT_ERROR
from api.errors import invalid_parameter
from api.parameters import Parameter, Query

RATE = "rate"
"""Per second of the bucket: the sum of metrics whose default is the sum, of others the count."""

ENDS = frozenset({"first", "last", "ohlc"})
"""Read from the first and the last value."""

STORED_QUANTILES = ("p50", "p95", "p99")
"""Kept as columns beside the states."""

AGGREGATION = Parameter(
    "aggregation",
    "What a point is: "
    + ", ".join(one.value for one in Aggregation if not one.value.startswith("p"))
    + ", rate (per second), or a quantile such as p95 or p99.9. Default: the metric's own, such as the sum of a volume "
    "or the count of events.",
    "sum",
    (("type", "string"), ("pattern", "^([a-z]+|p[0-9]{1,3}(\\.[0-9]{1,6})?)$")),
)
_QUANTILE = re.compile(r"p([0-9]{1,3}(?:\.[0-9]{1,6})?)", re.ASCII)
_PLAIN = frozenset(one.value for one in Aggregation) - set(STORED_QUANTILES) | {RATE}


class Precision(NamedTuple):
    """How far values may be off."""

    name: str
    relative_error: float


EXACT = Precision("exact", 0.0)
OF_QUANTILES = Precision("bounded", states.RELATIVE_ERROR)
OF_WIDE_QUANTILES = Precision("unbounded", states.RELATIVE_ERROR)
"""Some of the quantiles have no bound, and are marked so; it holds for the others."""
OF_DISTINCT = Precision("estimated", DISTINCT_ERROR)


def read_aggregation(query: Query) -> str | None:
    """The aggregation asked for, in its one spelling.

    Raises:
        BadRequest: there is none of this name.
    """
    text = query.text(AGGREGATION)
    if text is None or text in _PLAIN:
        return text
    match = _QUANTILE.fullmatch(text)
    if match is None:
        known = ", ".join(sorted(_PLAIN))
        raise invalid_parameter(
            AGGREGATION.name, f"must be one of {known}, or a quantile such as p95 or p99.9"
        )
    percent = Decimal(match[1])
    if percent > 100:
        raise invalid_parameter(AGGREGATION.name, "quantiles are from p0 to p100")
    return f"p{percent.normalize():f}"


def quantile_of(aggregation: str) -> float | None:
    """The quantile, 0 to 1, or None if it is another aggregation."""
    return float(Decimal(aggregation[1:]) / 100) if _QUANTILE.fullmatch(aggregation) else None


def aggregation_of(metric: Metric, asked: str | None) -> str:
    """The aggregation of a metric's points.

    Raises:
        BadRequest: the metric does not have the one that is asked for.
    """
    if asked is None:
        return metric.default_aggregation.value
    allowed, any_quantile = offered(metric), has_quantiles(metric)
    if asked not in allowed and not (any_quantile and quantile_of(asked) is not None):
        more = ", and any quantile from p0 to p100" if any_quantile else ""
        raise invalid_parameter(AGGREGATION.name, f"this metric has {', '.join(allowed)}{more}")
    return asked


def offered(metric: Metric) -> tuple[str, ...]:
    """The aggregations that points of a metric may have, its default first; beside them any quantile of some."""
    found = [one.value for one in metric.aggregations]
    if metric.is_summed:
        found.append(Aggregation.SKIPPED.value)
    if metric.ratio is None and metric.kind is not Kind.DISTINCT:
        found.append(RATE)
    return tuple(found)


def has_quantiles(metric: Metric) -> bool:
    """Whether any quantile may be asked for."""
    return metric.kind is Kind.QUANTILE and any(
        quantile_of(one.value) is not None for one in metric.aggregations
    )


def needs_states(aggregation: str) -> bool:
    """Whether it is read from states."""
    return (
        aggregation in ENDS
        or aggregation == Aggregation.DISTINCT.value
        or quantile_of(aggregation) is not None
    )


def sums_up(metric: Metric) -> bool:
    """Whether its rate is that of its sum."""
    return metric.default_aggregation is Aggregation.SUM
