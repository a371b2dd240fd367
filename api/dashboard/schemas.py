"""The dashboard's ten fields and the windows they look at.

Belongs here: windows and shapes. Does not belong here: SQL (`repository`).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field

from api.times import floor_time, format_time


@dataclass(frozen=True, slots=True)
class Windows:
    """Whole minutes plus the open one, seen from `now`."""

    now: datetime

    @property
    def end(self) -> datetime:
        """End of the open minute."""
        return floor_time(self.now, 60) + timedelta(minutes=1)

    @property
    def rate(self) -> datetime:
        """Events per second: since the previous minute began."""
        return floor_time(self.now, 60) - timedelta(minutes=1)

    @property
    def active(self) -> datetime:
        """Active users and strategies: the last 5 whole minutes."""
        return floor_time(self.now, 60) - timedelta(minutes=5)

    @property
    def hour(self) -> datetime:
        """Orders, volume, latency, errors: the last 60 whole minutes."""
        return floor_time(self.now, 60) - timedelta(minutes=60)

    @property
    def elapsed(self) -> float:
        """Seconds that the events of `rate` took: 60 to 120."""
        return (self.now - self.rate).total_seconds()

    @property
    def canonical(self) -> str:
        """One text a second."""
        return f"dashboard\n{format_time(self.now)}"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the repository finds."""

    active_users: int
    events: int
    orders_placed: int
    orders_filled: int
    orders_rejected: int
    active_strategies: int
    total_volume: float
    average_latency: float
    custom: dict[str, float]


class DashboardAnswer(BaseModel):
    """Live numbers of the trading system. Windows are whole minutes plus the open one."""

    active_users: int = Field(description="Distinct users of 5 minutes.", examples=[150])
    events_per_second: float = Field(
        description="Events since the previous minute began, by seconds elapsed.", examples=[45.2]
    )
    orders_placed: int = Field(description="In one hour.", examples=[1000])
    orders_filled: int = Field(description="In one hour.", examples=[950])
    active_strategies: int = Field(description="Distinct strategies of 5 minutes.", examples=[5])
    total_volume: float = Field(
        description="Price × quantity of filled orders in one hour.", examples=[1500000.0]
    )
    average_latency: float = Field(description="Of filled orders in one hour, in ms.", examples=[12.5])
    error_rate: float = Field(description="Orders rejected ÷ placed in one hour, 0 to 1.", examples=[0.01])
    custom_metrics: dict[str, float] = Field(
        description="The average over one hour of each numeric property that a custom event definition has.",
        examples=[{"custom.trading.signal.strength": 0.85}],
    )
    last_updated: datetime


class QueryBody(BaseModel):
    """What a page shows, in one call."""

    queries: list[dict[str, Any]] = Field(
        min_length=1,
        description="Each has an `id` (its place, if absent) and either `tiles`, fields of GET "
        "/api/v1/dashboard/metrics, or the parameters of GET /api/v1/metrics as fields: text or a whole number, or a "
        "list where a parameter repeats.",
    )
    after: str | None = Field(
        default=None,
        description="As `after` of GET /api/v1/metrics: the answer comes when this has landed, and holds it.",
    )


class QueryResult(BaseModel):
    """The answer to one query."""

    id: str = Field(examples=["volume"])
    status: int = Field(description="As its own request would have had.", examples=[200])
    body: dict[str, Any] = Field(
        description="What GET /api/v1/metrics answers, or the tiles; with another status than 200 the problem."
    )


class QueryAnswer(BaseModel):
    """All of it from one snapshot, in the order of the queries."""

    cached: bool = Field(description="Whether it came from the cache; it is valid either way.")
    results: list[QueryResult]


EXAMPLE_QUERY = {
    "queries": [
        {"id": "now", "tiles": ["active_users", "events_per_second"]},
        {"id": "volume", "metric_name": "trading.total_volume", "interval": "1h", "group_by": "symbol"},
    ]
}
