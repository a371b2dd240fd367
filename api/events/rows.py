"""Events written for a client: JSON objects, lines, CSV, Arrow.

Belongs here: the shape of a row in each format. Does not belong here: which rows (`pages`).
"""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any

import msgspec
import orjson
import pyarrow as pa

from api.events.formats import Format
from api.events.listing import COLUMNS, Field
from api.events.pages import Event

_ALL = tuple(Field(name) for name in COLUMNS)
_UTC = pa.timestamp("us", tz="UTC")
_TYPES = {"timestamp": _UTC, "created_at": _UTC}
_MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}
_OPTIONAL = frozenset({"user_id", "session_id"})
_raw_values = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def media_type(form: Format) -> str:
    """The content type of an answer."""
    return _MEDIA_TYPES[form]


def json_rows(events: Sequence[Event], fields: Sequence[Field]) -> list[dict[str, Any]]:
    """For orjson; without `fields` as the original: `user_id` and `session_id` only where there are some."""
    return [_object(event, fields or _ALL, is_projected=bool(fields)) for event in events]


def encoder(form: Format, fields: Sequence[Field]) -> "Encoder":
    """What writes a stream."""
    made: dict[Format, Callable[[Sequence[Field]], Encoder]] = {
        Format.NDJSON: Encoder,
        Format.CSV: _Csv,
        Format.ARROW: _Arrow,
    }
    return made[form](fields)


class Encoder:
    """Writes a stream piece by piece: `begin`, `rows` any number of times, `end`. This one writes NDJSON."""

    def __init__(self, fields: Sequence[Field]) -> None:
        """Take the fields; none for all columns."""
        self._chosen = fields
        self._fields = tuple(fields or _ALL)

    def begin(self) -> bytes:
        """What comes before the first row."""
        return b""

    def rows(self, events: Sequence[Event]) -> bytes:
        """Some rows."""
        return b"".join(
            orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
            for row in json_rows(events, self._chosen)
        )

    def end(self) -> bytes:
        """What comes after the last row."""
        return b""


class _Csv(Encoder):
    """RFC 4180 with a header line; properties are JSON text, times RFC 3339."""

    def begin(self) -> bytes:
        return self._lines([[field.name for field in self._fields]])

    def rows(self, events: Sequence[Event]) -> bytes:
        return self._lines([[_text(event, field) for field in self._fields] for event in events])

    @staticmethod
    def _lines(rows: Sequence[Sequence[str | None]]) -> bytes:
        into = io.StringIO()
        csv.writer(into).writerows(rows)
        return into.getvalue().encode()


class _Arrow(Encoder):
    """An IPC stream: times as timestamps in UTC, everything else as text, a property as its JSON text."""

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__(fields)
        self._schema = pa.schema(
            [(field.name, _TYPES.get(field.name, pa.string())) for field in self._fields]
        )
        self._into = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._into, self._schema)

    def begin(self) -> bytes:
        return self._taken()

    def rows(self, events: Sequence[Event]) -> bytes:
        columns = [[_value(event, field) for event in events] for field in self._fields]
        self._writer.write_table(pa.table(columns, schema=self._schema))
        return self._taken()

    def end(self) -> bytes:
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        written = self._into.getvalue()
        self._into.seek(0)
        self._into.truncate()
        return written


def _object(event: Event, fields: Sequence[Field], *, is_projected: bool) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for field in fields:
        value = _value(event, field)
        if field.property_name is not None or field.name == "properties":
            content[field.name] = None if value is None else orjson.Fragment(value)
        elif value is not None or is_projected or field.name not in _OPTIONAL:
            content[field.name] = value
    return content


def _value(event: Event, field: Field) -> Any:
    """A column, or the JSON text of one property; None where there is none."""
    if field.property_name is not None:
        raw = _raw_values(event.properties or "{}").get(field.property_name)
        return None if raw is None else bytes(raw).decode()
    match field.name:
        case "id":
            return str(event.id)
        case "properties":
            return event.properties or "{}"
        case "timestamp" | "created_at":
            return getattr(event, field.name).astimezone(UTC)
        case name:
            return getattr(event, name)


def _text(event: Event, field: Field) -> str | None:
    value = _value(event, field)
    if field.property_name is not None and value is not None and value.startswith('"'):
        return msgspec.json.decode(value, type=str)
    return value if isinstance(value, str | None) else value.isoformat().replace("+00:00", "Z")
