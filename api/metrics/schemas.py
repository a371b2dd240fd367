"""The documented shapes of answers of `/api/v1/metrics`.

Belongs here: models for the documentation. Does not belong here: parameters (`query`), making answers (`answers`).
"""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


class DataPoint(BaseModel):
    """One bucket; fields that may be absent are there only if they say something."""

    timestamp: datetime = Field(description="Start of the bucket.", examples=["2026-01-31T12:00:00Z"])
    value: float | None = Field(
        description="With `ohlc`, the same as `close`; null only with `fill`.", examples=[4500]
    )
    dimensions: dict[str, Any] = Field(description="Empty for totals.", examples=[{"symbol": "BTCUSDT"}])
    open: float | None = Field(default=None, description="Only with `ohlc`: the first value.")
    high: float | None = Field(default=None, description="Only with `ohlc`: the largest.")
    low: float | None = Field(default=None, description="Only with `ohlc`: the smallest.")
    close: float | None = Field(default=None, description="Only with `ohlc`: the last.")
    state: Literal["open", "settling", "final", "restated"] | None = Field(
        description="Of the bucket: not over or not merged yet; over; over by its grace, with nothing outstanding; "
        "changed after that. null: nothing at all has landed in it.",
        examples=["final"],
    )
    revision: int = Field(
        description="How often the bucket was changed by merges and recomputes.", examples=[3]
    )
    pending: bool | None = Field(
        default=None,
        description="Only if true: events have landed in the bucket since its last merge. They are counted.",
    )
    incomplete: bool | None = Field(
        default=None, description="Only if true: events are missing until a backfill has read them."
    )
    predecessor: bool | None = Field(
        default=None, description="Only if true: from an earlier definition of the metric."
    )
    filled: bool | None = Field(default=None, description="Only if true: `fill` put it there.")
    unbounded: bool | None = Field(
        default=None,
        description="Only if true: a quantile whose relative_error does not hold, as values of the bucket span more "
        "than 8e8 to 1; the true one is no larger in magnitude.",
    )
    count: int | None = Field(
        default=None,
        description="Only with `counts=1`: how many events the value is made of; of a ratio those it is divided by.",
    )
    late_count: int | None = Field(
        default=None,
        description="Only with `counts=1`: how many events of the bucket, whatever their type, came after their "
        "minute and the grace. Absent for a key that sees only a part of events.",
    )
    compared: float | None = Field(
        default=None, description="Only with `compare`: the earlier value, or null."
    )
    compared_unbounded: bool | None = Field(
        default=None, description="Only if true: `compared` is a quantile whose relative_error does not hold."
    )
    change: float | None = Field(default=None, description="Only with `compare`: value − compared.")
    change_percent: float | None = Field(
        default=None, description="Only with `compare`: 100 × change ÷ |compared|; null where that is 0."
    )


class DayVersion(BaseModel):
    """What a UTC day's data was when it was read."""

    day: date
    revision: int = Field(description="Raised by every merge and recompute that touches the day.")
    pending_batches: int | None = Field(
        default=None, description="Absent for a key that sees only a part of events."
    )


class Explanation(BaseModel):
    """What an answer was made of."""

    cache: Literal["hit", "miss"]
    level: str = Field(description="The interval whose rows were read.", examples=["1h"])
    rows_read: dict[str, int] = Field(examples=[{"settled": 24, "pending": 3}])
    days: list[DayVersion]


class MetricResult(BaseModel):
    """The points, oldest first unless `order=desc`."""

    metric_name: str = Field(examples=["events.count.order.placed"])
    interval: str = Field(examples=["1h"])
    start_time: datetime
    end_time: datetime
    data_points: list[DataPoint]
    total_count: int = Field(description="How many points.", examples=[24])
    aggregation: str = Field(examples=["count"])
    time_zone: str = Field(description="In which days begin.", examples=["UTC"])
    precision: Literal["exact", "bounded", "unbounded", "estimated"] = Field(
        description="How far values may be off: not at all; at most relative_error, as quantiles; the same, but for "
        "what is marked `unbounded` or `compared_unbounded`; by relative_error as a rule (one standard deviation), as "
        "counts of more than 1,024 distinct values."
    )
    relative_error: float = Field(examples=[0.0])
    next_cursor: str | None = Field(default=None, description="Only if more points follow.")
    explain: Explanation | None = Field(default=None, description="Only with `explain=1`.")


class MetricsAnswer(BaseModel):
    """Metrics over time: settled rollups plus what has landed since, in one snapshot."""

    cached: bool = Field(description="Whether it came from the cache; it is valid either way.")
    result: MetricResult | None = Field(default=None, description="Of one metric.")
    results: list[MetricResult] | None = Field(
        default=None, description="Instead of `result`, of several metrics: in the order asked for."
    )
    warnings: list[str] | None = Field(default=None, description="Only when there is something to say.")
