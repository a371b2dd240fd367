"""One message read exactly: the slow, complete reading of the event contract.

`decode` uses it for every message that its fast path cannot vouch for, so this module alone decides why a
message is refused. Does not belong here: the time limits, which need the clock of the batch.
"""

import re
import unicodedata
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np

from analytics_pipeline.events import properties
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import MAX_DEPTH, MAX_TEXT, Limits
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.syntax import STRING, WHITE_SPACE, describe
from analytics_pipeline.events.times import parse_time

FIELDS = frozenset({"event_type", "id", "user_id", "session_id", "properties", "timestamp"})

_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_STARTS = b'{["-0123456789tfn'
_UUID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class Document(NamedTuple):
    """A message that obeys the contract.

    `id` is in its usual form; `properties` is the text to store, `parsed` the same as an object.
    """

    event_type: str
    id: str | None
    user_id: str | None
    session_id: str | None
    properties: bytes
    parsed: dict[str, Any]
    timestamp: datetime | None
    unknown_fields: int


class _Parts(msgspec.Struct):
    properties: msgspec.Raw = msgspec.Raw(properties.EMPTY)


_parts = msgspec.json.Decoder(_Parts).decode


def read_document(value: bytes | None, limits: Limits, custom_types: frozenset[str]) -> Document:
    """Read one message.

    Args:
        value: the bytes as they came.
        limits: sizes; `custom_types` have limits of their own.
        custom_types: event types with an active definition.

    Raises:
        Rejected: any reason but the ones about age, definitions and the database.
    """
    tree = _read_tree(value)
    if not isinstance(tree, dict):
        raise Rejected(Reason.NOT_AN_OBJECT)
    text = _text_of_properties(value or b"")
    event_type = _event_type(tree.get("event_type"))
    try:
        return _read_fields(tree, text, event_type, limits, event_type in custom_types)
    except Rejected as rejected:
        rejected.event_type = event_type
        raise


def _read_fields(
    tree: dict[str, Any], text: str, event_type: str, limits: Limits, is_custom: bool
) -> Document:
    identity = _id(tree.get("id"))
    user_id = _text(tree.get("user_id"), Reason.BAD_USER_ID, "$.user_id")
    session_id = _text(tree.get("session_id"), Reason.BAD_SESSION_ID, "$.session_id")
    kept, parsed = properties.EMPTY, dict[str, Any]()
    if tree.get("properties") is not None:
        if not isinstance(tree["properties"], dict):
            raise Rejected(Reason.BAD_PROPERTIES, path=properties.PATH)
        kept, parsed = properties.exact(text, *limits.of_properties(is_custom))
    timestamp = None if tree.get("timestamp") is None else parse_time(tree["timestamp"])
    unknown = len(tree.keys() - FIELDS)
    if unknown and limits.strict:
        raise Rejected(Reason.UNKNOWN_FIELD, f"{unknown} fields are not part of the contract")
    return Document(event_type, identity, user_id, session_id, kept, parsed, timestamp, unknown)


def _text_of_properties(value: bytes) -> str:
    try:
        return bytes(_parts(value).properties).decode()
    except msgspec.DecodeError:
        # The tree has only the last of equal keys, so it cannot show what an earlier one holds.
        raise Rejected(Reason.BAD_ENCODING, "half of a surrogate pair is escaped") from None


def is_clean_name(name: str) -> bool:
    """Whether an event type has no control characters (Unicode category Cc)."""
    return not any(unicodedata.category(character) == "Cc" for character in name)


def _read_tree(value: bytes | None) -> Any:
    if not value:
        raise Rejected(Reason.EMPTY_MESSAGE)
    if value.startswith(_BYTE_ORDER_MARKS):
        raise Rejected(Reason.BAD_ENCODING, "the value begins with a byte order mark")
    start = value.lstrip(WHITE_SPACE)[:1]
    if not start or start not in _STARTS:
        raise Rejected(Reason.NOT_JSON, describe(value))
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Rejected(Reason.BAD_ENCODING, f"byte {error.start} is not UTF-8") from None
    if _depth(value) > MAX_DEPTH:
        raise Rejected(Reason.TOO_DEEP)
    try:
        tree = properties.read(text, [])
    except ValueError:
        raise Rejected(Reason.NOT_JSON, describe(value)) from None
    if not all(map(is_encodable, properties.texts(tree))):
        raise Rejected(Reason.BAD_ENCODING, "half of a surrogate pair is escaped")
    return tree


def _depth(value: bytes) -> int:
    """The deepest nesting, strings left out; right for JSON, an upper bound of nothing else."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return 0
    steps = _STEPS[np.frombuffer(STRING.sub(b"", value), np.uint8)]
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def is_encodable(text: str) -> bool:
    """Whether the text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _event_type(value: object) -> str:
    if value is None:
        raise Rejected(Reason.MISSING_EVENT_TYPE, path="$.event_type")
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not is_clean_name(value):
        raise Rejected(Reason.BAD_EVENT_TYPE, _flaw_of_event_type(value), "$.event_type")
    return value


def _flaw_of_event_type(value: object) -> str:
    if not isinstance(value, str):
        return "must be a string"
    if not value:
        return "must not be empty"
    if len(value) > MAX_TEXT:
        return f"{len(value)} characters, at most {MAX_TEXT} are allowed"
    at = next(at for at, character in enumerate(value, 1) if not is_clean_name(character))
    return f"character {at} of {len(value)} is a control character"


def _id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Rejected(Reason.BAD_ID, path="$.id")
    return str(UUID(value))


def _text(value: object, reason: Reason, path: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise Rejected(reason, path=path)
    return value
