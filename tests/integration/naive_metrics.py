"""What `/api/v1/metrics` has to answer, by plain Python over the events: slow, and nothing of the product's own code.

Buckets are found by walking through the range minute by minute and looking at the zone's clock.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

Event = dict[str, Any]
SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86_400}
OTHER = "__other__"
QUANTILE_ERROR = 0.00501
"""How far an answered quantile may be from the exact one, as a part of it."""


@dataclass(frozen=True)
class Asked:
    """A question, as a person would put it."""

    metric: str
    aggregation: str
    interval: str
    start: datetime
    end: datetime
    zone: str = "UTC"
    group_by: str | None = None
    filter: str | None = None
    top: int | None = None
    fill: str = "none"
    compare: str | None = None
    order: str = "asc"

    @property
    def parameters(self) -> dict[str, str]:
        """As they stand in an address."""
        found = {
            "metric_name": self.metric, "aggregation": self.aggregation, "interval": self.interval,
            "start_time": self.start.isoformat(), "end_time": self.end.isoformat(), "time_zone": self.zone,
            "group_by": self.group_by or "", "top": str(self.top or ""), "fill": self.fill,
            "compare": self.compare or "", "order": self.order, "counts": "1",
        }  # fmt: skip
        if self.filter is not None:
            name, _, rest = self.filter.partition(":")
            found[name] = rest
        return found


@dataclass(frozen=True)
class Measured:
    """What one event is to a metric."""

    at: datetime
    dimensions: dict[str, str | None]
    value: Fraction | str
    is_denominator: bool = False


def measured(metric: str, events: list[Event]) -> list[Measured]:
    """The events that count."""
    found = []
    for event in events:
        said = json.loads(event["properties"])
        dimensions = {name: said.get(name) for name in ("symbol", "strategy_id")}
        kind, at = event["event_type"], event["timestamp"]
        if metric == "users.active" and event["user_id"] is not None:
            found.append(Measured(at, dimensions, event["user_id"]))
        elif metric == "trading.orders_placed" and kind == "order.placed":
            found.append(Measured(at, dimensions, Fraction(1)))
        elif metric == "trading.total_volume" and kind == "order.filled":
            found.append(Measured(at, dimensions, Fraction(said["price"]) * Fraction(said["quantity"])))
        elif metric == "trading.order_latency" and kind == "order.filled":
            found.append(Measured(at, dimensions, Fraction(said["latency_ms"])))
        elif metric == "trading.order_fill_rate" and kind in ("order.placed", "order.filled"):
            found.append(Measured(at, dimensions, Fraction(1), kind == "order.placed"))
        elif metric == "market.price" and kind == "market.data.update":
            found.append(Measured(at, dimensions, Fraction(said["price"])))
    return found


def value_of(asked: Asked, found: list[Measured], seconds: float) -> float | None:
    """The value of one bucket; events are in the order of time and id."""
    values: list[Any] = [one.value for one in found]
    if not values:
        return None
    if asked.aggregation == "ratio":
        below = sum(one.is_denominator for one in found)
        return 100 * (len(found) - below) / below if below else None
    if asked.aggregation[0] == "p" and asked.aggregation[1].isdigit():
        quantile = float(asked.aggregation[1:]) / 100
        return float(sorted(values)[math.floor(quantile * (len(values) - 1))])
    simple: dict[str, Callable[[], Any]] = {
        "distinct": lambda: len(set(values)),
        "count": lambda: len(values),
        "sum": lambda: sum(values),
        "avg": lambda: sum(values) / len(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "first": lambda: values[0],
        "last": lambda: values[-1],
        "rate": lambda: (
            (sum(values) if asked.metric == "trading.total_volume" else len(values)) / Fraction(seconds)
        ),
    }
    return float(simple[asked.aggregation]())


def starts(asked: Asked, start: datetime, end: datetime) -> list[datetime]:
    """Every bucket that begins in the range: where the zone's clock shows a whole day, hour, …"""
    zone, width = ZoneInfo(asked.zone), SECONDS[asked.interval]
    step = timedelta(seconds=min(width, 900))
    at = datetime.combine(start.date(), time(), UTC) - timedelta(days=2)
    found = []
    while at < end:
        local = at.astimezone(zone)
        if at >= start and (local.hour * 3600 + local.minute * 60 + local.second) % width == 0:
            found.append(at)
        at += step
    return found


def fits(asked: Asked, one: Measured) -> bool:
    """Whether an event passes the filter."""
    if asked.filter is None:
        return True
    name, operator, text = asked.filter.split(":", 2)
    value = one.dimensions[name]
    match operator:
        case "eq":
            return value == (None if text == "null" else text)
        case "ne":
            return value is not None and value != text
        case "in":
            return value in text.split(",")
        case "prefix":
            return value is not None and value.startswith(text)
        case _:
            return (value is not None) is (text == "true")


def _spans(asked: Asked) -> list[tuple[datetime, datetime]]:
    """Beginning and end of every bucket."""
    buckets = starts(asked, asked.start, asked.end)
    if not buckets:
        return []
    following = starts(asked, buckets[-1] + timedelta(seconds=1), buckets[-1] + timedelta(days=3))
    return list(zip(buckets, [*buckets[1:], *following[:1]], strict=True))


