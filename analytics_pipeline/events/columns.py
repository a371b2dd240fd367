"""Whole columns at once: ids from text, times, order and duplicates, with numpy.

Belongs here: arithmetic over the rows of a batch. Does not belong here: reading messages.
"""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

UUID_LENGTH = 36
MINUTE = 60_000_000
"""Microseconds."""

_DASHES = [8, 13, 18, 23]
_DIGITS = [position for position in range(UUID_LENGTH) if position not in _DASHES]
_NIBBLES = np.full(256, 255, np.uint8)
for _digit in "0123456789abcdefABCDEF":
    _NIBBLES[ord(_digit)] = int(_digit, 16)


def parse_ids(texts: Sequence[str | None]) -> tuple[Uint64, Mask, Mask]:
    """Read UUIDs in their usual form.

    Args:
        texts: strings of 36 characters, or None.

    Returns:
        Big-endian halves of shape (n, 2), zero where there is none; which rows have an id; which of those
        are not UUIDs.
    """
    present = np.ones(len(texts), bool)
    if None in texts:
        present = np.fromiter((text is not None for text in texts), bool, len(texts))
    halves, bad = np.zeros((len(texts), 2), np.uint64), np.zeros(len(texts), bool)
    joined = "".join(filter(None, texts)).encode("ascii", "replace")
    characters = np.frombuffer(joined, np.uint8).reshape(-1, UUID_LENGTH)
    nibbles = _NIBBLES[characters[:, _DIGITS]]
    is_uuid = (characters[:, _DASHES] == ord("-")).all(axis=1) & (nibbles < 16).all(axis=1)
    octets = (nibbles[:, ::2] << 4) | (nibbles[:, 1::2] & 15)
    halves[present] = np.ascontiguousarray(octets).view(">u8").astype(np.uint64)
    bad[present] = ~is_uuid
    return halves, present, bad


def uuid7_micros(halves: Uint64) -> tuple[Int64, Mask]:
    """Microseconds since 1970 inside the ids, and which of them are version 7 at all."""
    is_seven = ((halves[:, 0] >> np.uint64(12)) & np.uint64(15) == 7) & (halves[:, 1] >> np.uint64(62) == 2)
    return (halves[:, 0] >> np.uint64(16)).astype(np.int64) * 1000, is_seven


def micros_since_epoch(times: Sequence[timedelta | None]) -> tuple[Int64, Mask]:
    """Distances from 1970 as microseconds, and which rows have none."""
    column = pa.array(times, pa.duration("us"))
    missing = np.asarray(column.is_null())
    return column.cast(pa.int64()).fill_null(0).to_numpy(), missing


def late(timestamps: Int64, reached: Int64, grace: timedelta) -> Mask:
    """Which events reached their source when their minute was over, grace included (all in µs)."""
    minute_end = timestamps - timestamps % MINUTE + MINUTE
    return minute_end + grace // timedelta(microseconds=1) <= reached


def order_and_repeats(timestamps: Int64, halves: Uint64) -> tuple[Int64, Int64]:
    """Sort rows by (timestamp, id) and find repeats of a key.

    Returns:
        The rows to keep, sorted, of equal keys the first one given; and the rows that repeat an earlier one.
    """
    order = np.lexsort((halves[:, 1], halves[:, 0], timestamps))
    time, high, low = timestamps[order], halves[order, 0], halves[order, 1]
    repeats = np.zeros(len(order), bool)
    repeats[1:] = (time[1:] == time[:-1]) & (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    return order[~repeats], order[repeats]


def ids_to_arrow(halves: Uint64) -> pa.Array:
    """fixed_size_binary(16) of big-endian halves."""
    octets = np.ascontiguousarray(halves.astype(">u8")).tobytes()
    return pa.Array.from_buffers(pa.binary(16), len(halves), [None, pa.py_buffer(octets)])


def texts_to_arrow(texts: Sequence[msgspec.Raw]) -> pa.Array:
    """UTF-8 texts as one string column, copied once."""
    ends = np.cumsum(np.array(list(map(len, texts)), np.int64))
    # Too long for 32-bit offsets would be two gigabytes: a batch is bounded far below.
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    data = b"".join(texts)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def times_to_arrow(timestamps: Int64) -> pa.Array:
    """timestamp[us, UTC]."""
    return pa.array(timestamps).cast(pa.timestamp("us", tz="UTC"))
