"""Event types in declarations that nothing else knows: allowed, and most often a slip of the pen.

Belongs here: the sentences. Does not belong here: which types are known (`events.judge`, definitions, stored events),
and what is refused (`declarations`).
"""

import difflib
from collections.abc import Collection, Iterable, Iterator

from analytics_pipeline.rollups.catalog import Metric

_NEAR = 0.85
"""order.filled is as near to order.filed, order.fill and order_filled; order.rejected is not to order.expired."""


def warnings(metrics: Iterable[Metric], known: Collection[str], *, is_all_known: bool) -> Iterator[str]:
    """A sentence for each type in question, which begins with the place of its metric.

    Args:
        metrics: the declarations to look at.
        known: event types that are built in, defined, or came lately.
        is_all_known: whether these are all; if not, only types that are nearly one of them are in question.
    """
    for metric in metrics:
        if metric.property_name is not None:
            continue
        for one in metric.event_types:
            near = difflib.get_close_matches(one, known, n=1, cutoff=_NEAR)
            if one in known or not (near or is_all_known):
                continue
            hint = f"did you mean {near[0]}?" if near else "it counts nothing until such events come"
            yield f"{metric.declared_at}: metric {metric.name!r}: {one} is no built-in or defined type: {hint}"
