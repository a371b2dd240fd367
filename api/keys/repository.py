"""Statements on keys and sessions, over the API's connections.

Belongs here: running them. Does not belong here: their text, and what a key is (`analytics_pipeline.storage.api_keys`).
"""

from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from analytics_pipeline.storage import api_keys
from analytics_pipeline.storage.api_keys import ApiKey, NewKey
from api.database import Connection, Database


async def create_key(database: Database, key: NewKey) -> ApiKey:
    """Store a key."""
    async with database.write() as connection:
        [stored] = await _rows(connection, api_keys.CREATE, key.row())
    return stored


async def list_keys(database: Database) -> list[ApiKey]:
    """All keys, oldest first."""
    async with database.read("api_keys") as connection:
        return await _rows(connection, api_keys.LIST)


async def revoke_key(database: Database, key_id: str) -> ApiKey | None:
    """End a key for good; None if there is none of this id."""
    async with database.write() as connection:
        found = await _rows(connection, api_keys.REVOKE, (key_id,))
    return found[0] if found else None


async def open_session(database: Database, text: bytes, key_id: str, expires_at: datetime) -> None:
    """Store a session by its hash; the oldest of too many end."""
    async with database.write() as connection, connection.transaction():
        await connection.execute(api_keys.OPEN_SESSION, (api_keys.hash_of(text), key_id, expires_at))
        await connection.execute(api_keys.LIMIT_SESSIONS, (key_id, api_keys.MOST_SESSIONS))


async def close_session(database: Database, text: bytes) -> None:
    """End a session."""
    async with database.write() as connection:
        await connection.execute(api_keys.CLOSE_SESSION, (api_keys.hash_of(text),))


async def _rows(connection: Connection, statement: str, values: Any = None) -> list[ApiKey]:
    async with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()
