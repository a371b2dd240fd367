"""The original's custom event definitions: which can be taken over, and taking them over.

Belongs here: judging and storing them. Does not belong here: reading them (`storage.original`), the rules of schemas
(`events.json_schema`), versions (`storage.definitions`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.definitions import Definitions, check_name, compile_definition
from analytics_pipeline.events.json_schema import Schema
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.definitions import list_definitions, put_definition, set_active
from analytics_pipeline.storage.original import Definition


class Fate(StrEnum):
    """What becomes of a definition."""

    NEW = "new"
    SAME = "same"
    """There is one of this name with this schema."""
    KEPT = "kept"
    """There is one of this name with another schema, which stays."""
    REFUSED = "refused"


class Verdict(NamedTuple):
    """A definition of theirs and what becomes of it; `problem` says why it is refused."""

    definition: Definition
    fate: Fate
    problem: str = ""


def judge(connection: Connection, found: Sequence[Definition]) -> list[Verdict]:
    """What would become of each."""
    ours = {one.name: one.schema for one in list_definitions(connection)}
    return [_judge_one(one, ours) for one in found]


def take_over(connection: Connection, verdicts: Sequence[Verdict]) -> None:
    """Store those that are new, each as the first version of its name, active or not as it was."""
    for definition, fate, _ in verdicts:
        if fate is Fate.NEW:
            with connection.transaction():
                put_definition(
                    connection,
                    definition.name,
                    _schema(definition),
                    display_name=definition.display_name,
                    description=definition.description,
                )
                set_active(connection, definition.name, definition.is_active)


def with_new(active: Definitions, verdicts: Sequence[Verdict]) -> Definitions:
    """The active definitions as they would be."""
    new = {
        one.definition.name: compile_definition(one.definition.name, 1, _schema(one.definition))
        for one in verdicts
        if one.fate is Fate.NEW and one.definition.is_active
    }
    return Definitions({**active.by_type, **new})


def _judge_one(definition: Definition, ours: dict[str, dict[str, object]]) -> Verdict:
    if definition.name in ours:
        is_same = ours[definition.name] == definition.schema
        return Verdict(definition, Fate.SAME if is_same else Fate.KEPT)
    try:
        compile_definition(check_name(definition.name), 1, _schema(definition))
    except ConfigurationError as error:
        return Verdict(definition, Fate.REFUSED, str(error))
    return Verdict(definition, Fate.NEW)


def _schema(definition: Definition) -> Schema:
    if not isinstance(definition.schema, dict):
        raise ConfigurationError(
            f"the definition {definition.name} has no usable JSON Schema: it is not an object"
        )
    return definition.schema
