"""Statements on custom event definitions.

Belongs here: storing and reading them. Does not belong here: judging schemas (`schemas`) or events.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg

from api.custom_events.schemas import Definition
from api.database import Connection, Database
from api.errors import Conflict

_COLUMNS = "id, name, display_name, description, schema::text, is_active, version, created_at, updated_at"
_CREATE = f"""
INSERT INTO custom_event_definitions (name, display_name, description, schema, is_active)
VALUES (%s, %s, %s, %s, %s)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
_GET = f"SELECT {_COLUMNS} FROM custom_event_definitions WHERE name = %s"  # noqa: S608 - constants only
_ACTIVE = (
    "SELECT name, version, schema FROM custom_event_definitions WHERE is_active ORDER BY created_at, name"
)


class StoredDefinition(NamedTuple):
    """A row; `schema` is JSON text."""

    id: UUID
    name: str
    display_name: str
    description: str
    schema: str
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime


async def create_definition(database: Database, definition: Definition) -> StoredDefinition:
    """Store a definition; a trigger tells every process at COMMIT.

    Raises:
        Conflict: there is one of this name.
    """
    values = (
        definition.name,
        definition.display_name,
        definition.description,
        definition.schema,
        definition.is_active,
    )
    async with database.write() as connection:
        try:
            async with connection.transaction():
                row = await (await connection.execute(_CREATE, values)).fetchone()
        except psycopg.errors.UniqueViolation:
            raise Conflict("There is a custom event of this name; a definition is not overwritten.") from None
    if row is None:
        raise LookupError("INSERT … RETURNING gave no row")
    return StoredDefinition(*row)


async def get_definition(database: Database, name: str) -> StoredDefinition | None:
    """One definition, or None."""
    async with database.read("custom_events") as connection:
        row = await (await connection.execute(_GET, (name,))).fetchone()
    return None if row is None else StoredDefinition(*row)


async def active_definitions(connection: Connection) -> list[tuple[str, int, dict[str, object]]]:
    """Name, version and schema of the active definitions."""
    return await (await connection.execute(_ACTIVE)).fetchall()
