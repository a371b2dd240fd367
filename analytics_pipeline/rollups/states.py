"""Mergeable states: quantile histograms, distinct sets, first and last values, set hashes; no merge depends on order.

Belongs here: encoding, merging and reading of state bytes, vectorised over numpy.
Does not belong here: which metric has which state (`catalog`), or SQL (`deltas`).

Quantiles follow DDSketch (Masson, Rim and Lee, VLDB 2019) with relative error 0.5 % and the collapse of the
bins of smallest magnitude; distinct counts follow KMV (Bar-Yossef et al., RANDOM 2002).
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RELATIVE_ERROR = 0.005
"""Bound of a quantile's relative error, unless it is one of those without (`is_quantile_unbounded`)."""

LN_GAMMA = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_GAMMA = math.exp(LN_GAMMA)

MAX_BINS = 2048
"""Bins kept, counted down from the largest magnitude; the rest is added to the smallest kept."""

BIN_OFFSET = 4096
"""Added to a bin's index so that it is positive for every magnitude from 1e-9 to 1e18; 0 is the bin of zero."""

DISTINCT_SIZE = 1024
"""Hashes kept: a set of up to this many is exact."""

MODULUS = 1 << 128

Keys = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def quantile_pack(keys: Keys, counts: Counts) -> bytes:
    """Encode ascending signed bin keys and their counts; collapses to `MAX_BINS`."""
    keys, counts = _collapse(keys, counts)
    return struct.pack("<BI", 1, len(keys)) + keys.astype("<i2").tobytes() + counts.astype("<i8").tobytes()


def quantile_unpack(state: bytes) -> tuple[Keys, Counts]:
    """Decode to ascending signed bin keys and their counts."""
    size = struct.unpack_from("<I", state, 1)[0]
    keys = np.frombuffer(state, dtype="<i2", count=size, offset=5)
    counts = np.frombuffer(state, dtype="<i8", count=size, offset=5 + 2 * size)
    return keys, counts


def quantile_merge(states: Sequence[bytes]) -> bytes:
    """Add histograms; any order and grouping gives identical bytes."""
    if len(states) == 1:
        return states[0]
    parts = [quantile_unpack(state) for state in states]
    dense = np.zeros(2 * _SPAN + 1, dtype=np.int64)
    for keys, counts in parts:
        dense[keys.astype(np.int64) + _SPAN] += counts
    used = np.flatnonzero(dense)
    return quantile_pack((used - _SPAN).astype(np.int16), dense[used])


_SPAN = 16384


def quantile_value(state: bytes, quantile: float) -> float:
    """The value at `quantile` (0 to 1), within `RELATIVE_ERROR`; NaN of an empty state."""
    return quantile_values(state, (quantile,))[0]


def quantile_values(state: bytes, quantiles: Sequence[float]) -> list[float]:
    """The value at each of some quantiles."""
    keys, counts = quantile_unpack(state)
    if not len(keys):
        return [math.nan] * len(quantiles)
    cumulative = np.cumsum(counts)
    last = int(cumulative[-1]) - 1
    ranks = [math.floor(quantile * last) for quantile in quantiles]
    return [_of_key(key) for key in keys[np.searchsorted(cumulative, ranks, side="right")].tolist()]


