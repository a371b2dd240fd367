"""Filters as values: a name, an operator, and what to compare with, typed as JSON.

Belongs here: how they are written, `name:operator:value`. Does not belong here: what they find (the service).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Scalar = str | int | float | bool | None
Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "prefix", "exists"]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?", re.ASCII)
_LONGEST_NUMBER = 40


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition, such as `Filter("price", "gte", 50000)`.

    `"5"` is a text and 5 a number, and neither finds the other. `in` takes several values, `prefix` a text, `exists`
    True or False.

    Raises:
        ValueError: the value does not go with the operator, or cannot be written.
    """

    name: str
    operator: Operator
    value: Scalar | Sequence[Scalar]

    def __post_init__(self) -> None:
        _ = self.text

    @property
    def text(self) -> str:
        """As the service reads it."""
        return f"{self.name}:{self.operator}:{self._value()}"

    def _value(self) -> str:
        value = self.value
        match self.operator:
            case "in":
                if isinstance(value, str) or not isinstance(value, Sequence) or not value:
                    raise ValueError("in: a list of values, at least one")
                texts = [_json(one) for one in value]
                if any("," in text for text in texts):
                    raise ValueError("in: a value with a comma cannot be written; use several requests")
                return ",".join(texts)
            case "prefix":
                if not isinstance(value, str):
                    raise ValueError("prefix: a text")
                return value
            case "exists":
                if not isinstance(value, bool):
                    raise ValueError("exists: True or False")
                return "true" if value else "false"
            case _:
                if isinstance(value, Sequence) and not isinstance(value, str):
                    raise ValueError(f"{self.operator}: one value")
                return _json(value)


def _json(value: Scalar) -> str:
    if not isinstance(value, str | int | float | None):
        raise ValueError("a text, a number, True, False or None")
    text = json.dumps(value, ensure_ascii=False)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not (len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text)):
        raise ValueError("the number is not finite, or too long to be compared")
    return text
