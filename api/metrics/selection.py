"""Which stored series answer: the dimension set that is read, and the dimensions that are left of it.

Belongs here: that choice, by what is grouped by, filtered by, and may be seen. Does not belong here: SQL
(`statements`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from analytics_pipeline.events.reach import EVERYTHING, Reach
from analytics_pipeline.rollups.catalog import (
    SKIPPED,
    Aggregation,
    Kind,
    Metric,
    Selection,
    dimension_set_name,
)
from api.errors import invalid_parameter
from api.metrics.filters import DIMENSION, DimensionFilter
from api.metrics.measures import ENDS
from api.metrics.parts import check_visible


@dataclass(frozen=True, slots=True)
class Series:
    """Series of a metric.

    Attributes:
        dimension_set: whose rows are read, as it is stored: '' for totals.
        shown: dimensions of a point, sorted; None where a point is a total and shows none.
        filters: what the stored series have to fit.
        reach: what they have to be in, besides.
        is_carried: whether the last value of each stored series holds until its next one, and a point is the sum.
    """

    dimension_set: str = ""
    shown: tuple[str, ...] | None = None
    filters: tuple[DimensionFilter, ...] = ()
    reach: Reach = EVERYTHING
    is_carried: bool = False

    @property
    def stored(self) -> tuple[str, ...]:
        """The dimensions of the rows that are read."""
        return _names(self.dimension_set)

    @property
    def is_added_up(self) -> bool:
        """Whether several stored series may be in one point."""
        if self.dimension_set in ("", SKIPPED):
            return False
        pinned = {one.name for one in self.filters if one.pins}
        return not set(self.stored) <= pinned | set(self.shown or ())


def read_group_by(text: str | None) -> tuple[str, ...] | None:
    """The dimensions to group by, sorted; None for a total."""
    return None if text is None else tuple(sorted({part.strip() for part in text.split(",")}))


def choose(
    selection: Selection,
    aggregation: str,
    group_by: tuple[str, ...] | None,
    filters: Sequence[DimensionFilter],
    reach: Reach,
) -> Series:
    """The series that answer.

    Raises:
        BadRequest: the metric is not kept by these dimensions, or its series cannot be added up.
        Forbidden: no series of the metric is made of what may be seen alone.
    """
    metric = selection.metric
    if aggregation == Aggregation.SKIPPED.value:
        if group_by is not None or filters:
            raise invalid_parameter(
                "group_by" if group_by is not None else DIMENSION.name,
                "what is skipped is counted in total alone",
            )
        found = Series(SKIPPED, reach=reach)
    elif metric.is_carried and aggregation == Aggregation.LAST.value and _is_summed(metric, group_by):
        found = Series(_carried_set(metric, filters), group_by, tuple(filters), reach, is_carried=True)
    else:
        found = Series(_set(selection, group_by, filters, reach), group_by, tuple(filters), reach)
        _check_sums(selection, aggregation, found)
    check_visible(
        metric, selection.metric_name, found.dimension_set, is_grouped=group_by is not None, reach=reach
    )
    return found


def groupings(metric: Metric) -> str:
    """The dimension sets of a metric, for people."""
    return ", ".join(dimension_set_name(dimensions) for dimensions in metric.dimension_sets if dimensions)


def _is_summed(metric: Metric, group_by: tuple[str, ...] | None) -> bool:
    return set(group_by or ()) < set(metric.dimension_sets[0])


def _carried_set(metric: Metric, filters: Sequence[DimensionFilter]) -> str:
    [stored] = metric.dimension_sets
    if not {one.name for one in filters} <= set(stored):
        raise invalid_parameter(DIMENSION.name, f"this metric is kept by {groupings(metric)}")
    return dimension_set_name(stored)


def _set(
    selection: Selection,
    group_by: tuple[str, ...] | None,
    filters: Sequence[DimensionFilter],
    reach: Reach,
) -> str:
    """The smallest dimension set that tells apart what has to be."""
    metric = selection.metric
    filtered = {one.name for one in filters}
    needed = {*(group_by or ()), *filtered, *_names(selection.dimension_set)}
    seen = {name for name, _ in reach.dimensions}
    for wanted in (needed | seen, needed):
        fitting = [set(one) for one in metric.dimension_sets if wanted <= set(one)]
        if fitting:
            return min(
                (dimension_set_name(tuple(one)) for one in fitting),
                key=lambda name: (len(_names(name)), name),
            )
    if not needed:  # no total is kept: let it be said what there is
        return dimension_set_name(metric.dimension_sets[0])
    known = groupings(metric)
    place = "group_by" if group_by is not None else DIMENSION.name
    raise invalid_parameter(
        place,
        f"this metric has {known}" + (", each by itself" if "," in known else "")
        if known
        else "this metric has no dimensions",
    )


def _check_sums(selection: Selection, aggregation: str, found: Series) -> None:
    metric = selection.metric
    if selection.dimension_set or not found.is_added_up:
        return
    if not metric.has_total:
        raise invalid_parameter(
            "group_by",
            f"this metric has no total: group by {groupings(metric)}, or ask for one value of it",
        )
    if metric.kind is Kind.ENDS and aggregation in ENDS:
        raise invalid_parameter(
            "aggregation", "first and last values of several series together are not kept; group by them"
        )


def _names(dimension_set: str) -> tuple[str, ...]:
    return tuple(dimension_set.split(",")) if dimension_set else ()