def grouped_quantile(
    found: Sequence[bytes], groups: npt.NDArray[np.intp], size: int, quantile: float
) -> npt.NDArray[np.float64]:
    """The value at `quantile` of each group of histograms, as `quantile_value` of `quantile_merge`, all at once.

    Args:
        found: states.
        groups: shape (len(found),), the group of each, from 0.
        size: how many groups there are.
        quantile: 0 to 1.

    Returns:
        Shape (size,); NaN of a group without values.
    """
    values = np.full(size, math.nan)
    if not len(found):
        return values
    order = np.argsort(groups, kind="stable")
    ordered = [found[place] for place in order.tolist()]
    sizes = [(len(state) - 5) // 10 for state in ordered]
    packed = b"".join([state[5 : 5 + 2 * bins] for state, bins in zip(ordered, sizes, strict=True)])
    keys = np.frombuffer(packed, dtype="<i2").astype(np.int64)
    packed = b"".join([state[5 + 2 * bins :] for state, bins in zip(ordered, sizes, strict=True)])
    counts = np.frombuffer(packed, dtype="<i8")
    if not len(keys):
        return values
    group = np.repeat(groups[order], sizes)
    keys = _collapse_groups(keys, group, size)
    lowest = int(keys.min())
    width = int(keys.max()) - lowest + 1
    step = max(1, _MOST_CELLS // width)
    for begin in range(0, size, step):
        until = min(size, begin + step)
        first, last = np.searchsorted(group, [begin, until])
        cells = (group[first:last] - begin) * width + (keys[first:last] - lowest)
        dense = np.bincount(cells, weights=counts[first:last], minlength=(until - begin) * width)
        cumulative = np.cumsum(dense.reshape(until - begin, width), axis=1)
        totals = cumulative[:, -1]
        ranks = np.floor(quantile * (totals - 1))
        bins = (cumulative <= ranks[:, None]).sum(axis=1)
        used = np.flatnonzero(totals)
        values[begin + used] = [_of_key(int(key)) for key in bins[used] + lowest]
    return values


_MOST_CELLS = 1 << 20
"""Of the dense histograms that are made at once."""


def _collapse_groups(
    keys: npt.NDArray[np.int64], group: npt.NDArray[np.intp], size: int
) -> npt.NDArray[np.int64]:
    """The bins of each group after `_collapse` of its merged histogram."""
    magnitude = np.abs(keys)
    largest = np.zeros(size, np.int64)
    np.maximum.at(largest, group, magnitude)
    smallest = (largest - MAX_BINS + 1)[group]
    is_small = (magnitude < smallest) & (keys != 0)
    return np.where(is_small, np.sign(keys) * smallest, keys)


def _of_key(key: int) -> float:
    if key == 0:
        return 0.0
    return math.copysign(2 * _GAMMA ** (abs(key) - BIN_OFFSET) / (_GAMMA + 1), key)


def quantile_keys(values: npt.NDArray[np.float64]) -> Keys:
    """The signed bin of each value, 0 or of a magnitude from 1e-9 to 1e18."""
    magnitude = np.abs(values)
    bins = np.ceil(np.log(np.where(magnitude == 0, 1, magnitude)) / LN_GAMMA) + BIN_OFFSET
    return np.where(magnitude == 0, 0, np.copysign(bins, values)).astype(np.int16)


def is_quantile_unbounded(
    values: npt.NDArray[np.float64], largest: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether each quantile is of the bin to which what is too small for one of its own was added.

    Such a quantile's magnitude is at most what it says, and may be anything below.

    Args:
        values: quantiles of histograms, as `quantile_value` gives them.
        largest: the largest magnitude in each histogram.

    Returns:
        Shape of `values`. A largest value at the very edge of its bin counts for the bin above, too.
    """
    smallest = quantile_keys(np.abs(largest)).astype(np.int64) - MAX_BINS + 1
    magnitude = np.abs(quantile_keys(values).astype(np.int64))
    return (magnitude > 0) & (magnitude <= smallest + 1)


def _collapse(keys: Keys, counts: Counts) -> tuple[Keys, Counts]:
    if not len(keys):
        return keys, counts
    smallest = int(np.abs(keys).max()) - MAX_BINS + 1
    small = (np.abs(keys) < smallest) & (keys != 0)
    if smallest <= 1 or not small.any():
        return keys, counts
    moved = np.where(small, np.sign(keys) * smallest, keys).astype(np.int64)
    kept, inverse = np.unique(moved, return_inverse=True)
    totals = np.zeros(len(kept), dtype=np.int64)
    np.add.at(totals, inverse, counts)
    return kept.astype(np.int16), totals


def distinct_pack(hashes: Hashes, *, was_cut: bool = False) -> bytes:
    """Encode ascending unique 64-bit hashes; keeps the `DISTINCT_SIZE` smallest and remembers if any were cut off."""
    is_cut = was_cut or len(hashes) > DISTINCT_SIZE
    return struct.pack("<BB", 1, is_cut) + hashes[:DISTINCT_SIZE].astype("<u8").tobytes()


def distinct_merge(states: Sequence[bytes]) -> bytes:
    """Unite sets; any order and grouping gives identical bytes."""
    if len(states) == 1:
        return states[0]
    return distinct_join(b"".join([state[2:] for state in states]), was_cut=any(state[1] for state in states))


def distinct_join(hashes: bytes, *, was_cut: bool) -> bytes:
    """Unite sets whose hashes stand one behind another, without the two bytes before each; as `distinct_merge`.

    Args:
        hashes: of all of them, as packed.
        was_cut: whether the second byte of any of them was 1.
    """
    joined = np.sort(np.frombuffer(hashes, dtype="<u8"))
    if len(joined) > 1:
        joined = joined[np.concatenate(([True], joined[1:] != joined[:-1]))]
    return distinct_pack(joined, was_cut=was_cut)


def distinct_count(state: bytes) -> int:
    """How many distinct values: exact up to `DISTINCT_SIZE`, the KMV estimate above."""
    hashes = np.frombuffer(state, dtype="<u8", offset=2)
    if not state[1]:
        return len(hashes)
    return round((DISTINCT_SIZE - 1) / (int(hashes[-1]) / 2**64))


def end_pack(at: int, event_id: bytes, value: float) -> bytes:
    """Encode a value, the time (µs since 1970) and the id (16 bytes) of its event: bytes order as (time, id) do.

    The value is text, so that SQL can read it too.
    """
    return struct.pack(">Q", at + (1 << 63)) + event_id + repr(value).encode()


_VALUE_FROM = 24


def ends_pack(first: bytes, last: bytes) -> bytes:
    """Encode the first and the last value (`end_pack`)."""
    return struct.pack("B", len(first)) + first + last


def ends_unpack(state: bytes) -> tuple[bytes, bytes]:
    """Decode to the first and the last value, each with its time and id."""
    second = 1 + state[0]
    return state[1:second], state[second:]


def ends_merge(states: Sequence[bytes]) -> bytes:
    """Keep the first of the first and the last of the last, by (time, id)."""
    firsts, lasts = zip(*map(ends_unpack, states), strict=True)
    return ends_pack(min(firsts), max(lasts))


def ends_values(state: bytes) -> tuple[float, float]:
    """The first and the last value."""
    first, last = ends_unpack(state)
    return float(first[_VALUE_FROM:]), float(last[_VALUE_FROM:])


def register_pack(set_hash: int) -> bytes:
    """Encode a set hash, 0 ≤ hash < 2^128."""
    return set_hash.to_bytes(16, "big")


def register_merge(states: Sequence[bytes]) -> bytes:
    """Add set hashes modulo 2^128."""
    return register_pack(sum(register_value(state) for state in states) % MODULUS)


def register_value(state: bytes) -> int:
    """Decode a set hash."""
    return int.from_bytes(state, "big")


MERGE = {
    "quantile": quantile_merge,
    "distinct": distinct_merge,
    "ends": ends_merge,
    "register": register_merge,
}
"""How states of each kind are merged."""


def event_hashes(ids: npt.NDArray[np.uint64], timestamps: npt.NDArray[np.int64]) -> tuple[Hashes, Hashes]:
    """Two 64-bit lanes of the hash of each event.

    Args:
        ids: shape (n, 2), the halves of the event ids.
        timestamps: shape (n,), µs since 1970.
    """
    first, second, at = ids[:, 0], ids[:, 1], timestamps.view(np.uint64)
    with np.errstate(over="ignore"):
        high = _mix(first ^ _mix(second ^ _mix(at)))
        low = _mix(second ^ _mix(first ^ _mix(at + np.uint64(0x9E3779B97F4A7C15))))
    return high, low


def _mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
