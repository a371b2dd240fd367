"""Cursors of a list of events: where a page ended, and the range it belongs to.

Belongs here: the text of a cursor. Does not belong here: what comes after it (`repository`).

A cursor names a row, (timestamp, id), not a number of rows, so rows that arrive meanwhile move nothing: each event
that was there when the walk began is seen once. It also carries the range, so that "the last 24 hours" stay the
same 24 hours from page to page.
"""

import struct
from binascii import Error
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.times import from_micros, micros
from api.opaque import from_text, to_text
from api.times import LATEST

_LAYOUT = struct.Struct(">BBqqq16s")
_FORMAT = 1
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

    def text(self) -> str:
        """As it is given to a client."""
        times = (micros(at) for at in (self.start, self.end, self.row.timestamp))
        packed = _LAYOUT.pack(_FORMAT, self.is_back, *times, self.row.id.bytes)
        return to_text(packed)


def read_cursor(text: str) -> Cursor:
    """The opposite of `Cursor.text`.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        packed = from_text(text)
        layout, back, start, end, at, identity = _LAYOUT.unpack(packed)
    except (ValueError, Error, struct.error):
        raise ValueError("is not a cursor of this API") from None
    if layout != _FORMAT or back > 1 or not all(0 <= moment <= _LATEST for moment in (start, end, at)):
        raise ValueError("is not a cursor of this API")
    return Cursor(
        Row(from_micros(at), UUID(bytes=identity)), from_micros(start), from_micros(end), bool(back)
    )
