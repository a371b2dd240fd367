"""The part of the catalog that a key may ask for: metrics, groupings and aggregations whose points it would be shown.

Belongs here: asking the rules of metrics what they would refuse. Does not belong here: those rules
(`metrics.selection`), shapes (`schemas`), SQL (`repository`).
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.catalog import Catalog, Metric, Selection, dimension_set_name
from api.errors import BadRequest, Forbidden
from api.metrics import measures
from api.metrics.parts import check_visible
from api.metrics.selection import choose


class Visible(NamedTuple):
    """A metric as a key sees it.

    Attributes:
        metric: its declaration.
        aggregations: those that it may ask for, the default first if it is among them.
        dimension_sets: what it may group by.
        has_total: whether it may ask without `group_by`, in the default aggregation.
    """

    metric: Metric
    aggregations: tuple[str, ...]
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
        if dimension in one and _is_visible(metric, name := dimension_set_name(one), reach)
    ]


def _visible(metric: Metric, reach: Reach) -> Visible | None:
    groupings = tuple(_groupings(metric))
    aggregations = tuple(
        one
        for one in measures.offered(metric)
        if any(_may(metric, one, group_by, reach) for group_by in (None, *groupings))
    )
    if not aggregations:
        return None
    default = metric.default_aggregation.value
    return Visible(
        metric,
        aggregations,
        tuple(one for one in groupings if _may(metric, default, one, reach)),
        _may(metric, default, None, reach),
    )


def _groupings(metric: Metric) -> Iterator[tuple[str, ...]]:
    """What `group_by` takes: the sets that are kept, and where last values are carried every part of them."""
    for one in metric.dimension_sets:
        if one:
            yield tuple(sorted(one))
            if metric.is_carried:
                for size in range(len(one) - 1, 0, -1):
                    yield from combinations(sorted(one), size)


def _may(metric: Metric, aggregation: str, group_by: tuple[str, ...] | None, reach: Reach) -> bool:
    try:
        choose(Selection(metric, metric.name, ""), aggregation, group_by, (), reach)
    except (BadRequest, Forbidden):
        return False
    return True


def _is_visible(metric: Metric, dimension_set: str, reach: Reach) -> bool:
    try:
        check_visible(metric, metric.name, dimension_set, is_grouped=True, reach=reach)
    except Forbidden:
        return False
    return True
