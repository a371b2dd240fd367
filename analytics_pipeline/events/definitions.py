"""Active custom event definitions, compiled: each judges the properties of its event type.

Belongs here: compiling and applying. Does not belong here: loading them (`storage.definitions`) or deciding when.
A schema can neither fetch anything (references stay inside it) nor run away (patterns in linear time).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jsonschema_rs

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.properties import PATH
from analytics_pipeline.events.reasons import Reason


class Definition(NamedTuple):
    """One version of a definition, ready to judge."""

    name: str
    version: int
    validator: Any

    def check(self, properties: Mapping[str, Any]) -> None:
        """Judge the properties of one event.

        Raises:
            Rejected: `schema_violation`, with the path of the first problem and the keyword that found it.
        """
        if self.validator.is_valid(properties):
            return
        error = next(iter(self.validator.iter_errors(properties)))
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        raise Rejected(
            Reason.SCHEMA_VIOLATION, f"version {self.version}: {error.kind.name} does not hold", PATH + path
        )


@dataclass(frozen=True)
class Definitions:
    """A snapshot of the active definitions: replaced as a whole, never changed."""

    by_type: Mapping[str, Definition] = field(default_factory=dict)

    @property
    def types(self) -> frozenset[str]:
        """Event types that have a definition."""
        return frozenset(self.by_type)


NO_DEFINITIONS = Definitions()


def compile_definition(name: str, version: int, schema: Mapping[str, Any] | bool | str) -> Definition:
    """Compile a JSON Schema (an object, or its text); an empty one accepts everything.

    Raises:
        ConfigurationError: it is not a schema, refers to something outside itself, or has a pattern that
            cannot be matched in linear time.
    """
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else schema
        validator = jsonschema_rs.validator_for(
            dict(parsed) if isinstance(parsed, Mapping) else parsed,
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 21),
        )
    except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError) as error:
        raise ConfigurationError(
            f"the definition {name} has no usable JSON Schema: {_first_line(error)}"
        ) from None
    return Definition(name, version, validator)


def compile_all(rows: Iterable[tuple[str, int, Mapping[str, Any]]]) -> tuple[Definitions, list[str]]:
    """Compile (name, version, schema) rows; a definition that does not compile is left out and described."""
    found, problems = {}, []
    for name, version, schema in rows:
        try:
            found[name] = compile_definition(name, version, schema)
        except ConfigurationError as error:
            problems.append(str(error))
    return Definitions(found), problems


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
