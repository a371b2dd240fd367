"""Events as the catalog sees them: one row each, the declared properties as typed columns.

Belongs here: what counts as a dimension's text and as a number. Does not belong here: SQL (`plan`) and sums
(`deltas`). Landing reads the text that a producer wrote, a recompute the text that jsonb prints of it: both must
give the same facts.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import NUMBER_FIELDS, TEXT_FIELDS

MINUTE = 60_000_000
"""Microseconds."""

_MOST_CHARACTERS = 255
_EXACT_INTEGERS = 1 << 53
"""Every whole number up to here is a float."""


def _struct(name: str, text: Any, number: Any) -> type[msgspec.Struct]:
    fields = [(field, text, None) for field in TEXT_FIELDS] + [
        (field, number, None) for field in NUMBER_FIELDS
    ]
    return msgspec.defstruct(name, fields, gc=False)


_Declared = _struct("_Declared", str | None, float | None)
_Anything = _struct("_Anything", Any, Any)
_NOTHING = _Declared()
_read_all = msgspec.json.Decoder(list[_Declared]).decode  # type: ignore[valid-type]
_read_any = msgspec.json.Decoder(_Anything).decode


def facts_of(events: pa.Table) -> pa.Table:
    """One row per event.

    Args:
        events: at least the columns id (fixed_size_binary(16)), event_type, user_id, session_id, properties
            (JSON text), timestamp (µs UTC) and is_late of the events schema.

    Returns:
        minute (int64, µs since 1970), event_type, user_id, session_id, is_late, hash_high and hash_low (uint64),
        the declared text fields (string) and number fields (float64); null where an event has no such value.
    """
    at = events.column("timestamp").cast(pa.int64()).to_numpy()
    high, low = hashes_of(events.column("id").combine_chunks(), at)
    declared = _declared(events.column("properties"))
    columns = {
        "minute": pa.array(at - at % MINUTE),
        **{name: events.column(name) for name in ("event_type", "user_id", "session_id", "is_late")},
        "hash_high": pa.array(high),
        "hash_low": pa.array(low),
        **{name: _cut(pa.array(map(attrgetter(name), declared), pa.string())) for name in TEXT_FIELDS},
        **{name: pa.array(map(attrgetter(name), declared), pa.float64()) for name in NUMBER_FIELDS},
    }
    return pa.table(columns)


def hashes_of(ids: pa.Array, at: npt.NDArray[np.int64]) -> tuple[states.Hashes, states.Hashes]:
    """Two 64-bit lanes of the hash of each event, of its id (fixed_size_binary(16)) and time (µs since 1970)."""
    halves = np.frombuffer(ids.buffers()[1], dtype=">u8").reshape(-1, 2)[ids.offset : ids.offset + len(ids)]
    return states.event_hashes(halves.astype(np.uint64), np.ascontiguousarray(at))


def _declared(properties: pa.ChunkedArray) -> Sequence[Any]:
    texts = properties.combine_chunks()
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts.fill_null("{}"))
    joined = pc.binary_join(whole, ",")[0].as_buffer()
    try:
        found: list[Any] = _read_all(b"[" + joined.to_pybytes() + b"]")
    except msgspec.MsgspecError:  # a property of another type, among thousands
        return [_declared_one(text) for text in texts.to_pylist()]
    return found


def _declared_one(text: str | None) -> Any:
    try:
        found = _read_any(text or "{}")
    except (
        msgspec.MsgspecError
    ):  # not landed: written by other programs, it may be anything that jsonb can hold
        return _NOTHING
    texts = {name: _text(getattr(found, name)) for name in TEXT_FIELDS}
    return _Declared(**texts, **{name: number_of(getattr(found, name)) for name in NUMBER_FIELDS})


def _cut(column: pa.Array) -> pa.Array:
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    return column if longest <= _MOST_CHARACTERS else pc.utf8_slice_codeunits(column, 0, _MOST_CHARACTERS)


def _text(value: object) -> str | None:
    """Text, or a number or boolean as text.

    jsonb turns 1e2 into 100, so whole numbers are written as such; of those that a float cannot hold, what was
    sent cannot be told from what is stored, so they are no text.
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) <= _EXACT_INTEGERS:
        return str(int(value)) if value == int(value) else repr(value)
    return None


def number_of(value: object) -> float | None:
    """A number of JSON, or None: text, booleans and what no float can hold are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
