"""Which dead letters a request is about.

Belongs here: the parameters of reads, and the same fields in the bodies of writes. Does not belong here: documented
answers (`schemas`), SQL (`analytics_pipeline.storage.dead_letters`).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.storage.dead_letters import Filter, Status
from api.errors import BadRequest, Forbidden, invalid_parameter
from api.parameters import Parameter, Query
from api.times import parse_time

_MOST_VALUES = 100
_MOST_TEXT = 255
_MOST_ID = 2**63 - 1
_ALL = "all"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

_TIME = (("type", "string"), ("format", "date-time"))
REASON = Parameter(
    "reason",
    "Only letters of this reason code; given several times, of any of them.",
    "schema_violation",
    (("type", "string"), ("enum", list(Reason))),
    repeats=True,
)
EVENT_TYPE = Parameter(
    "event_type",
    "Only letters of this event type, where the message was good enough to tell; given several times, of any of them. "
    "`order.*` stands for all that begin with `order.`.",
    "order.placed",
    repeats=True,
)
SOURCE = Parameter(
    "source", "Only letters of this topic, or `http`; may be repeated.", "order.events", repeats=True
)
PRODUCER = Parameter(
    "producer",
    "Only letters of this producer, by the name that `/api/v1/sources` shows: Kafka's header `source`, else "
    "`client_id`; of POST `X-Client-Id`. Given several times, of any of them. Not the topic, which is `source`.",
    "order-execution",
    repeats=True,
)
GROUP = Parameter("group", "Only letters of this group; may be repeated.", "5f0c0d9be7c3a1f2", repeats=True)
ID = Parameter(
    "id", "Only this letter; may be repeated.", 4711, (("type", "integer"), ("minimum", 1)), repeats=True
)
START_TIME = Parameter(
    "start_time",
    "Only letters written from then on: RFC 3339 with a zone. Default: no limit.",
    "2026-01-31T00:00:00Z",
    _TIME,
)
END_TIME = Parameter(
    "end_time",
    "Only letters written before then: RFC 3339 with a zone. Default: no limit.",
    "2026-02-01T00:00:00Z",
    _TIME,
)
STATUS = Parameter(
    "status",
    "What became of them. Default: open.",
    "open",
    (("type", "string"), ("enum", [*Status, _ALL])),
)
PARAMETERS = (REASON, EVENT_TYPE, SOURCE, PRODUCER, GROUP, ID, START_TIME, END_TIME, STATUS)


def read_filter(query: Query, reach: Reach) -> Filter:
    """The letters that a query string asks for, of those that may be seen.

    Raises:
        BadRequest: a parameter is malformed.
        Forbidden: none of them may be seen.
    """
    visible = seen(reach)
    types = query.texts(EVENT_TYPE, most=_MOST_VALUES, limit=_MOST_TEXT)
    if not all(name.endswith("*") or visible.has_type(name) for name in types):
        raise Forbidden("The key does not see events of this type.")
    reasons = query.texts(REASON, most=_MOST_VALUES)
    if not set(reasons) <= set(Reason):
        raise invalid_parameter(REASON.name, "is not a reason code; docs/dead-letters.md lists them")
    status = query.choice(STATUS, [*Status, _ALL]) or Status.OPEN
    return Filter(
        ids=tuple(_id(text) for text in query.texts(ID, most=_MOST_VALUES)),
        reasons=tuple(reasons),
        event_types=tuple(types),
        sources=tuple(query.texts(SOURCE, most=_MOST_VALUES, limit=_MOST_TEXT)),
        producers=tuple(query.texts(PRODUCER, most=_MOST_VALUES, limit=_MOST_TEXT)),
        groups=tuple(query.texts(GROUP, most=_MOST_VALUES, limit=_MOST_TEXT)),
        statuses=() if status == _ALL else (Status(status),),
        since=query.time(START_TIME),
        until=query.time(END_TIME),
        reach=visible,
    )


def seen(reach: Reach) -> Reach:
    """What of the letters a key sees: those whose event type is known and is one of its own.

    Raises:
        Forbidden: it sees events by their dimensions, and letters have none.
    """
    if reach.dimensions:
        names = ", ".join(name for name, _ in reach.dimensions)
        raise Forbidden(
            f"What could not become an event is not kept by {names}, by which the key sees events; use a key without "
            "dimensions."
        )
    return reach


BODY_FIELDS: dict[str, Any] = {
    "ids": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 10_000},
    "reasons": {"type": "array", "items": {"type": "string", "enum": list(Reason)}},
    "event_types": {
        "type": "array",
        "items": {"type": "string"},
        "description": "`order.*` stands for all that begin with `order.`.",
    },
    "sources": {"type": "array", "items": {"type": "string"}, "description": "Topics, or `http`."},
    "producers": {
        "type": "array",
        "items": {"type": "string"},
        "description": "As `/api/v1/sources` names them.",
    },
    "groups": {"type": "array", "items": {"type": "string"}},
    "start_time": {"type": "string", "format": "date-time", "description": "Written from then on."},
    "end_time": {"type": "string", "format": "date-time", "description": "Written before then."},
    "all": {"type": "boolean", "description": "Every open letter; needed where no filter is given."},
}
"""Fields of a body that choose letters, as JSON Schema: all that are given must hold, of a list any."""

_MOST_IDS = 10_000


def read_object(body: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with no other fields than these: a misspelt filter must not choose every letter.

    Raises:
        BadRequest: it is something else.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad("the body is not JSON") from None
    if not isinstance(content, dict):
        raise bad("the body must be a JSON object")
    if not content.keys() <= fields.keys():
        raise bad(f"the body has fields other than {', '.join(fields)}")
    return content


def chosen(content: Mapping[str, Any]) -> Filter:
    """The letters that a body names; only open ones are meant.

    Raises:
        BadRequest: a field is malformed, or nothing is named and `all` is not true.
    """
    reasons = _texts(content, "reasons")
    if not set(reasons) <= set(Reason):
        raise bad("reasons: each is a reason code; docs/dead-letters.md lists them")
    which = Filter(
        ids=_ids(content),
        reasons=reasons,
        event_types=_texts(content, "event_types"),
        sources=_texts(content, "sources"),
        producers=_texts(content, "producers"),
        groups=_texts(content, "groups"),
        since=_time(content, "start_time"),
        until=_time(content, "end_time"),
    )
    is_all = flag(content, "all")
    if which.is_empty and not is_all:
        raise bad("say which dead letters: give a filter such as reasons, or all: true")
    if is_all and not which.is_empty:
        raise bad("all: means every open letter, so it goes without filters")
    return which


def flag(content: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false; absent, false.

    Raises:
        BadRequest: it is something else.
    """
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise bad(f"{name}: must be true or false")
    return value


