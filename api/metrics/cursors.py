"""Cursors of points: where a page ended, the range it belongs to, and a mark of the question.

Belongs here: the text of a cursor. Does not belong here: what comes after it (`points`).

A cursor names a point, (bucket, series), not a number of points, so what is counted meanwhile moves nothing.
"""

import struct
from binascii import Error
from datetime import datetime
from typing import NamedTuple

from analytics_pipeline.events.times import micros
from api.metrics.buckets import moment
from api.opaque import MARK_BYTES, from_text, to_text
from api.times import LATEST

_LAYOUT = struct.Struct(">Bqqq")
_FORMAT, _MARKED = 2, 3
"""Without a mark, as before, and with one between the times and the series."""
_LATEST = micros(LATEST)
_LONGEST_SERIES = 4096


class Place(NamedTuple):
    """Where a point stands: start of its bucket in µs since 1970, and its dimensions as JSON text."""

    at: int
    series: str


class Cursor(NamedTuple):
    """The points behind a place, in the order asked for, of a range."""

    place: Place
    start: datetime
    end: datetime
    mark: bytes | None = None

    def text(self) -> str:
        """As it is given to a client."""
        layout = _FORMAT if self.mark is None else _MARKED
        packed = _LAYOUT.pack(layout, micros(self.start), micros(self.end), self.place.at)
        return to_text(packed + (self.mark or b"") + self.place.series.encode())


def read_cursor(text: str) -> Cursor:
    """The opposite of `Cursor.text`.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        packed = from_text(text)
        layout, start, end, at = _LAYOUT.unpack_from(packed)
        begin = _LAYOUT.size + (MARK_BYTES if layout == _MARKED else 0)
        mark, series = packed[_LAYOUT.size : begin] or None, packed[begin:].decode()
    except (ValueError, Error, struct.error):
        raise ValueError("is not a cursor of this API") from None
    if (
        layout not in (_FORMAT, _MARKED)
        or (layout == _MARKED and len(mark or b"") != MARK_BYTES)
        or not 0 <= start <= end <= _LATEST
        or not 0 <= at <= _LATEST
        or len(series) > _LONGEST_SERIES
    ):
        raise ValueError("is not a cursor of this API")
    return Cursor(Place(at, series), moment(start), moment(end), mark)
