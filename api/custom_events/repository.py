"""Statements on custom event definitions.

Belongs here: storing, changing and reading them. Does not belong here: judging schemas (`schemas`) or events, what
keeps a definition (`analytics_pipeline.storage.definition_uses`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import psycopg

from analytics_pipeline.events.reach import Reach
from analytics_pipeline.storage.definition_uses import DELETE, USES, Uses
from api.custom_events.listing import Listing
from api.custom_events.preconditions import Expected
from api.custom_events.schemas import Change, Definition
from api.database import Connection, Database
from api.errors import Conflict, NotFound

_COLUMNS = "id, name, display_name, description, schema::text, is_active, version, created_at, updated_at"
_CREATE = f"""
INSERT INTO custom_event_definitions (name, display_name, description, schema, is_active)
VALUES (%s, %s, %s, %s, %s)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
_GET = f"SELECT {_COLUMNS} FROM custom_event_definitions WHERE name = %s"  # noqa: S608 - constants only
_LIST = f"""
SELECT {_COLUMNS} FROM custom_event_definitions
WHERE
    (%(is_active)s::boolean IS NULL OR is_active = %(is_active)s)
    AND name ^@ %(prefix)s
    AND name COLLATE "C" > %(after)s
    AND (%(has_every_type)s OR name = ANY(%(names)s::text []) OR name ^@ ANY(%(prefixes)s::text []))
ORDER BY name COLLATE "C"
LIMIT %(limit)s
"""  # noqa: S608 - constants only
_LOCK = f"{_GET} FOR UPDATE"
_CHANGE = f"""
UPDATE custom_event_definitions SET
    display_name = coalesce(%(display_name)s, display_name),
    description = coalesce(%(description)s, description),
    schema = coalesce(%(schema)s::jsonb, schema),
    is_active = coalesce(%(is_active)s, is_active)
WHERE name = %(name)s
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants only
_VERSIONS = """
SELECT known.version, known.schema::text, known.created_at, current.version IS NOT NULL
FROM custom_event_definition_versions AS known
LEFT JOIN custom_event_definitions AS current ON current.name = known.name AND current.version = known.version
WHERE known.name = %s AND known.version < %s
ORDER BY known.version DESC
LIMIT %s
"""
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

    def content(self) -> dict[str, Any]:
        """As it is answered."""
        return self._asdict() | {"schema": orjson.Fragment(self.schema)}


class StoredVersion(NamedTuple):
    """A schema that a name has, or had; JSON text."""

    version: int
    schema: str
    created_at: datetime
    is_current: bool

    def content(self) -> dict[str, Any]:
        """As it is answered."""
        return self._asdict() | {"schema": orjson.Fragment(self.schema)}


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


async def find_definition(database: Database, name: str, expected: Expected) -> StoredDefinition:
    """One definition, which is as expected at this moment; only `change_definition` keeps it so.

    Raises:
        NotFound: there is none of this name.
        Problem: it is not what was expected.
    """
    stored = await get_definition(database, name)
    if stored is None:
        raise no_such_definition()
    expected.check(stored.version, stored.updated_at)
    return stored


async def list_definitions(database: Database, listing: Listing, reach: Reach) -> list[StoredDefinition]:
    """Those that fit, by name; one more than the page, if there is one."""
    values = {
        "is_active": listing.is_active,
        "prefix": listing.prefix,
        "after": listing.after,
        "has_every_type": reach.event_types is None,
        "names": list(reach.names),
        "prefixes": list(reach.prefixes),
        "limit": listing.limit + 1,
    }
    async with database.read("custom_events") as connection:
        rows = await (await connection.execute(_LIST, values)).fetchall()
    return [StoredDefinition(*row) for row in rows]


async def change_definition(
    database: Database, name: str, change: Change, expected: Expected
) -> StoredDefinition:
    """Change what is given; another schema is a new version, which every process hears of at COMMIT.

    Raises:
        NotFound: there is none of this name.
        Problem: it is not what was expected.
    """
    values = {
        "name": name,
        "display_name": change.display_name,
        "description": change.description,
        "schema": change.schema,
        "is_active": change.is_active,
    }
    async with _locked(database, name, expected) as connection:
        row = await (await connection.execute(_CHANGE, values)).fetchone()
    if row is None:
        raise LookupError("UPDATE … RETURNING of a locked row gave no row")
    return StoredDefinition(*row)


async def delete_definition(database: Database, name: str, expected: Expected) -> None:
    """Delete a definition that nothing needs; its versions stay.

    Raises:
        NotFound: there is none of this name.
        Conflict: it is used.
        Problem: it is not what was expected.
    """
    async with _locked(database, name, expected) as connection:
        row = await (await connection.execute(USES, {"name": name})).fetchone()
        if row is None:
            raise LookupError("EXISTS gave no row")
        uses = Uses(*row)
        if uses.sentence is not None:
            raise Conflict(
                uses.sentence,
                kind="definition-in-use",
                title="Definition in use",
                extra={"used_by": uses.used_by},
            )
        await connection.execute(DELETE, (name,))


async def list_versions(database: Database, name: str, *, before: int, limit: int) -> list[StoredVersion]:
    """Schemas that a name has and had, newest first; also of definitions that were deleted."""
    async with database.read("custom_events") as connection:
        rows = await (await connection.execute(_VERSIONS, (name, before, limit))).fetchall()
    return [StoredVersion(*row) for row in rows]


async def get_version(database: Database, name: str, version: int) -> StoredVersion | None:
    """One of them, or None."""
    found = await list_versions(database, name, before=version + 1, limit=1)
    return found[0] if found and found[0].version == version else None


@asynccontextmanager
async def _locked(database: Database, name: str, expected: Expected) -> AsyncIterator[Connection]:
    """A transaction that holds the definition, which is as expected."""
    async with database.write() as connection, connection.transaction():
        row = await (await connection.execute(_LOCK, (name,))).fetchone()
        if row is None:
            raise no_such_definition()
        stored = StoredDefinition(*row)
        expected.check(stored.version, stored.updated_at)
        yield connection


async def active_definitions(connection: Connection) -> list[tuple[str, int, dict[str, object]]]:
    """Name, version and schema of the active definitions."""
    return await (await connection.execute(_ACTIVE)).fetchall()


def no_such_definition() -> NotFound:
    """The answer about a name without a definition."""
    return NotFound("There is no custom event of this name.", title="Custom event not found")