def _group(asked: Asked, one: Measured) -> str | None:
    return None if asked.group_by is None else one.dimensions[asked.group_by]


def _kept(asked: Asked, events: list[Event]) -> list[Measured]:
    """What passes the filter, in the order of time and id."""
    ordered = sorted(events, key=lambda event: (event["timestamp"], event["id"]))
    return [one for one in measured(asked.metric, ordered) if fits(asked, one)]


def namings(asked: Asked, events: list[Event]) -> list[set[str | None] | None]:
    """The groups that may be named by `top`, those of the exact ranking first; None without `top`, for all are.

    More than one set where exact values at the cut are so close that bounded estimates may stand in either order.
    """
    spans = _spans(asked)
    if asked.top is None or not spans:
        return [None]
    cells = defaultdict(list)
    for one in _kept(asked, events):
        if spans[0][0] <= one.at < spans[-1][1]:
            cells[_group(asked, one)].append(one)
    found = {name: value_of(asked, some, 1.0) for name, some in cells.items()}
    whole = {name: -math.inf if value is None else value for name, value in found.items()}
    ranked = sorted(whole, key=lambda name: (-whole[name], _text(asked, name).encode()))
    exact, rest = ranked[: asked.top], ranked[asked.top :]
    if not rest or asked.aggregation[0] != "p":
        return [set(exact)]
    above = {name for name in exact if not _may_swap(whole[name], whole[rest[0]])}
    close = [name for name in ranked if name not in above and _may_swap(whole[exact[-1]], whole[name])]
    others = [above | set(some) for some in combinations(close, asked.top - len(above))]
    return [set(exact), *(names for names in others if names != set(exact))]


def _may_swap(larger: float, smaller: float) -> bool:
    """Whether estimates of the two may stand in the other order."""
    return larger == smaller or larger * (1 - QUANTILE_ERROR) <= smaller * (1 + QUANTILE_ERROR)


def expected(asked: Asked, events: list[Event], named: set[str | None] | None = None) -> list[dict[str, Any]]:
    """The points, with `value`, and `compared` where that is asked for.

    `named` are the groups that stand on their own, one of `namings`.
    """
    found = _kept(asked, events)
    spans = _spans(asked)
    if not spans:
        return []

    def shown(one: Measured) -> str | None:
        group = _group(asked, one)
        return group if named is None or group in named else OTHER

    def values(start: datetime, end: datetime) -> dict[str | None, float]:
        cells = defaultdict(list)
        for one in found:
            if start <= one.at < end:
                cells[shown(one)].append(one)
        seconds = (end - start).total_seconds()
        pairs = {name: value_of(asked, some, seconds) for name, some in cells.items()}
        return {name: value for name, value in pairs.items() if value is not None}

    def count(start: datetime, end: datetime) -> dict[str | None, int]:
        """How many events, of a ratio how many it is divided by."""
        counted = [one for one in found if start <= one.at < end]
        if asked.aggregation == "ratio":
            counted = [one for one in counted if one.is_denominator]
        return Counter(map(shown, counted))

    counts = [count(*span) for span in spans]
    current = [values(*span) for span in spans]
    before = [values(*span) for span in _earlier(asked, spans)] if asked.compare else None
    everyone = {name for cells in current for name in cells}
    if asked.fill != "none" and asked.group_by is None:
        everyone = {None}
    points = []
    last: dict[str | None, float | None] = defaultdict(lambda: None)
    for number, (start, _) in enumerate(spans):
        for name in sorted(everyone, key=lambda one: _text(asked, one).encode()):
            value = current[number].get(name)
            is_filled = value is None
            if is_filled:
                if asked.fill == "none":
                    continue
                value = {"null": None, "zero": 0.0, "previous": last[name]}[asked.fill]
            last[name] = value
            point = {
                "timestamp": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "dimensions": {} if asked.group_by is None else {asked.group_by: name},
                "value": value,
                "filled": is_filled,
                "count": counts[number].get(name, 0),
            }
            if before is not None:
                point["compared"] = before[number].get(name, 0.0 if asked.fill == "zero" else None)
            points.append(point)
    return points if asked.order == "asc" else points[::-1]


def _earlier(asked: Asked, spans: list[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, datetime]]:
    zone = ZoneInfo(asked.zone)
    if asked.compare == "previous":
        first = spans[0][0]
        reach = timedelta(days=2 * len(spans) + 3) if asked.interval == "1d" else spans[-1][1] - first
        before = starts(asked, first - reach, first)[-len(spans) :]
        yield from zip(before, [*before[1:], first], strict=True)
        return
    days = timedelta(days=1 if asked.compare == "1d" else 7)
    for start, end in spans:
        if asked.interval == "1d":
            day: date = start.astimezone(zone).date() - days
            yield (
                datetime.combine(day, time(), zone).astimezone(UTC),
                datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC),
            )
        else:
            local = start.astimezone(zone).replace(tzinfo=None, fold=0) - days
            at = start - days  # if the clock showed the same then; it may have shown it twice that day
            if at.astimezone(zone).replace(tzinfo=None, fold=0) != local:
                at = local.replace(tzinfo=zone).astimezone(UTC)
            yield at, at + (end - start)


def _text(asked: Asked, name: str | None) -> str:
    return "{}" if asked.group_by is None else json.dumps({asked.group_by: name})
