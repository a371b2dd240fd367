"""Raw messages to rows: many at once where all are certainly right, one by one where only `document` can tell.

Belongs here: the parser, and what makes a message certain. Does not belong here: why a message is refused
(`document`, `properties`), and whatever needs the whole batch: ids, age, lateness, duplicates (`decode`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import methodcaller
from typing import Annotated, Any

import msgspec

from analytics_pipeline.events import columns, properties
from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.document import Document, is_clean_name, read_document
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.judge import judge
from analytics_pipeline.events.limits import MAX_TEXT, Limits
from analytics_pipeline.events.messages import DeadLetter, Message, RawBatch, dead_letter
from analytics_pipeline.events.times import EPOCH

_CHUNK = 128
"""Messages that are vouched for together: one that is not certain costs this many a second look."""

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_MOST_NAMES = 10_000
_clean_names: set[str] = set()
_UNSURE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
"""What the parser raises for messages it cannot vouch for; a missing value is a TypeError."""


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The contract as far as the parser can check it; ids in another form go the slow way."""

    event_type: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]
    id: (
        Annotated[str, msgspec.Meta(min_length=columns.UUID_LENGTH, max_length=columns.UUID_LENGTH)] | None
    ) = None
    user_id: _Text | None = None
    session_id: _Text | None = None
    properties: msgspec.Raw = msgspec.Raw(properties.EMPTY)
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_value_of = methodcaller("value")
_decode = msgspec.json.Decoder(_Event).decode


class Rows:
    """Accepted rows, column by column, as Python values."""

    def __init__(self) -> None:
        self.event_type: list[str] = []
        self.id: list[str | None] = []
        self.user_id: list[str | None] = []
        self.session_id: list[str | None] = []
        self.properties: list[msgspec.Raw] = []
        """JSON texts; those of the parser are views of their messages."""
        self.time: list[timedelta | None] = []
        self.version: list[int | None] = []
        self.message: list[Message] = []


class Reader:
    """Reads the messages of one batch after the other.

    Args:
        limits: sizes.
        definitions: the snapshot that judges.
    """

    def __init__(self, limits: Limits, definitions: Definitions) -> None:
        self._limits = limits
        self._definitions = definitions
        self._custom_types = definitions.types
        self._is_judged = bool(self._custom_types) or limits.strict_types
        self._most, self._most_bytes = limits.of_properties(False)
        self._custom = limits.of_properties(True)
        self.rows = Rows()
        self.dead: list[DeadLetter] = []
        self.unknown_fields = 0

    def read(self, batch: RawBatch) -> None:
        """Add the messages of one partition to `rows` and `dead`."""
        for start in range(0, len(batch.messages), _CHUNK):
            messages = batch.messages[start : start + _CHUNK]
            values = list(map(_value_of, messages))
            if not self._add_certain(messages, values):
                for message, value in zip(messages, values, strict=True):
                    self._add_one(batch, message, value)

    def _add_certain(self, messages: Sequence[Message], values: Sequence[bytes | None]) -> bool:
        """Add all of them, if every single one is certainly fine."""
        try:
            events: list[_Event] = list(map(_decode, values))  # type: ignore[arg-type]
            texts = [event.properties for event in events]
            if not properties.all_quick(texts, self._most, self._most_bytes):
                return False
        except _UNSURE:
            return False
        names = [event.event_type for event in events]
        users = [event.user_id for event in events]
        sessions = [event.session_id for event in events]
        kinds = set(names)
        if self._is_judged and (self._limits.strict_types or not kinds.isdisjoint(self._custom_types)):
            return False
        if not (kinds <= _clean_names or all(map(_is_clean, kinds))):
            return False
        if "\0" in "".join(filter(None, users)) or "\0" in "".join(filter(None, sessions)):
            return False
        rows = self.rows
        rows.event_type += names
        rows.id += [event.id for event in events]
        rows.user_id += users
        rows.session_id += sessions
        rows.properties += texts
        rows.time += [None if event.timestamp is None else event.timestamp - EPOCH for event in events]
        rows.version += [None] * len(events)
        rows.message += messages
        return True

    def _add_one(self, batch: RawBatch, message: Message, value: bytes | None) -> None:
        """Add one message, as a row or as a dead letter."""
        event: _Event | Document
        parsed: dict[str, Any] | None = None
        name, text = "", b""
        try:
            event = _decode(value)  # type: ignore[arg-type]
            name, text = event.event_type, bytes(event.properties)
            if (name in _clean_names or _is_clean(name)) and b"\\u0000" not in value:  # type: ignore[operator]
                sizes = self._custom if name in self._custom_types else (self._most, self._most_bytes)
                parsed = properties.quick(text, *sizes)
        except _UNSURE:
            pass  # read_document finds out
        try:
            if parsed is None:
                event = read_document(value, self._limits, self._custom_types)
                name, text, parsed = event.event_type, event.properties, event.parsed
                self.unknown_fields += event.unknown_fields
            version = judge(name, parsed, self._definitions, self._limits) if self._is_judged else None
        except Rejected as rejected:
            self.dead.append(dead_letter(batch.source, batch.partition, message, rejected))
            return
        rows = self.rows
        rows.event_type.append(name)
        rows.id.append(event.id)
        rows.user_id.append(event.user_id)
        rows.session_id.append(event.session_id)
        rows.properties.append(msgspec.Raw(text))
        rows.time.append(None if event.timestamp is None else event.timestamp - EPOCH)
        rows.version.append(version)
        rows.message.append(message)


def _is_clean(name: str) -> bool:
    """Whether the name has no control characters; remembers the answer, there are few event types."""
    if not is_clean_name(name):
        return False
    if len(_clean_names) < _MOST_NAMES:
        _clean_names.add(name)
    return True
