"""The schema that Dagster keeps its own tables in; the tables are Dagster's, made at its first start.

Belongs here: creating it. Does not belong here: anything in it.
"""

from psycopg import sql

from analytics_pipeline.storage.connection import Connection, Lock

_ALONE = "SELECT pg_advisory_xact_lock(%s, 0)"


def create_dagster_schema(connection: Connection, name: str) -> None:
    """Create the schema, unless it is there; it has to exist before any process of Dagster starts."""
    with connection.transaction():
        connection.execute(_ALONE, (Lock.MIGRATION,))
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))
