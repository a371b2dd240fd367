"""Custom event definitions and their versions.

Belongs here: the statements. Does not belong here: which schemas are allowed (`events.json_schema`), compiling and
applying them (`events.definitions`). Numbers, versions and NOTIFY come from triggers, whoever writes.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row

from analytics_pipeline.errors import AnalyticsError, ConfigurationError
from analytics_pipeline.events.compatibility import StoredEvent
from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions, check_name, compile_all
from analytics_pipeline.events.json_schema import Schema
from analytics_pipeline.rollups.automatic import with_automatic
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.definition_uses import DELETE, USES, Uses

CHANNEL = "custom_events"

_ACTIVE = (
    "SELECT name, version, schema FROM custom_event_definitions WHERE is_active ORDER BY created_at, name"
)
_COLUMNS = "name, version, is_active, display_name, description, schema, created_at, updated_at"
_ACTIVE_SCHEMA = "SELECT schema FROM custom_event_definitions WHERE name = %s AND is_active"
_LIST = f"SELECT {_COLUMNS} FROM custom_event_definitions ORDER BY name"  # noqa: S608 - constants only
_GET = f"SELECT {_COLUMNS} FROM custom_event_definitions WHERE name = %s"  # noqa: S608 - constants only
_VERSIONS = """
SELECT version, schema, created_at FROM custom_event_definition_versions WHERE name = %s ORDER BY version
"""
_PUT = f"""
INSERT INTO custom_event_definitions AS definition (name, display_name, description, schema)
VALUES (%(name)s, coalesce(%(display_name)s, ''), coalesce(%(description)s, ''), %(schema)s::jsonb)
ON CONFLICT (name) DO UPDATE SET
    display_name = coalesce(%(display_name)s, definition.display_name),
    description = coalesce(%(description)s, definition.description),
    schema = excluded.schema
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
_SET_ACTIVE = f"""
UPDATE custom_event_definitions SET is_active = %s WHERE name = %s RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
_LOCK = f"{_GET} FOR UPDATE"
RECENT = """
SELECT timestamp, properties::text FROM events WHERE event_type = %s ORDER BY timestamp DESC LIMIT %s
"""
_AT_ONCE = 1_000


class DefinitionInUse(AnalyticsError):
    """Something needs the definition, so it stays; see `storage.definition_uses`."""


class StoredDefinition(NamedTuple):
    """A definition with its newest version."""

    name: str
    version: int
    is_active: bool
    display_name: str
    description: str
    schema: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class Version(NamedTuple):
    """A schema that events were, or are, judged by."""

    version: int
    schema: dict[str, Any]
    created_at: datetime


def load_definitions(
    connection: Connection, known: Definitions = NO_DEFINITIONS
) -> tuple[Definitions, list[str]]:
    """The active definitions, compiled as far as `known` has not got them, and a sentence for each that cannot be."""
    with connection.transaction():
        rows = connection.execute(_ACTIVE).fetchall()
    return compile_all(rows, known)


def load_catalog(connection: Connection, *, is_custom_enabled: bool) -> Catalog:
    """All metrics: the built-in ones and those of the active definitions (`custom_events.enabled`)."""
    if not is_custom_enabled:
        return BUILT_IN
    return with_automatic(load_definitions(connection)[0].schemas)[0]


def list_definitions(connection: Connection) -> list[StoredDefinition]:
    """All of them, by name."""
    with connection.cursor(row_factory=class_row(StoredDefinition)) as cursor:
        return cursor.execute(_LIST).fetchall()


def get_definition(connection: Connection, name: str) -> StoredDefinition:
    """One definition.

    Raises:
        ConfigurationError: there is none of this name, or there can be none.
    """
    return _one(connection, _GET, (check_name(name),))


def active_schema(connection: Connection, name: str) -> Schema | None:
    """The schema that judges a type's events now, or None."""
    row = connection.execute(_ACTIVE_SCHEMA, (check_name(name),)).fetchone()
    return None if row is None else row[0]


def list_versions(connection: Connection, name: str) -> list[Version]:
    """Every schema a name has had, oldest first; also after the definition was deleted."""
    with connection.cursor(row_factory=class_row(Version)) as cursor:
        return cursor.execute(_VERSIONS, (check_name(name),)).fetchall()


def put_definition(
    connection: Connection,
    name: str,
    schema: Schema,
    *,
    display_name: str | None = None,
    description: str | None = None,
) -> StoredDefinition:
    """Define a type, or change its schema (a new version, unless it is the same) and texts (None: as they are).

    Args:
        connection: the caller commits; from then on every process judges by it.
        name: the event type.
        schema: checked by `events.json_schema`.
        display_name: for people.
        description: for people.
    """
    values = {
        "name": check_name(name),
        "schema": json.dumps(schema),
        "display_name": display_name,
        "description": description,
    }
    return _one(connection, _PUT, values)


def set_active(connection: Connection, name: str, is_active: bool) -> StoredDefinition:
    """Let a definition judge its events, or let them pass unjudged; the caller commits.

    Raises:
        ConfigurationError: there is none of this name, or there can be none.
    """
    return _one(connection, _SET_ACTIVE, (is_active, check_name(name)))


def delete_definition(connection: Connection, name: str) -> StoredDefinition:
    """Delete a definition that nothing needs, and return what it was; its versions stay. The caller commits.

    Raises:
        ConfigurationError: there is none of this name, or there can be none.
        DefinitionInUse: events, open dead letters or values of metrics need it.
    """
    stored = _one(connection, _LOCK, (check_name(name),))
    row = connection.execute(USES, {"name": name}).fetchone()
    assert row is not None
    if (sentence := Uses(*row).sentence) is not None:
        raise DefinitionInUse(sentence)
    connection.execute(DELETE, (name,))
    return stored


def recent_events(connection: Connection, event_type: str, most: int) -> Iterator[StoredEvent]:
    """The newest stored events of a type, newest first, fetched as they are asked for."""
    with (
        connection.transaction(),
        connection.cursor("recent_events", row_factory=class_row(StoredEvent)) as cursor,
    ):
        cursor.itersize = _AT_ONCE
        yield from cursor.execute(RECENT, (check_name(event_type), most))


def _one(connection: Connection, statement: str, values: Any) -> StoredDefinition:
    with connection.cursor(row_factory=class_row(StoredDefinition)) as cursor:
        found = cursor.execute(statement, values).fetchone()
    if found is None:
        raise ConfigurationError(
            "there is no definition of this name; `analytics definitions list` shows all"
        )
    return found
