"""Questions and answers about what can be asked for: the catalog, dimensions, and the values they have had.

Belongs here: parameters, cursors, and the documented shapes. Does not belong here: what a key sees (`visible`),
SQL (`repository`).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
from pydantic import BaseModel, Field

from analytics_pipeline.rollups.catalog import Aggregation
from analytics_pipeline.rollups.schema import LEVELS
from api.cursors import check_mark, other_question
from api.errors import invalid_parameter
from api.opaque import from_text, mark_of, to_text
from api.parameters import END_TIME, START_TIME, Parameter, Query
from api.times import days_of


def _text(longest: int) -> tuple[tuple[str, Any], ...]:
    return (("type", "string"), ("maxLength", longest))


_LONGEST_NAME, _LONGEST_PREFIX, _LONGEST_CURSOR = 520, 1024, 8192
PREFIX = Parameter("prefix", "Only values that begin with this text.", "BTC", _text(_LONGEST_PREFIX))
METRIC_NAME = Parameter(
    "metric_name",
    "Only values that this metric of the catalog was seen with.",
    "trading.total_volume",
    _text(_LONGEST_NAME),
)
LIMIT = Parameter("limit", "Most values of a page. Default 100.", 100, (("type", "integer"), ("minimum", 1)))
CURSOR = Parameter(
    "cursor", "`next_cursor` of the page before, of the same question.", schema=_text(_LONGEST_CURSOR)
)
VALUES_PARAMETERS = (START_TIME, END_TIME, METRIC_NAME, PREFIX, LIMIT, CURSOR)

_FORMAT = 1
_EPOCH = date(1970, 1, 1)
_MOST_DAYS = (date(2200, 1, 1) - _EPOCH).days


@dataclass(frozen=True, slots=True)
class Values:
    """A page of the values of a dimension.

    Attributes:
        first_day: first UTC day.
        last_day: last UTC day, included.
        metric_name: only those of this metric.
        prefix: how they begin.
        limit: most of them.
        after: JSON text of the value behind which the page begins.
    """

    first_day: date
    last_day: date
    metric_name: str | None
    prefix: str | None
    limit: int
    after: str | None

    @property
    def day_count(self) -> int:
        """How many UTC days are asked for."""
        return (self.last_day - self.first_day).days + 1

    @property
    def days(self) -> list[date]:
        """These days, oldest first."""
        return [self.first_day + timedelta(days=number) for number in range(self.day_count)]

    def cursor(self, last: str) -> str:
        """The text that continues behind a value, given as JSON text: of the same days, whatever the time is then."""
        days = ((day - _EPOCH).days for day in (self.first_day, self.last_day))
        return to_text(orjson.dumps([_FORMAT, *days, last, mark_of(self.metric_name, self.prefix).hex()]))


def read_values(query_string: bytes, *, now: datetime, default_limit: int, most: int) -> Values:
    """Understand a query string.

    Raises:
        BadRequest: a parameter is malformed.
    """
    query = Query(query_string, VALUES_PARAMETERS)
    first, last = days_of(*query.range(now))
    mark, after = None, None
    text = query.text(CURSOR, limit=_LONGEST_CURSOR)
    if text is not None:
        *days, after, mark = _read_cursor(text)
        for parameter, asked, of_cursor in zip((START_TIME, END_TIME), (first, last), days, strict=True):
            if query.time(parameter) is not None and asked != of_cursor:
                raise other_question()
        first, last = days
    found = Values(
        first,
        last,
        query.text(METRIC_NAME, limit=_LONGEST_NAME),
        query.text(PREFIX, limit=_LONGEST_PREFIX),
        query.number(LIMIT, default=min(default_limit, most), low=1, high=most),
        after,
    )
    check_mark(mark, found.metric_name, found.prefix)
    return found


def _read_cursor(text: str) -> tuple[date, date, str, bytes | None]:
    try:
        layout, first_day, last_day, last, *marks = orjson.loads(from_text(text))
        days = [first_day, last_day]
        mark = bytes.fromhex(marks[0]) if marks else None
        is_ours = (
            layout == _FORMAT
            and len(marks) <= 1
            and all(type(day) is int and 0 <= day <= _MOST_DAYS for day in days)
            and days[0] <= days[1]
            and isinstance(value := orjson.loads(last), str | None)
            and "\0" not in (value or "")
        )
    except (ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise invalid_parameter(CURSOR.name, "is not a cursor of this API")
    first, end = (_EPOCH + timedelta(days=day) for day in days)
    return first, end, last, mark


class ErrorBound(BaseModel):
    """How far a value may be from the true one."""

    relative: float | None = Field(
        default=None, description="The most it can be off, as a part of the true value.", examples=[0.005]
    )
    standard: float | None = Field(
        default=None, description="One standard deviation, as a part of the true value.", examples=[0.0313]
    )
    exact_up_to: int | None = Field(
        default=None, description="Values up to this one are exact.", examples=[1024]
    )


class CatalogMetric(BaseModel):
    """A metric, as far as the key may ask for it."""

    name: str = Field(examples=["trading.total_volume"])
    description: str
    unit: str = Field(
        description="Such as `ms`, `percent`, `quote` (the quote currency) or `1`.", examples=["quote"]
    )
    event_types: list[str] = Field(
        description="The events that count; none: all.", examples=[["order.filled"]]
    )
    value: str = Field(description="What of an event is aggregated.", examples=["price * quantity"])
    intervals: list[str] = Field(description="Widths of buckets.", examples=[list(LEVELS)])
    aggregations: list[str] = Field(
        description="What `aggregation` takes.", examples=[["sum", "count", "rate"]]
    )
    has_quantiles: bool = Field(description="Whether `aggregation` takes any quantile, from `p0` to `p100`.")
    default_aggregation: Aggregation
    dimension_sets: list[list[str]] = Field(
        description="What `group_by` takes, each with commas between.",
        examples=[[["strategy_id"], ["symbol"]]],
    )
    has_total: bool = Field(description="Whether it can be asked for without `group_by`.")
    name_by: str | None = Field(
        description="The dimension whose values are metric names too, as `<name>.<value>`.",
        examples=["event_type"],
    )
    is_carried: bool = Field(
        description="Whether the last value of a series holds until the next one; totals are the sum of these."
    )
    precision: str = Field(description="How exact it is, in words.")
    errors: dict[Aggregation, ErrorBound] = Field(
        description="Bounds of the aggregations that are not exact.", examples=[{"p99": {"relative": 0.005}}]
    )
    series_limit: int | None = Field(
        description="Most series of a dimension set in a UTC day; the rest is counted as `__other__`. Null: it has no "
        "dimensions.",
        examples=[1000],
    )
    available_from: datetime | None = Field(
        description="Buckets that start here or later are complete; 1970 stands for the beginning. Null: no landing "
        "computes this definition yet.",
    )
    is_custom: bool = Field(description="Whether it follows from a definition of custom events.")


class CatalogAnswer(BaseModel):
    """All metrics in service."""

    metrics: list[CatalogMetric]
    count: int = Field(examples=[23])


class DimensionEntry(BaseModel):
    """A dimension, and who has it."""

    name: str = Field(examples=["symbol"])
    metrics: list[str] = Field(examples=[["market.price", "trading.total_volume"]])


class DimensionsAnswer(BaseModel):
    """All dimensions that something can be grouped by."""

    dimensions: list[DimensionEntry]
    count: int = Field(examples=[5])


class ValuesAnswer(BaseModel):
    """Values of a dimension, in the order of the database."""

    dimension: str = Field(examples=["symbol"])
    values: list[str | None] = Field(
        description="Null stands for events without it.", examples=[["BTCUSDT", "ETHUSDT"]]
    )
    count: int = Field(description="How many are in this answer.", examples=[2])
    first_day: date = Field(description="First UTC day that was looked at.")
    last_day: date = Field(description="The last one, included.")
    next_cursor: str | None = Field(
        default=None, description="Leads to the page behind this one, if there is one."
    )


def values_content(name: str, asked: Values, found: list[str]) -> dict[str, Any]:
    """The answer; `found` are JSON texts, one more than `asked.limit` if there are more."""
    shown = found[: asked.limit]
    content: dict[str, Any] = {
        "dimension": name,
        "values": [orjson.Fragment(value) for value in shown],
        "count": len(shown),
        "first_day": asked.first_day,
        "last_day": asked.last_day,
    }
    if len(found) > asked.limit:
        content["next_cursor"] = asked.cursor(shown[-1])
    return content


def beginning(at: datetime) -> datetime:
    """A time as it is shown: what lies before 1970 is the beginning."""
    return max(at, datetime(1970, 1, 1, tzinfo=UTC))
