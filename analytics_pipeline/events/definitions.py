"""Active custom event definitions, compiled: each judges the properties of its event type.

Belongs here: compiling and applying, and saying what is wrong without repeating the producer's data.
Does not belong here: which schemas are allowed (`json_schema`), loading them (`storage.definitions`) or deciding when.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jsonschema_rs

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.document import is_clean_name, is_encodable
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.json_schema import (
    Schema,
    UnusableSchema,
    check_schema,
    compile_schema,
    read_schema,
    subschemas,
)
from analytics_pipeline.events.limits import MAX_TEXT
from analytics_pipeline.events.properties import PATH
from analytics_pipeline.events.reasons import Reason

_LONGEST_PATH = 200
_ALTERNATIVES = ("anyOf", "oneOf")


class Violation(NamedTuple):
    """The first thing that is wrong with some properties.

    `path` names properties that the schema names, and says `*` for others; `keyword` is JSON Schema's.
    """

    path: str
    keyword: str
    sentence: str


class Definition(NamedTuple):
    """One version of a definition, ready to judge."""

    name: str
    version: int
    validator: Any
    explainer: Any
    """The same with alternatives as one question each: those of the validator would list why every one of them
    fails at every place, which took 46 s and 4 GB for one event of 12 kB."""
    names: frozenset[str]
    """Property names that the schema itself has."""
    schema: Schema

    def check(self, properties: Mapping[str, Any]) -> None:
        """Judge the properties of one event.

        Raises:
            Rejected: `schema_violation`, with the path of the first problem and the keyword that found it.
        """
        if not self.validator.is_valid(properties):
            found = self._explain(properties)
            raise Rejected(Reason.SCHEMA_VIOLATION, f"version {self.version}: {found.sentence}", found.path)

    def violation(self, properties: Mapping[str, Any]) -> Violation | None:
        """What is wrong first, or None."""
        return None if self.validator.is_valid(properties) else self._explain(properties)

    def _explain(self, properties: Mapping[str, Any]) -> Violation:
        unknown = Violation(PATH, "schema", "the schema does not hold")
        if self.explainer is None:
            return unknown
        try:
            self.explainer.validate(properties)
        except jsonschema_rs.ValidationError as error:
            keyword = error.kind.name
            # What an alternative looked at is not known outside of it here, so these could be mistaken.
            if keyword.startswith("unevaluated") and self.explainer is not self.validator:
                return unknown
            return Violation(self._path(error.instance_path), keyword, _sentence(error))
        return unknown

    def _path(self, steps: Iterable[str | int]) -> str:
        parts = (
            f"[{step}]" if isinstance(step, int) else f".{step if step in self.names else '*'}"
            for step in steps
        )
        return (PATH + "".join(parts))[:_LONGEST_PATH]


@dataclass(frozen=True)
class Definitions:
    """A snapshot of the active definitions: replaced as a whole, never changed."""

    by_type: Mapping[str, Definition] = field(default_factory=dict)

    @property
    def types(self) -> frozenset[str]:
        """Event types that have a definition."""
        return frozenset(self.by_type)

    @property
    def schemas(self) -> dict[str, Schema]:
        """Their JSON Schemas by event type, in the order in which they were loaded."""
        return {name: definition.schema for name, definition in self.by_type.items()}


NO_DEFINITIONS = Definitions()


def compile_definition(name: str, version: int, schema: Schema | str) -> Definition:
    """Compile a JSON Schema (an object, or its text); an empty one accepts everything.

    Raises:
        ConfigurationError: it may not be used; see `json_schema`.
    """
    try:
        checked = check_schema(read_schema(schema) if isinstance(schema, str) else schema)
    except UnusableSchema as error:
        raise ConfigurationError(f"the definition {name} has no usable JSON Schema: {error}") from None
    validator = compile_schema(checked)
    names: set[str] = set()
    simple = _ask_once(checked, names)
    explainer = validator if simple == checked else _compile(simple)
    return Definition(name, version, validator, explainer, frozenset(names), checked)


def check_name(name: str) -> str:
    """Judge the name of a definition, which is an event type, and give it back.

    Raises:
        ConfigurationError: no event can be of this type.
    """
    if not 1 <= len(name) <= MAX_TEXT or not is_clean_name(name) or not is_encodable(name):
        raise ConfigurationError(
            f"the name of a definition is an event type: 1 to {MAX_TEXT} characters, no control characters"
        )
    return name


def compile_all(
    rows: Iterable[tuple[str, int, Mapping[str, Any]]], known: Definitions = NO_DEFINITIONS
) -> tuple[Definitions, list[str]]:
    """Compile (name, version, schema) rows; a definition that does not compile is left out and described.

    Those that are in `known` already are taken from there: one change among hundreds costs one compilation.
    """
    found, problems = {}, []
    for name, version, schema in rows:
        old = known.by_type.get(name)
        if old is not None and old.version == version and old.schema == schema:
            found[name] = old
            continue
        try:
            found[name] = compile_definition(name, version, schema)
        except ConfigurationError as error:
            problems.append(str(error))
    return Definitions(found), problems


def _ask_once(schema: Schema, names: set[str]) -> dict[str, Any]:
    """The same schema with each list of alternatives behind a double negation; collects property names."""
    copy: dict[str, Any] = dict(schema)
    for keyword, name, below in subschemas(schema):
        if keyword == "properties" and name is not None:
            names.add(name)
        if isinstance(below, bool):
            continue
        replaced = _ask_once(below, names)
        if replaced == below:
            continue
        if name is None:
            copy[keyword] = replaced
        elif isinstance(copy[keyword], list):
            copy[keyword] = [*copy[keyword]]
            copy[keyword][int(name)] = replaced
        else:
            copy[keyword] = {**copy[keyword], name: replaced}
    for keyword in _ALTERNATIVES:
        if isinstance(schema.get(keyword), list):
            copy[keyword] = [{"not": {"not": {keyword: schema[keyword]}}}]
    return copy


def _compile(schema: Schema) -> Any:
    """None when a reference led into an alternative that is not there any more."""
    try:
        return compile_schema(schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None


def _sentence(error: jsonschema_rs.ValidationError) -> str:
    """What does not hold; values come from the schema alone, never from the event."""
    kind = jsonschema_rs.ValidationErrorKind
    match error.kind:
        case kind.Required(name):
            return f"the required property {name[:100]} is missing"
        case kind.Type(types):
            return f"must be {' or '.join(types)}"
        case _:
            return f"{error.kind.name} does not hold"
