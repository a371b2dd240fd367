"""Filters on properties: `name:operator:value`, typed as JSON.

Belongs here: what a filter means, in words and in SQL. Does not belong here: the statements around it (`repository`).

Values are compared as what JSON says they are: `5` and `5.0` are the same number, `"5"` is a text and neither. A
property of another type than the value never matches `gt`, `gte`, `lt`, `lte` and `prefix`, and an event without the
property matches none but `exists:false`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, LiteralString

import msgspec
from psycopg.sql import SQL, Composed, Placeholder

_MOST_CHARACTERS = 255
_MOST_VALUES = 100
_LONGEST_NUMBER = 40
"""Digits and all: what is longer is compared as text, as no sensible number is."""
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?", re.ASCII)
_CONSTANTS = frozenset({"true", "false", "null"})


class Operator(StrEnum):
    """How a property is compared."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    PREFIX = "prefix"
    EXISTS = "exists"


_ORDERED: LiteralString = (
    "(jsonb_typeof(properties -> {{name}}) = jsonb_typeof({{value}}::jsonb)"
    " AND properties -> {{name}} {} {{value}}::jsonb)"
)
_CONDITIONS: Mapping[Operator, LiteralString] = {
    # Containment, because an index on properties can serve it; of scalars it means equality.
    Operator.EQ: "properties @> {value}::jsonb",
    Operator.NE: "(properties ? {name} AND properties -> {name} <> {value}::jsonb)",
    Operator.GT: _ORDERED.format(">"),
    Operator.GTE: _ORDERED.format(">="),
    Operator.LT: _ORDERED.format("<"),
    Operator.LTE: _ORDERED.format("<="),
    Operator.IN: "properties -> {name} = ANY({value}::text[]::jsonb[])",
    Operator.PREFIX: (
        "(jsonb_typeof(properties -> {name}) = 'string' AND starts_with(properties ->> {name}, {value}))"
    ),
    Operator.EXISTS: "(properties ? {name}) = {value}",
}

_FILTER = re.compile(rf"(?P<name>.+?):(?P<operator>{'|'.join(Operator)}):(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """One condition; `values` are JSON texts, but plain text for `prefix` and empty for `exists`."""

    name: str
    operator: Operator
    values: tuple[str, ...]
    is_wanted: bool = True
    """Of `exists`: whether the property shall be there."""

    def condition(self, number: int, parameters: dict[str, Any]) -> Composed:
        """The condition on `properties`; its parameters are added under names with `number`."""
        name, value = f"property_{number}", f"value_{number}"
        parameters[name], parameters[value] = self.name, self._operand()
        return SQL(_CONDITIONS[self.operator]).format(name=Placeholder(name), value=Placeholder(value))

    def _operand(self) -> object:
        match self.operator:
            case Operator.EXISTS:
                return self.is_wanted
            case Operator.IN:
                return list(self.values)
            case Operator.EQ:
                return f"{{{_quoted(self.name)}:{self.values[0]}}}"
            case _:
                return self.values[0]


def read_filter(text: str) -> PropertyFilter:
    """Understand `name:operator:value`.

    Raises:
        ValueError: with a sentence that does not repeat the text.
    """
    match = _FILTER.fullmatch(text)
    if match is None:
        raise ValueError(f"is written name:operator:value; the operators are {', '.join(Operator)}")
    name, operator, value = match["name"], Operator(match["operator"]), match["value"]
    if len(name) > _MOST_CHARACTERS:
        raise ValueError(f"has a name of more than {_MOST_CHARACTERS} characters")
    match operator:
        case Operator.EXISTS:
            if value not in {"true", "false"}:
                raise ValueError("exists is followed by true or false")
            return PropertyFilter(name, operator, (), value == "true")
        case Operator.PREFIX:
            return PropertyFilter(name, operator, (value,))
        case Operator.IN:
            values = tuple(dict.fromkeys(map(_json, value.split(","))))
            if len(values) > _MOST_VALUES:
                raise ValueError(f"has more than {_MOST_VALUES} values")
            return PropertyFilter(name, operator, values)
        case _:
            return PropertyFilter(name, operator, (_json(value),))


def _json(value: str) -> str:
    """The JSON text of a value: numbers, true, false, null and "quoted text" are themselves, all else is text."""
    if value in _CONSTANTS or (len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value)):
        return value
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return _quoted(msgspec.json.decode(value, type=str))
        except msgspec.DecodeError:
            raise ValueError("has a value in quotes that is not a JSON text") from None
    return _quoted(value)


def _quoted(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character, which no stored text has")
    return msgspec.json.encode(text).decode()
