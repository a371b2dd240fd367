"""Event ids: UUIDs that sort by time and carry it.

- `deterministic_ids`: version 8, for events that bring no id: 48 bits of milliseconds, 12 bits of the
  microseconds within, 62 bits of a hash of (source, partition, offset). A replay yields the same id.
- `uuid7`: version 7 of RFC 9562, for events posted without an id.
- `time_of`: the time inside either; `time_of_uuid7`: of version 7 alone, which producers may send.
"""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import numpy.typing as npt

from analytics_pipeline.events.times import from_micros, micros

Uint64 = npt.NDArray[np.uint64]

_VERSION_7 = 0x7000
_VERSION_8 = 0x8000
_VARIANT = 1 << 63
_LOW_62 = (1 << 62) - 1
_LAST_TIME = datetime.max.replace(tzinfo=UTC)


def deterministic_ids(
    timestamps: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], seeds: Uint64
) -> Uint64:
    """Ids as pairs of big-endian halves.

    Args:
        timestamps: microseconds since 1970, not negative.
        offsets: positions within source and partition.
        seeds: `source_seed` of each row's source and partition.

    Returns:
        uint64 array of shape (n, 2): high and low half.
    """
    halves = np.empty((len(timestamps), 2), np.uint64)
    millis, within = np.divmod(timestamps, 1000)
    halves[:, 0] = (
        (millis.astype(np.uint64) << np.uint64(16)) | np.uint64(_VERSION_8) | within.astype(np.uint64)
    )
    halves[:, 1] = (_mix(seeds ^ offsets.astype(np.uint64)) & np.uint64(_LOW_62)) | np.uint64(_VARIANT)
    return halves


def source_seed(source: str, partition: int) -> int:
    """64 bits that stand for a partition."""
    name = f"{source}\0{partition}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def uuid7(time: datetime, randomness: bytes) -> UUID:
    """Version 7 of RFC 9562 with the milliseconds of `time` and 10 random bytes."""
    random = int.from_bytes(randomness, "big")
    value = (max(0, micros(time) // 1000) & (1 << 48) - 1) << 80
    value |= (_VERSION_7 | (random >> 62 & 0xFFF)) << 64
    return UUID(int=value | _VARIANT | (random & _LOW_62))


def time_of(value: UUID) -> datetime | None:
    """The time inside an id made here or a version 7, else None (the id says nothing about its time)."""
    if value.version == 8 and value.int >> 64 & 0xFFF < 1000:
        return _time(value.int >> 80, value.int >> 64 & 0xFFF)
    return time_of_uuid7(value)


def time_of_uuid7(value: UUID) -> datetime | None:
    """The milliseconds inside a version 7, None for other versions; what is beyond the year 9999 is its last moment."""
    return _time(value.int >> 80, 0) if value.version == 7 else None


def _time(millis: int, within: int) -> datetime:
    try:
        return from_micros(millis * 1000 + within)
    except OverflowError:
        return _LAST_TIME


def _mix(values: Uint64) -> Uint64:
    """The finalizer of splitmix64 (Vigna): a bijection, so no two offsets of a partition meet before the cut."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
