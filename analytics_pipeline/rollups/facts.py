"""Events as the catalog sees them: the declared properties as typed columns, texts as numbers.

Belongs here: what counts as a dimension's text and as a number. Does not belong here: grouping (`groups`), sums
(`deltas`). Landing reads the text that a producer wrote, a recompute the text that jsonb prints of it: both must give
the same facts.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import NUMBER_FIELDS, TEXT_FIELDS

MINUTE = 60_000_000
"""Microseconds."""

Integers = npt.NDArray[np.int64]

_COLUMNS = ("event_type", "user_id", "session_id")
_FEW = 16
"""A field is read of all events at once, unless only so small a part of them is asked for."""
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


class Coded(NamedTuple):
    """A column of texts, as numbers: `values[code]` is the text of each row, None where it has none."""

    codes: Integers
    values: list[str | None]

    def place(self, value: str | None) -> int:
        """The code of a text, -1 if no row has it."""
        return self.values.index(value) if value in self.values else -1


class Facts:
    """A batch of events; what metrics need of them is made when it is asked for, and kept.

    Attributes:
        at: when each event was, int64 µs since 1970.
        ids: shape (n, 2), uint64: the halves of the event ids.
        high: one 64-bit lane of the hash of each event.
        low: the other.
        is_late: of each event.
        minutes: the minutes of the batch, ascending, int64 µs since 1970.
        minute: of each event, the place of its minute among these.
    """

    def __init__(self, events: pa.Table) -> None:
        """Take these columns of the events schema: id (fixed_size_binary(16)), event_type, user_id, session_id,
        properties (JSON text), timestamp (µs UTC), is_late. Fields of the catalog that are columns
        (`printed`) are taken from there.
        """
        self.at = events.column("timestamp").cast(pa.int64()).to_numpy()
        self.ids = _halves(events.column("id").combine_chunks())
        self.high, self.low = states.event_hashes(self.ids, self.at)
        self.is_late = events.column("is_late").to_numpy()
        numbers = self.at // MINUTE
        first = numbers.min(initial=0)
        places, self.minute = compact(numbers - first, int(numbers.max(initial=0) - first) + 1)
        self.minutes = (places + first) * MINUTE
        self._events = events
        self._coded = {name: _coded(events.column(name).combine_chunks()) for name in _COLUMNS}
        types = self._coded["event_type"]
        order = np.argsort(types.codes, kind="stable")
        bounds = np.searchsorted(types.codes[order], np.arange(len(types.values) + 1)).tolist()
        self._rows = {
            event_type: order[bounds[code] : bounds[code + 1]] for code, event_type in enumerate(types.values)
        }

    @cached_property
    def properties(self) -> Sequence[Any]:
        """Of each event, an object with the fields of the catalog."""
        return _declared(self._events.column("properties"))

    def column(self, name: str) -> pa.Array | None:
        """A field of the catalog of every event, if the events came with it."""
        return self._events.column(name).combine_chunks() if name in self._events.column_names else None

    def of(self, event_types: tuple[str, ...]) -> "Part":
        """The events of these types, or all; not kept here, because a part keeps its facts.

        A circle of the two would wait for the collector, which counts objects and not the arrays that hang from them.
        """
        if not event_types:
            return Part(self, np.arange(len(self.at)))
        nothing = np.empty(0, np.int64)
        return Part(self, np.concatenate([self._rows.get(event_type, nothing) for event_type in event_types]))

    def coded(self, name: str, rows: Integers) -> Coded:
        """A text field of the catalog, or event_type, user_id or session_id, of some of the events.

        The values may be of other events too.
        """
        if name not in self._coded:
            column = self.column(name)
            if column is None and len(rows) * _FEW < len(self.at):
                return _coded(_text_field(name, [self.properties[row] for row in rows.tolist()]))
            self._coded[name] = _coded(_text_field(name, self.properties) if column is None else _cut(column))
        codes, values = self._coded[name]
        return Coded(codes[rows], values)


class Part:
    """Some of the events.

    Attributes:
        facts: all of them.
        rows: where these are.
        minute: of each, the place of its minute.
    """

    def __init__(self, facts: Facts, rows: Integers) -> None:
        self.facts = facts
        self.rows = rows
        self.minute = facts.minute[rows]
        self._coded: dict[str, Coded] = {}
        self._numbers: dict[str, npt.NDArray[np.float64]] = {}

    def coded(self, name: str) -> Coded:
        """A text field of the catalog, or event_type, user_id or session_id, of each of these events."""
        if name not in self._coded:
            self._coded[name] = self.facts.coded(name, self.rows)
        return self._coded[name]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A number field of the catalog, of each of these events: NaN where it has no such property, infinite where
        that is no number.
        """
        if name not in self._numbers:
            column = self.facts.column(name)
            if column is None:
                column = pa.array(map(attrgetter(name), self._properties), pa.float64())
            elif len(self.rows) < len(column):
                column = column.take(pa.array(self.rows))
            self._numbers[name] = column.to_numpy(zero_copy_only=False)
        return self._numbers[name]

    @cached_property
    def _properties(self) -> list[Any]:
        return [self.facts.properties[row] for row in self.rows.tolist()]


def compact(numbers: Integers, end: int) -> tuple[Integers, Integers]:
    """The distinct ones of numbers from 0 to below `end`, ascending, and for each number its place among these."""
    if end > 4 * len(numbers) + 4096:
        distinct, places = np.unique(numbers, return_inverse=True)
        return distinct, places
    is_there = np.zeros(end, bool)
    is_there[numbers] = True
    distinct = np.flatnonzero(is_there)
    place = np.empty(end, np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[numbers]


def hashes_of(ids: pa.Array, at: npt.NDArray[np.int64]) -> tuple[states.Hashes, states.Hashes]:
    """Two 64-bit lanes of the hash of each event, of its id (fixed_size_binary(16)) and time (µs since 1970)."""
    return states.event_hashes(_halves(ids), np.ascontiguousarray(at))


def _halves(ids: pa.Array) -> npt.NDArray[np.uint64]:
    halves = np.frombuffer(ids.buffers()[1], dtype=">u8").reshape(-1, 2)[ids.offset : ids.offset + len(ids)]
    return halves.astype(np.uint64)


def _text_field(name: str, properties: Sequence[Any]) -> pa.Array:
    return _cut(pa.array(map(attrgetter(name), properties), pa.string()))


def _coded(column: pa.Array) -> Coded:
    encoded = column.dictionary_encode()
    values: list[str | None] = encoded.dictionary.to_pylist()
    if not encoded.null_count:
        return Coded(encoded.indices.to_numpy(), values)
    return Coded(encoded.indices.fill_null(len(values)).to_numpy(), [*values, None])


def _declared(properties: pa.ChunkedArray) -> Sequence[Any]:
    texts = properties.combine_chunks()
    # Each with a comma after it, one after the other in a buffer.
    joined = pc.binary_join_element_wise(texts.fill_null("{}"), ",", "")
    length = pc.sum(pc.binary_length(joined)).as_py() or 1
    try:
        found: list[Any] = _read_all(b"".join((b"[", memoryview(joined.buffers()[2])[: length - 1], b"]")))
    except msgspec.MsgspecError:  # a property of another type, among thousands
        return [declared_one(text) for text in texts.to_pylist()]
    return found


def declared_one(text: str | None) -> Any:
    """An object with the fields of the catalog, read from the properties of one event, whatever they are."""
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
    """A number of JSON, None if there is none; infinite for what is none: text, booleans, what no float can hold."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.inf
    try:
        return float(value)
    except OverflowError:
        return math.inf
