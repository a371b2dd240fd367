"""Which events a key of the API sees and sends: all, or those of some types and with some values in their properties.

Belongs here: the rule and its text. Does not belong here: keys (`storage.api_keys`), applying it to reads (`api`).

A type is allowed if it is named, or begins with a name that ends in `*`. A value is allowed if the property is text
and one of the values named; an event without the property is not allowed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analytics_pipeline.errors import ConfigurationError

MOST_NAMES = 100
_MOST_TEXT = 255
_COLUMNS = {"event_type", "user_id", "session_id"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Reach:
    """A part of the events; made by `reach`, or `EVERYTHING`.

    Attributes:
        event_types: names, or prefixes that end in `*`, sorted; None allows every type.
        dimensions: names of properties, sorted, each with the values allowed.
    """

    event_types: tuple[str, ...] | None = None
    dimensions: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @cached_property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.event_types is None and not self.dimensions

    @cached_property
    def canonical(self) -> str:
        """The same text for the same part, '' for everything: part of every key of the cache."""
        if self.is_everything:
            return ""
        return json.dumps([self.event_types, self.dimensions], separators=(",", ":"))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Types allowed by their whole name."""
        return tuple(one for one in self.event_types or () if not one.endswith("*"))

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of types that are allowed."""
        return tuple(one[:-1] for one in self.event_types or () if one.endswith("*"))

    def has_type(self, event_type: str) -> bool:
        """Whether events of this type may be in it."""
        return self.event_types is None or event_type in self.names or event_type.startswith(self.prefixes)

    def has_values(self, properties: Mapping[str, Any]) -> bool:
        """Whether these properties, or dimensions of a series, are in it."""
        return all(properties.get(name) in values for name, values in self.dimensions)

    def has(self, event: Mapping[str, Any]) -> bool:
        """Whether an event, as it was posted, is in it."""
        if not self.has_type(str(event.get("event_type"))):
            return False
        properties = event.get("properties")
        return self.has_values(properties if isinstance(properties, dict) else {})


EVERYTHING = Reach()


def reach(event_types: Iterable[str] | None, dimensions: Mapping[str, Iterable[str]]) -> Reach:
    """A part of the events, checked and in its one spelling.

    Args:
        event_types: names, or prefixes that end in `*`; None or nothing: every type.
        dimensions: per property the values allowed.

    Raises:
        ConfigurationError: a sentence for everything that cannot be meant; it repeats nothing that was given.
    """
    types = sorted(set(event_types or ()))
    values = {name: sorted(set(allowed)) for name, allowed in dimensions.items()}
    problems = []
    if not all(_is_text(one) and "*" not in one[:-1] for one in types):
        problems.append(
            "event_types: each is a whole type, or the beginning of one and * at its end (order.*)"
        )
    if not all(map(_NAME.fullmatch, values)) or _COLUMNS & values.keys():
        problems.append("dimensions: each is the name of a property, such as strategy_id")
    if not all(allowed and all(map(_is_text, allowed)) for allowed in values.values()):
        problems.append(f"dimensions: each has at least one value, of 1 to {_MOST_TEXT} characters")
    if len(types) + len(values) + sum(map(len, values.values())) > MOST_NAMES:
        problems.append(f"a key has at most {MOST_NAMES} event types, dimensions and values together")
    if problems:
        raise ConfigurationError(*problems)
    return Reach(tuple(types) or None, tuple((name, tuple(values[name])) for name in sorted(values)))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _MOST_TEXT and not _CONTROL.search(value)
