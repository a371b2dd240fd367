"""Filters on dimensions: as filters on properties of events, `name:operator:value`, in a metric's terms.

Belongs here: what a filter means, in words and in SQL. Does not belong here: which series are kept (`selection`).

A dimension is text, or null where the event had none; numbers and booleans of events are kept as their text. `ne` and
`prefix` find no null.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import orjson
from psycopg.sql import SQL, Composable, Placeholder

from analytics_pipeline.rollups.catalog import TEXT_FIELDS
from api.errors import invalid_parameter
from api.events.property_filters import Operator, read_filter
from api.parameters import Parameter, Query

NAMES = ("event_type", *TEXT_FIELDS)
"""Every dimension that a metric can have."""

_OPERATORS = (Operator.EQ, Operator.NE, Operator.IN, Operator.PREFIX, Operator.EXISTS)
_KNOWN = ", ".join(_OPERATORS)
_MOST = 10
_LONGEST = 4096

DIMENSION = Parameter(
    "dimension",
    "Only series whose dimension fits, written `name:operator:value`; several must all fit. Operators: "
    f"{_KNOWN}. `in` takes values with commas between; `null` stands for events without the dimension. A filter needs "
    "no `group_by`: the total is then that of the series that fit.",
    "symbol:in:BTCUSDT,ETHUSDT",
    repeats=True,
)
SHORT = tuple(
    Parameter(
        name,
        f"Short for `dimension={name}:…`: `{name}=value`, or `{name}=operator:value`.",
        "prefix:order." if name == "event_type" else "in:first,second",
    )
    for name in NAMES
)
PARAMETERS = (DIMENSION, *SHORT)

_CONDITIONS: Mapping[Operator, LiteralString] = {
    Operator.EQ: "dimensions -> {name} = ANY({values}::text[]::jsonb[])",
    Operator.IN: "dimensions -> {name} = ANY({values}::text[]::jsonb[])",
    Operator.NE: "(dimensions ->> {name} IS NOT NULL AND dimensions -> {name} <> ALL({values}::text[]::jsonb[]))",
    Operator.PREFIX: "coalesce(starts_with(dimensions ->> {name}, {values}), false)",
    Operator.EXISTS: "(dimensions ->> {name} IS NOT NULL) = {values}",
}


@dataclass(frozen=True, slots=True, order=True)
class DimensionFilter:
    """One condition.

    Attributes:
        name: of the dimension.
        operator: one of those that dimensions have.
        values: JSON texts of texts or null, sorted; of `prefix` the plain text; of `exists` `true` or `false`.
    """

    name: str
    operator: Operator
    values: tuple[str, ...]

    @property
    def pins(self) -> bool:
        """Whether one value alone is left of the dimension."""
        return self.operator is Operator.EQ or (self.operator is Operator.IN and len(self.values) == 1)

    @property
    def operand(self) -> object:
        """What the condition is given."""
        match self.operator:
            case Operator.PREFIX:
                return self.values[0]
            case Operator.EXISTS:
                return self.values[0] == "true"
            case _:
                return list(self.values)


def conditions(filters: Sequence[DimensionFilter]) -> tuple[list[Composable], dict[str, Any]]:
    """Conditions on rows with `dimensions`, and their parameters; all of them must hold."""
    parts: list[Composable] = []
    parameters: dict[str, Any] = {}
    for number, one in enumerate(filters):
        name, values = f"filter_name_{number}", f"filter_values_{number}"
        parameters |= {name: one.name, values: one.operand}
        typed = SQL("{}::text").format(Placeholder(name))
        parts.append(SQL(_CONDITIONS[one.operator]).format(name=typed, values=Placeholder(values)))
    return parts, parameters


def read_filters(query: Query) -> tuple[DimensionFilter, ...]:
    """The filters of a query string, in one order.

    Raises:
        BadRequest: one is malformed, or names no dimension.
    """
    found = {_filter(DIMENSION, text) for text in query.texts(DIMENSION, most=_MOST, limit=_LONGEST)}
    for parameter in SHORT:
        text = query.text(parameter, limit=_LONGEST)
        if text is not None:
            word, colon, _ = text.partition(":")
            has_operator = bool(colon) and word in list(Operator)
            near = difflib.get_close_matches(word, _OPERATORS, n=1, cutoff=0.7) if colon else []
            if near and not has_operator:
                raise invalid_parameter(
                    parameter.name,
                    f"what stands before the colon is no operator: did you mean {near[0]}? A value with a colon is "
                    f"written {parameter.name}=eq:value",
                )
            full = f"{parameter.name}:{text}" if has_operator else f"{parameter.name}:eq:{text}"
            found.add(_filter(parameter, full))
    return tuple(sorted(found))


def _filter(parameter: Parameter, text: str) -> DimensionFilter:
    try:
        given = read_filter(text)
    except ValueError as error:
        raise invalid_parameter(parameter.name, str(error)) from None
    if given.name not in NAMES:
        raise invalid_parameter(parameter.name, f"the dimensions are {', '.join(NAMES)}")
    if given.operator not in _OPERATORS:
        raise invalid_parameter(parameter.name, f"dimensions are text; their operators are {_KNOWN}")
    match given.operator:
        case Operator.PREFIX:
            return DimensionFilter(given.name, given.operator, given.values)
        case Operator.EXISTS:
            return DimensionFilter(given.name, given.operator, ("true" if given.is_wanted else "false",))
        case _:
            values = tuple(sorted({_text(value) for value in given.values}))
            operator = Operator.EQ if given.operator is Operator.IN and len(values) == 1 else given.operator
            return DimensionFilter(given.name, operator, values)


def _text(value: str) -> str:
    """JSON text of what is kept of a value: whatever is no text there, as its text here."""
    return value if value[0] == '"' or value == "null" else orjson.dumps(value).decode()
