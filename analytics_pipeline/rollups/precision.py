"""How exact an aggregation is: bounds that follow from the kind of state a metric keeps.

Belongs here: the numbers, for programs. Does not belong here: the states that have these bounds (`states`), and the
words of the catalog's page (`catalog_page`).
"""

from typing import NamedTuple

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Aggregation, Kind, Metric

DISTINCT_ERROR = round((states.DISTINCT_SIZE - 2) ** -0.5, 4)
"""The relative standard deviation of a KMV estimate with k hashes, 1 / √(k − 2) (Bar-Yossef et al.)."""

QUANTILES = frozenset({Aggregation.P50, Aggregation.P95, Aggregation.P99})


class Bound(NamedTuple):
    """How far a value may be from the true one.

    Attributes:
        relative: the most it can be off, as a part of the true value; None where there is no such limit.
        standard: one standard deviation, as a part of the true value; None where chance plays no part.
        exact_up_to: values up to this one are exact; None: there is no such number.
    """

    relative: float | None = None
    standard: float | None = None
    exact_up_to: int | None = None


_QUANTILE = Bound(relative=states.RELATIVE_ERROR)
_DISTINCT = Bound(standard=DISTINCT_ERROR, exact_up_to=states.DISTINCT_SIZE)


def bounds_of(metric: Metric) -> dict[Aggregation, Bound]:
    """The bounds of those aggregations of a metric that are not exact."""
    found = {}
    for aggregation in metric.aggregations:
        if metric.kind is Kind.QUANTILE and aggregation in QUANTILES:
            found[aggregation] = _QUANTILE
        elif metric.kind is Kind.DISTINCT and aggregation is Aggregation.DISTINCT:
            found[aggregation] = _DISTINCT
    return found
