"""Cursors of a list of events: where a page ended, and the range it belongs to.

Belongs here: the text of a cursor. Does not belong here: what comes after it (`repository`).

A cursor names a row, (timestamp, id), not a number of rows, so rows that arrive meanwhile move nothing: each event
that was there when the walk began is seen once. It also carries the range, so that "the last 24 hours" stay the
same 24 hours from page to page, and a mark of its question; those of before, and of streams, have none.
"""

import struct
from binascii import Error
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.times import from_micros, micros
from api.opaque import MARK_BYTES, from_text, to_text
from api.times import LATEST

_LAYOUT = struct.Struct(">BBqqq16s")
_FORMAT, _MARKED = 1, 2
_LATEST = micros(LATEST)


class Row(NamedTuple):
    """Where an event stands in the order of (timestamp, id)."""

    timestamp: datetime
    id: UUID


class Cursor(NamedTuple):
    """The rows before or after `row`, not itself, in `[start, end)`; `is_back` walks against the order asked for."""

    row: Row
    start: datetime
    end: datetime
    is_back: bool = False
    mark: bytes | None = None

    def text(self) -> str:
        """As it is given to a client."""
        times = (micros(at) for at in (self.start, self.end, self.row.timestamp))
        layout = _FORMAT if self.mark is None else _MARKED
        return to_text(_LAYOUT.pack(layout, self.is_back, *times, self.row.id.bytes) + (self.mark or b""))


def read_cursor(text: str) -> Cursor:
    """The opposite of `Cursor.text`.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        packed = from_text(text)
        layout, back, start, end, at, identity = _LAYOUT.unpack_from(packed)
        mark = packed[_LAYOUT.size :] or None
    except (ValueError, Error, struct.error):
        raise ValueError("is not a cursor of this API") from None
    is_known = layout == _FORMAT if mark is None else (layout, len(mark)) == (_MARKED, MARK_BYTES)
    if not is_known or back > 1 or not all(0 <= moment <= _LATEST for moment in (start, end, at)):
        raise ValueError("is not a cursor of this API")
    return Cursor(
        Row(from_micros(at), UUID(bytes=identity)), from_micros(start), from_micros(end), bool(back), mark
    )
