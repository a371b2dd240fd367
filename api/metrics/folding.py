"""Several cells put together into one: the rest beyond the top, buckets of a zone, high and low beside open and close.

Belongs here: that arithmetic, over arrays. Does not belong here: reading cells (`repository`).
"""

import numpy as np

from analytics_pipeline.rollups.catalog import Aggregation
from api.metrics.buckets import Buckets
from api.metrics.decimals import from_billionths, to_billionths
from api.metrics.query import MetricQuery
from api.metrics.repository import StateCells, positions
from api.metrics.statements import rest_of
from api.metrics.values import Cells, Positions, finite, from_states


def with_rest(
    query: MetricQuery, names: list[str], series: Positions, named: list[str]
) -> tuple[list[str], Positions]:
    """Names and series, once every series that is not `named` is called the rest."""
    found = {name: place for place, name in enumerate([*named, rest_of(query)])}
    moved = np.array([found.get(name, len(named)) for name in names], np.intp)
    return list(found), moved[series] if len(moved) else series


def merged_states(query: MetricQuery, cells: StateCells, named: list[str] | None) -> Cells:
    """The values of states; series that are not `named`, if that matters, are merged into one."""
    names, series = cells.names, cells.series
    if named is not None:
        names, series = with_rest(query, names, series, named)
    width = max(1, len(names))
    codes, groups = np.unique(cells.bucket * width + series, return_inverse=True)
    of_state = groups[cells.groups] if len(codes) else cells.groups
    values, is_estimated = from_states(query.aggregation, cells.found, of_state, len(codes))
    return finite(Cells(names, codes // width, codes % width, values, is_estimated=is_estimated))


def highest_states(query: MetricQuery, cells: StateCells, top: int) -> list[str]:
    """The series with the highest values over all buckets."""
    series = cells.series[cells.groups] if len(cells.series) else cells.groups
    values, _ = from_states(query.aggregation, cells.found, series, len(cells.names))
    return _highest(query, cells.names, values, top)


def highest_last(query: MetricQuery, cells: Cells, top: int) -> list[str]:
    """The series with the highest last values."""
    ordered = cells.sorted()
    last = np.full(len(ordered.names), -np.inf)
    last[ordered.series] = ordered.values  # by time, so the last one stays
    return _highest(query, ordered.names, last, top)


def _highest(query: MetricQuery, names: list[str], values: object, top: int) -> list[str]:
    rest = rest_of(query)
    pairs = zip(names, np.asarray(values).tolist(), strict=True)
    ranked = sorted(((-value, name.encode(), name) for name, value in pairs if name != rest))
    return [name for _, _, name in ranked[:top]]


def added_up(query: MetricQuery, cells: Cells, named: list[str]) -> Cells:
    """The cells of the series `named`, and the sum of the others."""
    names, series = with_rest(query, cells.names, cells.series, named)
    codes, groups = np.unique(cells.bucket * len(names) + series, return_inverse=True)
    billionths = to_billionths(cells.values)
    sums = np.zeros(len(codes), billionths.dtype)
    np.add.at(sums, groups, billionths)
    return Cells(names, codes // len(names), codes % len(names), from_billionths(sums))


def of_zone(cells: Cells, aggregation: str, fine: Buckets, buckets: Buckets) -> Cells:
    """The first of the first and the last of the last values of the buckets that one is made of."""
    ordered = cells.sorted()
    bucket = positions(buckets, fine.starts[ordered.bucket])
    width = max(1, len(ordered.names))
    codes = bucket * width + ordered.series
    found, first = np.unique(codes, return_index=True)
    _, from_behind = np.unique(codes[::-1], return_index=True)
    last = len(codes) - 1 - from_behind
    more = {}
    if aggregation == Aggregation.OHLC.value:
        more = {"open": ordered.more["open"][first], "close": ordered.more["close"][last]}
    values = ordered.values[first if aggregation == Aggregation.FIRST.value else last]
    return Cells(ordered.names, found // width, found % width, values, more)


def with_bounds(ends: Cells, bounds: Cells) -> Cells:
    """Open and close with the high and low of the same cell."""
    ends, bounds = ends.sorted(), bounds.sorted()
    places = {name: place for place, name in enumerate(bounds.names)}
    series = np.array([places.get(name, -1) for name in ends.names], np.intp)
    codes = bounds.codes()
    wanted = ends.bucket * max(1, len(places)) + (series[ends.series] if len(series) else ends.series)
    if not len(codes):
        return ends.where(np.zeros(len(wanted), np.bool_))
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    is_there = codes[place] == wanted
    found = ends.where(is_there)
    found.more |= {name: values[place[is_there]] for name, values in bounds.more.items()}
    return found
