"""Points out of rows: what the numbers and states of a bucket are in the aggregation that is asked for.

Belongs here: arithmetic over rows, settled and pending. Does not belong here: statements (`repository`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Aggregation, Kind

QUANTILES = {Aggregation.P50: 0.5, Aggregation.P95: 0.95, Aggregation.P99: 0.99}
ENDS = frozenset({Aggregation.FIRST, Aggregation.LAST, Aggregation.OHLC})
"""Aggregations that are read from the first and the last value."""


class Ohlc(NamedTuple):
    """Four values of one bucket."""

    open: float
    high: float
    low: float
    close: float


class Point(NamedTuple):
    """One bucket; `dimensions` is JSON text."""

    timestamp: datetime
    dimensions: str
    value: float
    is_incomplete: bool = False
    is_predecessor: bool = False
    ohlc: Ohlc | None = None


_Series = tuple[datetime, str]


def from_sums(aggregation: Aggregation, rows: Iterable[Any]) -> Iterator[Point]:
    """Of rows of time, dimensions, count, sum, min and max; a bucket in which the value is undefined has none."""
    for at, dimensions, count, total, smallest, largest in rows:
        value: float | None
        if aggregation in (Aggregation.COUNT, Aggregation.SKIPPED):
            value = count
        elif aggregation is Aggregation.SUM:
            value = total
        elif aggregation is Aggregation.MIN:
            value = smallest
        elif aggregation is Aggregation.MAX:
            value = largest
        else:
            # avg, and a ratio: of its sums, over the bucket
            value = total / count if total is not None and count else None
        if value is not None:
            yield Point(at, dimensions, value)


def from_states(aggregation: Aggregation, kind: Kind, rows: Iterable[Any]) -> Iterator[Point]:
    """Of rows of time, dimensions, value and state, ordered by series.

    The settled value counts unless something pending brought states along.
    """
    values: dict[_Series, float | None] = {}
    found: dict[_Series, list[bytes]] = {}
    for at, dimensions, value, state in rows:
        key = (at, dimensions)
        values.setdefault(key, None)
        if state is not None:
            found.setdefault(key, []).append(state)
        elif value is not None:
            values[key] = value
    for key, settled in values.items():
        if key in found:
            yield Point(*key, _value(aggregation, states.MERGE[kind](found[key])))
        elif settled is not None:
            yield Point(*key, int(settled) if aggregation is Aggregation.DISTINCT else settled)


def _value(aggregation: Aggregation, state: bytes) -> float:
    if aggregation is Aggregation.DISTINCT:
        return states.distinct_count(state)
    return states.quantile_value(state, QUANTILES[aggregation])


def from_ends(aggregation: Aggregation, rows: Iterable[Any]) -> Iterator[Point]:
    """Of rows of time, dimensions, first, last, min, max and state, ordered by series; as `from_states`."""
    values: dict[_Series, tuple[float, float]] = {}
    bounds: dict[_Series, tuple[float, float]] = {}
    found: dict[_Series, list[bytes]] = {}
    for at, dimensions, first, last, smallest, largest, state in rows:
        key = (at, dimensions)
        if smallest is not None:
            low, high = bounds.get(key, (smallest, largest))
            bounds[key] = min(low, smallest), max(high, largest)
        if state is not None:
            found.setdefault(key, []).append(state)
        elif last is not None:
            values[key] = first, last
    values |= {key: states.ends_values(states.ends_merge(parts)) for key, parts in found.items()}
    for key, (low, high) in bounds.items():
        if key in values:
            first, last = values[key]
            ohlc = Ohlc(first, high, low, last) if aggregation is Aggregation.OHLC else None
            yield Point(*key, first if aggregation is Aggregation.FIRST else last, ohlc=ohlc)


def carried(
    last: Iterable[Point], first: datetime, end: datetime, width: timedelta, kept: Sequence[str]
) -> Iterator[Point]:
    """The sum of the last values of all series in each bucket, each carried forward until its next one.

    Args:
        last: last values of series, in order of time; those before `first` hold at its start.
        first: start of the first bucket.
        end: no bucket starts then or later.
        width: of a bucket.
        kept: dimensions by which series are kept apart.

    Returns:
        A point per bucket and kept dimensions, from the first value on.
    """
    group_of: dict[str, str] = {}
    held: dict[str, dict[str, float]] = {}
    waiting = iter(last)
    upcoming = next(waiting, None)
    at = first
    while at < end:
        while upcoming is not None and upcoming.timestamp < at + width:
            series = upcoming.dimensions
            if series not in group_of:
                group_of[series] = _kept(series, kept)
            held.setdefault(group_of[series], {})[series] = upcoming.value
            upcoming = next(waiting, None)
        for group in sorted(held):
            yield Point(at, group, math.fsum(held[group].values()))
        at += width


def _kept(dimensions: str, names: Sequence[str]) -> str:
    found = orjson.loads(dimensions)
    return orjson.dumps({name: found[name] for name in names}).decode()
