"""The part of the catalog that a key may ask for: metrics, groupings and aggregations whose points it would be shown.

Belongs here: asking the rules of metrics what they would refuse. Does not belong here: those rules (`metrics.parts`),
shapes (`schemas`), SQL (`repository`).
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.catalog import SKIPPED, Aggregation, Catalog, Metric, dimension_set_name
from api.errors import Forbidden
from api.metrics.parts import visible_set


class Visible(NamedTuple):
    """A metric as a key sees it.

    Attributes:
        metric: its declaration.
        aggregations: those that it may ask for, the default first if it is among them.
        dimension_sets: what it may group by.
        has_total: whether it may ask without `group_by`, in the default aggregation.
    """

    metric: Metric
    aggregations: tuple[Aggregation, ...]
    dimension_sets: tuple[tuple[str, ...], ...]
    has_total: bool


def visible_metrics(catalog: Catalog, reach: Reach) -> list[Visible]:
    """The metrics of which there is something to see, in the order of the catalog."""
    return [found for metric in catalog.metrics if (found := _visible(metric, reach)) is not None]


def stored_sets(metric: Metric, dimension: str, reach: Reach) -> list[str]:
    """The dimension sets of a metric that tell values of a dimension, as stored, whose series the key sees."""
    return [
        name
        for one in metric.dimension_sets
        if dimension in one
        and _may(metric, metric.default_aggregation, name := dimension_set_name(one), reach)
    ]


def _visible(metric: Metric, reach: Reach) -> Visible | None:
    sets = {one: dimension_set_name(_stored(metric, one)) for one in _groupings(metric)}
    has_total = metric.has_total or metric.is_carried
    total = dimension_set_name(_stored(metric, ()))
    offered = (*metric.aggregations, *([Aggregation.SKIPPED] if metric.is_summed else []))
    aggregations = tuple(
        one
        for one in offered
        if (
            _may(metric, one, SKIPPED, reach, is_grouped=False)
            if one is Aggregation.SKIPPED
            else (has_total and _may(metric, one, total, reach, is_grouped=False))
            or any(_may(metric, one, name, reach) for name in sets.values())
        )
    )
    if not aggregations:
        return None
    default = metric.default_aggregation
    return Visible(
        metric,
        aggregations,
        tuple(one for one, name in sets.items() if _may(metric, default, name, reach)),
        has_total and _may(metric, default, total, reach, is_grouped=False),
    )


def _groupings(metric: Metric) -> Iterator[tuple[str, ...]]:
    """What `group_by` takes: the sets that are kept, and where last values are carried every part of them."""
    for one in metric.dimension_sets:
        if one:
            yield tuple(sorted(one))
            if metric.is_carried:
                for size in range(len(one) - 1, 0, -1):
                    yield from combinations(sorted(one), size)


def _stored(metric: Metric, asked: tuple[str, ...]) -> tuple[str, ...]:
    return metric.dimension_sets[0] if metric.is_carried else asked


def _may(
    metric: Metric, aggregation: Aggregation, dimension_set: str, reach: Reach, *, is_grouped: bool = True
) -> bool:
    try:
        visible_set(metric, metric.name, aggregation, dimension_set, is_grouped=is_grouped, reach=reach)
    except Forbidden:
        return False
    return True
