"""The dashboard's ten numbers, and whether the service is well.

Belongs here: answers without questions. Does not belong here: metrics over time (`metrics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from b25_client.request import Answer, Request, read_time

PATH = "/api/v1/dashboard/metrics"
HEALTH_PATH = "/health"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Live numbers. Windows are whole minutes plus the open one.

    Attributes:
        active_users: distinct, in 5 minutes.
        events_per_second: since the previous minute began.
        orders_placed: in one hour.
        orders_filled: in one hour.
        active_strategies: distinct, in 5 minutes.
        total_volume: price × quantity of filled orders in one hour.
        average_latency: of filled orders in one hour, ms.
        error_rate: orders rejected ÷ placed in one hour.
        custom_metrics: the average over one hour of each numeric property of custom events.
        last_updated: when they were true.
    """

    active_users: int
    events_per_second: float
    orders_placed: int
    orders_filled: int
    active_strategies: int
    total_volume: float
    average_latency: float
    error_rate: float
    custom_metrics: Mapping[str, float]
    last_updated: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """State of the service and of what it depends on; `degraded` answers everything, only slower."""

    status: Literal["healthy", "degraded", "unhealthy"]
    database: str
    cache: str
    service: str
    timestamp: datetime
    detail: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.status != "unhealthy"


def dashboard_request(after: str | None = None) -> Request[Dashboard]:
    """Ask for the dashboard, as soon as what `after` names has landed."""
    return Request(
        PATH, lambda answer: dashboard_of(answer.json()), [] if after is None else [("after", after)]
    )


def health_request() -> Request[Health]:
    """Ask whether the service is well; that it is not is an answer, too."""
    return Request(HEALTH_PATH, _read_health, answers=frozenset({200, 503}))


def dashboard_of(content: Mapping[str, Any]) -> Dashboard:
    """The dashboard, as answers and streams have it."""
    return Dashboard(
        content["active_users"],
        content["events_per_second"],
        content["orders_placed"],
        content["orders_filled"],
        content["active_strategies"],
        content["total_volume"],
        content["average_latency"],
        content["error_rate"],
        content["custom_metrics"],
        read_time(content["last_updated"]),
    )


def _read_health(answer: Answer) -> Health:
    content = answer.json()
    return Health(
        content["status"],
        content["database"],
        content["cache"],
        content["service"],
        read_time(content["timestamp"]),
        content.get("detail"),
    )
