"""Requests and answers as values, the same for `Client` and `AsyncClient`.

Belongs here: what a request is made of, how parameters are written, how an answer is read. Does not belong here:
sending (`transport`), and the single endpoints.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_origin
from urllib.parse import quote
from uuid import UUID

T = TypeVar("T")

_OK = frozenset({200})
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1)))


class Answer(NamedTuple):
    """What the service said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body.

        Raises:
            ValueError: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("it nests too deeply") from None

    def object(self) -> dict[str, Any]:
        """The body if it is a JSON object, else nothing."""
        try:
            content = self.json()
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request, and how its answer is read.

    Attributes:
        path: begins with a slash.
        read: makes the result of an answer; KeyError, TypeError and ValueError say that it is not understood.
        parameters: of the query string.
        answers: statuses that `read` understands; others are errors.
        body: JSON to send.
        verb: of HTTP; empty: POST with a body, else GET.
        is_read: a POST that changes nothing. All that reads may be asked again; a write is never sent twice.
        takes: seconds that the service was asked to take, beyond the client's timeout.
    """

    path: str
    read: Callable[[Answer], T]
    parameters: Sequence[tuple[str, str]] = ()
    answers: frozenset[int] = _OK
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: float = 0.0
    verb: Literal["", "POST", "PATCH", "DELETE"] = ""
    is_read: bool = False

    @property
    def method(self) -> str:
        """Of HTTP."""
        return self.verb or ("GET" if self.body is None else "POST")

    @property
    def may_repeat(self) -> bool:
        """Whether sending it once more can do no harm."""
        return self.is_read or self.method == "GET"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and where it goes on; None behind the last part."""

    items: tuple[T, ...]
    next_cursor: str | None


def path_of(*parts: str) -> str:
    """A path of parts, each percent-encoded."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def write_parameters(
    asked: Mapping[str, Any], known: type, *, joined: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """The query string of keyword arguments; None stands for absent.

    Args:
        asked: the arguments.
        known: the TypedDict that declares them.
        joined: those whose several values are one text with commas; others are given several times.

    Raises:
        TypeError: an argument is not known.
        ValueError: a time has no zone, or a value cannot be written.
    """
    names = known.__annotations__
    written: list[tuple[str, str]] = []
    for name, value in asked.items():
        if name not in names:
            hint = "; a dimension is given as dimension='symbol:eq:BTCUSDT'" if "dimension" in names else ""
            raise TypeError(
                f"{name}: there is no parameter of this name; there are {', '.join(sorted(names))}{hint}"
            )
        if value is None:
            continue
        values = [value] if isinstance(value, str | bytes) or not isinstance(value, Sequence) else list(value)
        texts = [_text(name, one) for one in values]
        if name in joined:
            texts = [",".join(texts)] if texts else []
        written += [(name, text) for text in texts]
    return written


def read_time(text: str) -> datetime:
    """RFC 3339, as the service writes it."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without zone")
    return at


def write_body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a JSON body; None stands for absent.

    Raises:
        ValueError: a time has no zone.
    """
    return {
        name: _text(name, value) if isinstance(value, datetime) else value
        for name, value in asked.items()
        if value is not None
    }


def read_record(kind: type[T], content: Mapping[str, Any], **made: Any) -> T:
    """A dataclass of the fields that have its names; times, UUIDs and lists become what the dataclass declares.

    Args:
        kind: the dataclass. What it does not know is left out: a newer service may say more.
        content: the JSON object.
        made: fields that were made of it already.

    Raises:
        KeyError: a field without a default is missing.
    """
    values = dict(made)
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name in values or (one.name not in content and _has_default(one)):
            continue
        values[one.name] = _read_as(one.type, content[one.name])
    return kind(**values)


def _has_default(one: "Field[Any]") -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def _read_as(declared: Any, value: Any) -> Any:
    if value is None:
        return None
    if declared in (datetime, datetime | None):
        return read_time(value)
    if declared is UUID:
        return UUID(value)
    return tuple(value) if get_origin(declared) is tuple else value


def _text(name: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case datetime():
            if value.tzinfo is None:
                raise ValueError(f"{name}: it has no zone; use datetime.now(UTC)")
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return _duration(name, value)
        case str() | int() | float() | UUID():
            return str(value)
        case _ if hasattr(value, "text"):
            return str(value.text)
        case _:
            raise TypeError(f"{name}: a {type(value).__name__} cannot be written")


def _duration(name: str, value: timedelta) -> str:
    """As the service reads it: whole seconds, minutes, hours or days."""
    if value <= timedelta() or value.microseconds:
        raise ValueError(f"{name}: whole seconds, at least one")
    for unit, width in _UNITS:
        if not value % width:
            return f"{value // width}{unit}"
    return f"{value // timedelta(seconds=1)}s"
