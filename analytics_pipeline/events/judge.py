"""Which definition an event type falls under, and whether it may come without one."""

from collections.abc import Mapping
from typing import Any

from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.reasons import Reason

BUILT_IN_TYPES = frozenset(
    {
        "order.placed", "order.filled", "order.canceled", "order.rejected",
        "strategy.started", "strategy.stopped", "signal.generated",
        "position.opened", "position.closed", "balance.updated", "market.data.update", "alert.triggered",
        "user.login", "user.logout", "page.view", "button.click",
    }
)  # fmt: skip
"""Types of the trading system, which need no definition."""


def judge(
    event_type: str, properties: Mapping[str, Any], definitions: Definitions, limits: Limits
) -> int | None:
    """Apply the definition of the type; return the version that judged, None without one.

    Raises:
        Rejected: schema_violation, or unknown_event_type where only known types are allowed.
    """
    definition = definitions.by_type.get(event_type)
    try:
        if definition is not None:
            definition.check(properties)
            return definition.version
        if limits.strict_types and event_type not in BUILT_IN_TYPES:
            raise Rejected(Reason.UNKNOWN_EVENT_TYPE, path="$.event_type")
    except Rejected as rejected:
        rejected.event_type = event_type
        raise
    return None
