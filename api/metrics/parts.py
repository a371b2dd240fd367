"""What of a metric a key may see that does not see all events: whole series that are made of its events alone.

Belongs here: choosing those series, or saying why there are none. Does not belong here: SQL (`repository`), keys.
"""

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.catalog import Aggregation, Metric, dimension_set_name
from api.errors import Forbidden
from api.metrics.points import ENDS

_BY_TYPE = "event_type"
_NEEDS_STATES = ENDS | {Aggregation.P50, Aggregation.P95, Aggregation.P99, Aggregation.DISTINCT}


def visible_set(
    metric: Metric, metric_name: str, aggregation: str, dimension_set: str, *, is_grouped: bool, reach: Reach
) -> str:
    """The dimension set whose rows answer, once those that the key does not see are left out.

    Without `group_by`, a total is that of the key's own values, where the metric is kept by exactly these dimensions.

    Raises:
        Forbidden: events that the key does not see are part of every row.
    """
    if reach.is_everything:
        return dimension_set
    _check_types(metric, metric_name, dimension_set, is_grouped, reach)
    names = {name for name, _ in reach.dimensions}
    if names <= set(dimension_set.split(",")):
        return dimension_set
    own = dimension_set_name(tuple(names))
    is_kept = own in map(dimension_set_name, metric.dimension_sets)
    if is_grouped or dimension_set or not is_kept:
        raise Forbidden(
            f"The key sees events by {own}, and this is not kept by {own}; "
            + (f"ask for group_by={own}, or leave it out." if is_kept else "no answer can be cut down to it.")
        )
    is_one_series = all(len(values) == 1 for _, values in reach.dimensions)
    if Aggregation(aggregation) in _NEEDS_STATES and not is_one_series:
        raise Forbidden(
            f"{aggregation} of several values together is not kept; ask for group_by={own} to see each."
        )
    return own


def _check_types(
    metric: Metric, metric_name: str, dimension_set: str, is_grouped: bool, reach: Reach
) -> None:
    if reach.event_types is None:
        return
    if _BY_TYPE in dimension_set.split(","):
        is_visible = is_grouped or reach.has_type(metric_name.removeprefix(f"{metric.name}."))
    else:
        is_visible = bool(metric.event_types) and all(map(reach.has_type, metric.event_types))
    if not is_visible:
        raise Forbidden(
            "Events of types that the key does not see are part of this metric; events.count.<type> and "
            "events.count with group_by=event_type can be had for its own."
        )