def whole(content: Mapping[str, Any], name: str, *, default: int, low: int, high: int) -> int:
    """A field that is a whole number from `low` to `high`.

    Raises:
        BadRequest: it is something else.
    """
    value = content.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise bad(f"{name}: must be a whole number from {low} to {high}")
    return value


def text_of(content: Mapping[str, Any], name: str, *, most: int) -> str:
    """A field that is text and says something.

    Raises:
        BadRequest: it is something else.
    """
    value = content.get(name)
    if not isinstance(value, str) or not _is_text(value, most) or not value.strip():
        raise bad(f"{name}: is required, as text of at most {most} characters without control characters")
    return value


def bad(sentence: str) -> BadRequest:
    """A body is wrong."""
    return BadRequest(sentence, kind="invalid-body", title="Invalid request body")


def _ids(content: Mapping[str, Any]) -> tuple[int, ...]:
    values = _list(content, "ids", _MOST_IDS)
    if not all(type(one) is int and 1 <= one <= _MOST_ID for one in values):
        raise bad("ids: each is the id of a dead letter, a whole number")
    return tuple(dict.fromkeys(values))


def _texts(content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = _list(content, name, _MOST_VALUES)
    if not all(_is_text(one, _MOST_TEXT) for one in values):
        raise bad(f"{name}: a list of texts of 1 to {_MOST_TEXT} characters without control characters")
    return tuple(dict.fromkeys(values))


def _list(content: Mapping[str, Any], name: str, most: int) -> list[Any]:
    if name not in content:
        return []
    values = content[name]
    # An empty list would mean everything, which nobody who writes one can want.
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        raise bad(f"{name}: a list of 1 to {most} values")
    return values


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= most and not _CONTROL.search(value)


def _time(content: Mapping[str, Any], name: str) -> datetime | None:
    if name not in content:
        return None
    value = content[name]
    if not isinstance(value, str):
        raise bad(f"{name}: a time as text, RFC 3339 with a zone")
    try:
        return parse_time(value)
    except ValueError as error:
        raise bad(f"{name}: {error}") from None


def id_of(text: str) -> int | None:
    """The id of a letter, or None where it cannot be one."""
    is_number = text.isascii() and text.isdigit() and len(text) <= 19
    return int(text) if is_number and 1 <= int(text) <= _MOST_ID else None


def _id(text: str) -> int:
    number = id_of(text)
    if number is None:
        raise invalid_parameter(ID.name, "is not the id of a dead letter, a whole number")
    return number
