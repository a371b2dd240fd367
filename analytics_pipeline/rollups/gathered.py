"""States of many series in one buffer, and their merges all at once.

Belongs here: the merges of `states` over whole arrays, to the same bytes: a call of numpy for each state costs more
than what is in it. Does not belong here: encoding of states (`states`), which rows belong together (`levels`).
"""

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics_pipeline.rollups import states

Integers = npt.NDArray[np.int64]


class Gathered(NamedTuple):
    """States of one kind, those of each series beside each other.

    Attributes:
        data: uint8, in which they lie; there may be something else between them.
        starts: where each begins.
        sizes: how many bytes it has.
        series: where the states of each series begin, and behind them the number of states; none is without.
    """

    data: npt.NDArray[np.uint8]
    starts: Integers
    sizes: Integers
    series: Integers


def of_lists(lists: pa.ListArray) -> Gathered:
    """The states of each series as Arrow has them: lists of binary, none of them null or empty."""
    values = lists.flatten()
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    _, places, data = values.buffers()
    ends = np.frombuffer(places, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    return Gathered(np.frombuffer(data or b"", np.uint8), ends[:-1], np.diff(ends), _bounds(sizes))


def of_sequences(groups: Sequence[Sequence[bytes]]) -> Gathered:
    """The states of each series, one at least."""
    parts = [state for group in groups for state in group]
    ends = _bounds(np.fromiter(map(len, parts), np.int64, len(parts)))
    counts = np.fromiter(map(len, groups), np.int64, len(groups))
    return Gathered(np.frombuffer(b"".join(parts), np.uint8), ends[:-1], np.diff(ends), _bounds(counts))


def of_prefixed(blobs: Sequence[bytes]) -> Gathered:
    """The states of each series in one text of bytes, each behind its size: four bytes, as `int4send` writes them."""
    data, at = b"".join(blobs), 0
    starts, sizes, series = [], [], [0]
    for blob in blobs:
        end = at + len(blob)
        while at < end:
            [size] = _SIZE.unpack_from(data, at)
            starts.append(at + _SIZE.size)
            sizes.append(size)
            at += _SIZE.size + size
        series.append(len(starts))
    return Gathered(
        np.frombuffer(data, np.uint8),
        np.array(starts, np.int64),
        np.array(sizes, np.int64),
        np.array(series, np.int64),
    )


_SIZE = struct.Struct(">i")


def merge(kind: str, gathered: Gathered) -> list[bytes]:
    """Merge the states of each series, to the bytes of `states.MERGE`."""
    counts = np.diff(gathered.series)
    several = np.flatnonzero(counts > 1)
    merged = [
        gathered.data[start : start + size].tobytes()
        for start, size in zip(
            gathered.starts[gathered.series[:-1]].tolist(),
            gathered.sizes[gathered.series[:-1]].tolist(),
            strict=True,
        )
    ]
    if len(several):
        chosen = _spread(gathered.series[several], counts[several])
        some = Gathered(
            gathered.data, gathered.starts[chosen], gathered.sizes[chosen], _bounds(counts[several])
        )
        for place, state in zip(several.tolist(), _MERGE[kind](some), strict=True):
            merged[place] = state
    return merged


def _bounds(sizes: Integers) -> Integers:
    bounds = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return bounds


def _spread(firsts: Integers, counts: Integers, step: int = 1) -> Integers:
    """`counts` places from each of `firsts` on, `step` apart."""
    before = _bounds(counts)
    places: Integers = np.repeat(firsts - step * before[:-1], counts)
    places += step * np.arange(before[-1], dtype=np.int64)
    return places


def _read(data: npt.NDArray[np.uint8], kind: str, places: Integers) -> npt.NDArray[Any]:
    """The numbers at some places of a buffer, wherever they lie."""
    width = np.dtype(kind).itemsize
    if not len(places):
        return np.empty(0, kind)
    found: npt.NDArray[Any] = np.ndarray((len(data) - width + 1,), kind, data.data, 0, (1,))[places]
    return found


_SPAN = 1 << 15
"""Bin keys are 16 bits, with a sign."""


def _quantiles(some: Gathered) -> list[bytes]:
    bins = (some.sizes - 5) // 10
    keys = _read(some.data, "<i2", _spread(some.starts + 5, bins, 2)).astype(np.int64)
    counts = _read(some.data, "<i8", _spread(some.starts + 5 + 2 * bins, bins, 8)).astype(np.int64)
    of_series = _bounds(bins)[some.series]
    number = len(of_series) - 1
    cells = np.repeat(np.arange(number, dtype=np.int64), np.diff(of_series)) * (2 * _SPAN) + keys + _SPAN
    order = np.argsort(cells)
    cells, counts = cells[order], counts[order]
    firsts = np.flatnonzero(np.diff(cells, prepend=-1))
    totals = np.add.reduceat(counts, firsts) if len(firsts) else counts
    cells = cells[firsts][totals != 0]
    totals = totals[totals != 0]
    keys = (cells % (2 * _SPAN) - _SPAN).astype(np.int16)
    bounds = np.searchsorted(cells, np.arange(number + 1, dtype=np.int64) * (2 * _SPAN)).tolist()
    return [states.quantile_pack(keys[first:last], totals[first:last]) for first, last in pairwise(bounds)]


def _distinct(some: Gathered) -> list[bytes]:
    counts = (some.sizes - 2) // 8
    hashes = _read(some.data, "<u8", _spread(some.starts + 2, counts, 8))
    was_cut = np.logical_or.reduceat(some.data[some.starts + 1] != 0, some.series[:-1]).tolist()
    merged = []
    for (first, last), is_cut in zip(pairwise(_bounds(counts)[some.series].tolist()), was_cut, strict=True):
        ordered = np.sort(hashes[first:last])
        is_new = np.ones(len(ordered), np.bool_)
        np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
        merged.append(states.distinct_pack(ordered[is_new], was_cut=is_cut))
    return merged


def _ends(some: Gathered) -> list[bytes]:
    """The time of an end is its first eight bytes; only where it is the same for several, all of them count."""
    lengths = some.data[some.starts].astype(np.int64)
    firsts = _chosen(some, some.starts + 1, lengths, np.minimum, min)
    lasts = _chosen(some, some.starts + 1 + lengths, some.sizes - 1 - lengths, np.maximum, max)
    return [states.ends_pack(first, last) for first, last in zip(firsts, lasts, strict=True)]


def _chosen(
    some: Gathered, starts: Integers, sizes: Integers, foremost: np.ufunc, of: Callable[[list[bytes]], bytes]
) -> list[bytes]:
    times = _read(some.data, ">u8", starts).astype(np.uint64)
    counts = np.diff(some.series)
    best = np.flatnonzero(times == np.repeat(foremost.reduceat(times, some.series[:-1]), counts))
    found: list[list[bytes]] = [[] for _ in counts]
    series = np.searchsorted(some.series, best, side="right") - 1
    for place, start, size in zip(series.tolist(), starts[best].tolist(), sizes[best].tolist(), strict=True):
        found[place].append(some.data[start : start + size].tobytes())
    return [of(candidates) for candidates in found]


def _registers(some: Gathered) -> list[bytes]:
    data = some.data.tobytes()
    spans = list(zip(some.starts.tolist(), (some.starts + some.sizes).tolist(), strict=True))
    return [
        states.register_merge([data[start:end] for start, end in spans[first:last]])
        for first, last in pairwise(some.series.tolist())
    ]


_MERGE: dict[str, Callable[[Gathered], list[bytes]]] = {
    "quantile": _quantiles,
    "distinct": _distinct,
    "ends": _ends,
    "register": _registers,
}
