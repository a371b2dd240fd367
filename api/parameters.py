"""Query parameters: declared once, read strictly, shown in the OpenAPI document from the same declaration.

Belongs here: the parameters that several features share, and how a query string is read.
Does not belong here: what a feature does with them.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from api.errors import BadRequest, invalid_parameter
from api.times import parse_time

MAX_FIELDS = 100
MAX_TEXT = 512
MOST_SECONDS = 5.0
"""The longest wait for what `after` names."""


@dataclass(frozen=True)
class Parameter:
    """One query parameter, as people read about it."""

    name: str
    description: str
    example: str | int | None = None
    schema: tuple[tuple[str, Any], ...] = (("type", "string"),)
    required: bool = False
    repeats: bool = False
    """Whether it may be given several times; the schema is that of one value."""

    def openapi(self) -> dict[str, Any]:
        """Its entry in the OpenAPI document."""
        entry: dict[str, Any] = {
            "name": self.name,
            "in": "query",
            "required": self.required,
            "description": self.description,
            "schema": {"type": "array", "items": dict(self.schema)} if self.repeats else dict(self.schema),
        }
        if dict(self.schema) == {"type": "string"} and not self.repeats:
            entry["schema"]["maxLength"] = MAX_TEXT
        if self.example is not None:
            entry["example"] = [self.example] if self.repeats else self.example
        return entry


_TIME = (("type", "string"), ("format", "date-time"))
START_TIME = Parameter(
    "start_time",
    "Start of the range, included: RFC 3339 with a zone. Default: 24 hours before the end, or before now.",
    "2026-01-31T00:00:00Z",
    _TIME,
)
END_TIME = Parameter(
    "end_time",
    "End of the range, not included: RFC 3339 with a zone. Default: now.",
    "2026-02-01T00:00:00Z",
    _TIME,
)
LIMIT = Parameter("limit", "Most entries to return. Default 100.", 100, (("type", "integer"), ("minimum", 1)))

AFTER = Parameter(
    "after",
    "Read your writes: the answer comes when this has landed, and holds it. The landing token of a POST "
    f"(`X-Landing-Token`), or `topic:partition:offset` of a message in Kafka. At most {MOST_SECONDS:g} seconds, then "
    "503; 409 if it became a dead letter.",
    "7c1f4a0000-0-1",
)


def openapi_parameters(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """`openapi_extra` of a route with these parameters."""
    return {"parameters": [parameter.openapi() for parameter in parameters]}


class Query:
    """The parameters of one request; an empty value counts as absent.

    A name that is unknown is refused, because a misspelt filter would answer for everything; but for names that begin
    with `_`, by which programs make an address unlike any that a cache between has seen.
    """

    def __init__(self, query_string: bytes, known: Sequence[Parameter], *, is_all: bool = True) -> None:
        """Take a query string and what may be in it; where `known` is not all, others may be there, too.

        Raises:
            BadRequest: it cannot be read, repeats what may not be repeated, or has something unknown.
        """
        repeats = {parameter.name: parameter.repeats for parameter in known}
        self._all: dict[str, list[str]] = {}
        for name, value in _fields(query_string):
            if name not in repeats:
                if is_all and not name.startswith("_"):
                    raise _unknown(name, list(repeats))
                continue
            if name in self._all and not repeats[name]:
                raise invalid_parameter(name, "is given more than once")
            self._all.setdefault(name, []).append(value)
        self._values = {name: values[0] for name, values in self._all.items() if values[0]}

    def text(self, parameter: Parameter, *, limit: int = MAX_TEXT) -> str | None:
        """The value, free of control characters.

        Raises:
            BadRequest: it is longer than `limit` characters or has control characters.
        """
        value = self._values.get(parameter.name)
        if value is None:
            if parameter.required:
                raise invalid_parameter(parameter.name, "is required", title=f"{parameter.name} is required")
            return None
        return _checked(parameter, value, limit)

    def texts(self, parameter: Parameter, *, most: int, limit: int = MAX_TEXT) -> list[str]:
        """The values of a parameter that repeats, each once, empty ones left out.

        Raises:
            BadRequest: there are more than `most`, or one of them is refused as `text` would.
        """
        values = list(dict.fromkeys(value for value in self._all.get(parameter.name, []) if value))
        if len(values) > most:
            raise invalid_parameter(parameter.name, f"is given more than {most} times")
        return [_checked(parameter, value, limit) for value in values]

    def choice(self, parameter: Parameter, choices: Sequence[str]) -> str | None:
        """The value, which must be one of `choices`."""
        value = self.text(parameter)
        if value is not None and value not in choices:
            raise invalid_parameter(parameter.name, f"must be one of {', '.join(choices)}")
        return value

    def number(self, parameter: Parameter, *, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`, plain ASCII digits only."""
        value = self._values.get(parameter.name)
        if value is None:
            return default
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 12 or not low <= int(value) <= high:
            raise invalid_parameter(parameter.name, f"must be a whole number from {low} to {high}")
        return int(value)

    def time(self, parameter: Parameter) -> datetime | None:
        """A time in UTC."""
        value = self._values.get(parameter.name)
        if value is None:
            return None
        try:
            return parse_time(value)
        except ValueError as error:
            raise invalid_parameter(
                parameter.name, str(error), title=f"Invalid {parameter.name} format"
            ) from None

    def range(self, now: datetime) -> tuple[datetime, datetime]:
        """The half-open range asked for; without a start, the 24 hours before the end or before now."""
        end = self.time(END_TIME) or now
        start = self.time(START_TIME) or min(now, end) - timedelta(days=1)
        if start > end:
            raise invalid_parameter("start_time", "is after end_time")
        return start, end


def without(query_string: bytes, parameter: Parameter) -> bytes:
    """A query string for who does not know a parameter that may be in it.

    Raises:
        BadRequest: it cannot be read.
    """
    fields = [field for field in _fields(query_string) if field[0] != parameter.name]
    return urlencode(fields).encode()


def _unknown(name: str, known: list[str]) -> BadRequest:
    """Names what is known alone: what was sent is not repeated."""
    near = difflib.get_close_matches(name[:MAX_TEXT].lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
    return BadRequest(f"One of the query parameters is unknown here: {hint}", kind="unknown-parameter")


def _checked(parameter: Parameter, value: str, limit: int) -> str:
    if len(value) > limit:
        raise invalid_parameter(parameter.name, f"is longer than {limit} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise invalid_parameter(parameter.name, "has control characters")
    return value


def _fields(query_string: bytes) -> list[tuple[str, str]]:
    try:
        text = query_string.decode("ascii")
        return parse_qsl(
            text, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise BadRequest("The query string is not percent-encoded UTF-8.") from None
    except ValueError:
        raise BadRequest(f"The query string has more than {MAX_FIELDS} parameters.") from None
