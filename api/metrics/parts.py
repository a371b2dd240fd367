"""What of a metric a key may see that does not see all events: whole series that are made of its events alone.

Belongs here: whether the series that were chosen are such, or saying why not. Does not belong here: choosing them
(`selection`), SQL (`repository`), keys.
"""

from collections.abc import Collection, Iterable

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.rollups.catalog import Metric, dimension_set_name
from api.errors import Forbidden
from api.metrics.service import END, Served
from api.times import format_time

_BY_TYPE = "event_type"


def check_visible(
    metric: Metric, metric_name: str, dimension_set: str, *, is_grouped: bool, reach: Reach
) -> None:
    """Refuse series of a dimension set that are not made of the key's events, or not told apart from others.

    Raises:
        Forbidden: events that the key does not see are part of every row.
    """
    if reach.is_everything:
        return
    _check_types(metric, metric_name, dimension_set, is_grouped, reach)
    names = {name for name, _ in reach.dimensions}
    if names <= set(dimension_set.split(",")):
        return
    own = dimension_set_name(tuple(names))
    is_kept = own in map(dimension_set_name, metric.dimension_sets)
    raise Forbidden(
        f"The key sees events by {own}, and this is not kept by {own}; "
        + (f"ask for group_by={own}, or leave it out." if is_kept else "no answer can be cut down to it.")
    )


def visible_versions(dimension_set: str, served: Iterable[Served], reach: Reach) -> list[Served]:
    """Versions of a metric whose series of a dimension set are made of the key's events, or told apart by type."""
    is_told_apart = reach.event_types is None or _BY_TYPE in dimension_set.split(",")
    return [one for one in served if is_told_apart or _are_seen(one.event_types, reach)]


def check_versions(dimension_set: str, served: Collection[Served], reach: Reach) -> None:
    """Refuse a time for which a version answers that counted events of other types than the metric does now.

    Raises:
        Forbidden: events that the key does not see are part of what that version counted.
    """
    visible = visible_versions(dimension_set, served, reach)
    if len(visible) < len(served):
        until = max(one.end for one in served if one not in visible)
        if until >= END:
            raise Forbidden(
                "What answers for this metric now was made of events of types that the key does not see."
            )
        raise Forbidden(
            f"Until {format_time(until)} the metric was made of events of types that the key does not see; ask for the "
            "time from then on, or have it backfilled."
        )


def _check_types(
    metric: Metric, metric_name: str, dimension_set: str, is_grouped: bool, reach: Reach
) -> None:
    if reach.event_types is None:
        return
    if _BY_TYPE in dimension_set.split(","):
        is_visible = (
            is_grouped
            or metric_name == metric.name
            or reach.has_type(metric_name.removeprefix(f"{metric.name}."))
        )
    else:
        is_visible = _are_seen(metric.event_types, reach)
    if not is_visible:
        raise Forbidden(
            "Events of types that the key does not see are part of this metric; events.count.<type> and "
            "events.count with group_by=event_type can be had for its own."
        )


def _are_seen(event_types: Collection[str], reach: Reach) -> bool:
    return bool(event_types) and all(map(reach.has_type, event_types))
