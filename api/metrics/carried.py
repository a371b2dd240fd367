"""Last values of series, carried forward and summed: what there is at the end of each bucket.

Belongs here: that sum, over arrays. Does not belong here: reading last values (`repository`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from api.metrics.buckets import Times
from api.metrics.decimals import from_billionths, to_billionths
from api.metrics.values import Cells, Numbers, Positions


class LastValues(NamedTuple):
    """Last values of stored series; those of one series ascend in time.

    Attributes:
        names: dimensions of each series, as JSON text.
        series: position in `names`.
        at: start, in µs, of the bucket of which it is the last value.
        values: the values.
    """

    names: list[str]
    series: Positions
    at: Times
    values: Numbers


def carried(last: LastValues, ends: Times, kept: Sequence[str]) -> Cells:
    """The sum of the last values of all series in each bucket, each carried forward until its next one.

    Args:
        last: of all series, also from before the first bucket.
        ends: of the buckets, ascending, in µs.
        kept: dimensions by which series are kept apart.

    Returns:
        A cell per bucket and kept dimensions, from the first value on.
    """
    texts = [_kept(name, kept) for name in last.names]
    groups = list(dict.fromkeys(texts))
    billionths = to_billionths(last.values)
    sums = np.zeros((len(groups), len(ends)), billionths.dtype)
    counts = np.zeros((len(groups), len(ends)), np.int64)
    order = np.lexsort((last.at, last.series))
    series, at, values = last.series[order], last.at[order], billionths[order]
    bounds = np.searchsorted(series, np.arange(len(last.names) + 1))
    for number, text in enumerate(texts):
        own = slice(bounds[number], bounds[number + 1])
        newest = np.searchsorted(at[own], ends) - 1
        holds = newest >= 0
        group = groups.index(text)
        counts[group] += holds
        sums[group, holds] += values[own][newest[holds]]
    found: tuple[npt.NDArray[np.intp], ...] = np.nonzero(counts.T)
    bucket, group_of = found
    return Cells(groups, bucket, group_of, from_billionths(sums.T[bucket, group_of]))


def _kept(dimensions: str, names: Sequence[str]) -> str:
    """The dimensions that are left, as Postgres prints them."""
    found = orjson.loads(dimensions)
    ordered = sorted(names, key=lambda name: (len(name.encode()), name.encode()))
    pairs = (f"{orjson.dumps(name).decode()}: {orjson.dumps(found[name]).decode()}" for name in ordered)
    return "{" + ", ".join(pairs) + "}"
