"""Values of cells out of what is read for them: arithmetic over arrays.

Belongs here: cells, and what numbers and states of a bucket are in the aggregation that is asked for. Does not belong
here: statements (`statements`), points of an answer (`points`).

A cell is a bucket of a series. Of a cell without a value (a ratio with nothing to divide by) there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Aggregation
from api.metrics import measures

Numbers = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

UNBOUNDED = "unbounded"
"""Of `Cells.more`: 1 where a value is a quantile without a bound."""


@dataclass(eq=False, slots=True)
class Cells:
    """Values by bucket and series, in no order.

    Attributes:
        names: dimensions of each series, as JSON text.
        bucket: position of the bucket of each cell.
        series: position in `names` of the series of each cell.
        values: of each cell; finite.
        more: further values of each cell, by name: those of `ohlc`, and what `spans` marks.
        is_estimated: whether a value is one of distinct values beyond what can be counted.
    """

    names: list[str]
    bucket: Positions
    series: Positions
    values: Numbers
    more: dict[str, Numbers] = field(default_factory=dict)
    is_estimated: bool = False

    def where(self, chosen: npt.NDArray[np.bool_] | Positions) -> "Cells":
        """Some of them, or in another order."""
        more = {name: values[chosen] for name, values in self.more.items()}
        return Cells(
            self.names,
            self.bucket[chosen],
            self.series[chosen],
            self.values[chosen],
            more,
            self.is_estimated,
        )

    def sorted(self) -> "Cells":
        """By bucket, then series, by the bytes of their text; without the names of series that have none."""
        used = np.unique(self.series).tolist()
        ranked = sorted(used, key=lambda place: self.names[place].encode())
        places = np.empty(len(self.names), np.intp)
        places[ranked] = np.arange(len(ranked))
        named = Cells(
            [self.names[place] for place in ranked],
            self.bucket,
            places[self.series],
            self.values,
            self.more,
            self.is_estimated,
        )
        return named.where(np.argsort(named.codes(), kind="stable"))

    def codes(self) -> npt.NDArray[np.int64]:
        """A number for each cell that orders as (bucket, series)."""
        return self.bucket.astype(np.int64) * max(1, len(self.names)) + self.series

    def values_at(self, names: Sequence[str], series: Positions, bucket: Positions) -> Numbers:
        """The values of these series in these buckets, -1 for none; NaN where there is none.

        Args:
            names: of series, as ours are.
            series: positions in `names`.
            bucket: beside each of `series`.
        """
        ordered = self.sorted()
        places = {name: place for place, name in enumerate(ordered.names)}
        known = np.array([places.get(name, -1) for name in names], np.intp)[series]
        codes, wanted = ordered.codes(), bucket * max(1, len(places)) + known
        found = np.full(len(wanted), np.nan)
        if len(codes):
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            is_there = (bucket >= 0) & (known >= 0) & (codes[place] == wanted)
            found[is_there] = ordered.values[place[is_there]]
        return found


NO_CELLS = Cells([], np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))


def from_sums(aggregation: str, by_sum: bool, columns: Sequence[Numbers], seconds: Numbers) -> Numbers:
    """Of count, sum, min and max of each cell, and the seconds of its bucket; NaN where undefined.

    Args:
        aggregation: what is asked for.
        by_sum: whether a rate is that of the sum, not the count.
        columns: count, sum, min, max.
        seconds: how long the bucket of each cell is.
    """
    count, total, smallest, largest = columns
    match aggregation:
        case Aggregation.COUNT | Aggregation.SKIPPED:
            return count
        case Aggregation.SUM:
            return total
        case Aggregation.MIN:
            return smallest
        case Aggregation.MAX:
            return largest
        case measures.RATE:
            return (total if by_sum else count) / seconds
        case _:  # avg, and a ratio: of its sums, over the bucket
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(count > 0, total / count, np.nan)


def from_states(
    aggregation: str, found: Sequence[bytes], groups: Positions, size: int
) -> tuple[Numbers, bool]:
    """Of the states of each cell, merged; and whether a value is an estimate.

    Args:
        aggregation: distinct, or a quantile.
        found: states, several to a cell.
        groups: the cell of each state, from 0.
        size: how many cells there are; each has a state.
    """
    quantile = measures.quantile_of(aggregation)
    if quantile is not None:
        return states.grouped_quantile(found, groups, size, quantile), False
    merged = [states.distinct_merge(some) for some in grouped(found, groups, size)]
    values = np.array([states.distinct_count(state) for state in merged], np.float64)
    return values, any(state[1] for state in merged)


def grouped(found: Sequence[bytes], groups: Positions, size: int) -> list[list[bytes]]:
    """The states of each cell."""
    cells: list[list[bytes]] = [[] for _ in range(size)]
    for state, group in zip(found, groups.tolist(), strict=True):
        cells[group].append(state)
    return cells


def finite(cells: Cells) -> Cells:
    """Those with a value."""
    return cells.where(np.isfinite(cells.values))
