"""Questions about the Postgres server itself and about who may do what in the database.

Belongs here: version, settings, clock, size, rights, Dagster's tables. Does not belong here: judging the answers
(`doctor`), the product's own tables.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dagster_runs import daemon_at

READABLE = (
    "events",
    "metrics_live",
    "metric_aggregations",
    "order_analytics",
    "market_analytics",
    "strategy_performance",
    "user_behavior",
    "system_metrics",
    "dashboard_metrics",
)
"""Tables and views that people and Grafana read by SQL."""

_SERVER = """
SELECT
    current_setting('server_version_num')::integer, current_setting('server_version'),
    current_setting('fsync')::boolean, current_setting('synchronous_commit') <> 'off',
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    pg_is_in_recovery()
"""
_CLOCK = "SELECT clock_timestamp()"
_DATA_FOLDER = "SELECT current_setting('data_directory')"
# A day without events has 32 kB of empty indexes; the last of them is today, which is not whole.
_GROWTH = """
SELECT
    pg_database_size(current_database()),
    (
        SELECT count(*) FROM time_partitions
        WHERE parent = 'events' AND lower_bound <= %(now)s AND bytes > 131072
    ),
    (
        SELECT coalesce(max(bytes), 0) FROM time_partitions
        WHERE parent = 'events' AND lower_bound <= %(now)s AND lower_bound > %(now)s - interval '8 days'
    )
"""
_RIGHTS = """
SELECT
    current_user::text, role.rolsuper, pg_get_userbyid(events.relowner)::text,
    pg_has_role(current_user, events.relowner, 'USAGE'),
    has_schema_privilege(current_user, events.relnamespace, 'CREATE'),
    has_database_privilege(current_user, current_database(), 'TEMPORARY'),
    events.relnamespace::regnamespace::text
FROM pg_class AS events CROSS JOIN pg_roles AS role
WHERE events.oid = 'events'::regclass AND role.rolname = current_user
"""
_READERS = """
SELECT
    role.rolname::text,
    has_table_privilege(role.oid, 'events', 'INSERT, UPDATE, DELETE, TRUNCATE'),
    ARRAY(
        SELECT known.name FROM unnest(%(readable)s::text []) AS known (name)
        WHERE NOT has_table_privilege(role.oid, known.name, 'SELECT')
    ),
    coalesce(array_to_string(role.rolconfig, ' ') LIKE '%%statement_timeout=%%', false)
FROM pg_roles AS role INNER JOIN pg_class AS events ON events.oid = 'events'::regclass
WHERE role.rolcanlogin AND NOT role.rolsuper AND role.rolname <> current_user
    AND NOT pg_has_role(role.oid, events.relowner, 'USAGE')
    AND has_table_privilege(role.oid, 'events', 'SELECT')
ORDER BY role.rolname
"""
_DAGSTER = "SELECT to_regnamespace(%(schema)s) IS NOT NULL, to_regclass(%(schema)s || '.runs') IS NOT NULL"


class Server(NamedTuple):
    """The server.

    Attributes:
        number: of the version, as 140012 for 14.12.
        version: for people.
        is_durable: whether a crash loses nothing that is on the disk (`fsync`).
        is_synchronous: whether COMMIT waits for the disk.
        connections: how many there may be, those of superusers apart.
        connected: how many there are.
        is_standby: whether it only reads.
    """

    number: int
    version: str
    is_durable: bool
    is_synchronous: bool
    connections: int
    connected: int
    is_standby: bool


class Growth(NamedTuple):
    """Bytes of the database, UTC days with events, and bytes of the largest of the last eight of them."""

    total: int
    days: int
    largest_day: int


class Rights(NamedTuple):
    """What the product's own role may do; `schema` is where the tables are, `owner` to whom they belong."""

    role: str
    is_superuser: bool
    owner: str
    owns_tables: bool
    creates_tables: bool
    creates_temporary: bool
    schema: str


class Reader(NamedTuple):
    """Another role that may read events: whether it also writes, what it may not read, whether its time is limited."""

    role: str
    may_write: bool
    unreadable: list[str]
    has_timeout: bool


class DagsterStorage(NamedTuple):
    """Whether Dagster's schema and tables are there, and when a daemon last gave a sign of life."""

    has_schema: bool
    has_tables: bool
    heartbeat: datetime | None


def server(connection: Connection) -> Server:
    """Version and settings."""
    return Server(*_row(connection, _SERVER))


def clock(connection: Connection) -> datetime:
    """What time it is there."""
    at: datetime = _row(connection, _CLOCK)[0]
    return at


def data_folder(connection: Connection) -> Path | None:
    """Where its data is, on its own machine; None for those who may not know."""
    try:
        with connection.transaction():
            return Path(str(_row(connection, _DATA_FOLDER)[0]))
    except psycopg.errors.InsufficientPrivilege:
        return None


def growth(connection: Connection, *, now: datetime) -> Growth:
    """How large it is, and since how many days."""
    return Growth(*_row(connection, _GROWTH, {"now": now}))


def rights(connection: Connection) -> Rights:
    """Of the role that asks."""
    return Rights(*_row(connection, _RIGHTS))


def readers(connection: Connection) -> list[Reader]:
    """Roles beside the owner of the tables and superusers that may read events."""
    return [Reader(*row) for row in connection.execute(_READERS, {"readable": list(READABLE)})]


def dagster_storage(connection: Connection, schema: str) -> DagsterStorage:
    """Dagster's own tables; `schema` is the setting `dagster.schema_name`."""
    has_schema, has_tables = _row(connection, _DAGSTER, {"schema": schema})
    if not has_tables:
        return DagsterStorage(has_schema, False, None)
    return DagsterStorage(True, True, daemon_at(connection, schema))


def _row(connection: Connection, statement: str, values: dict[str, object] | None = None) -> tuple[Any, ...]:
    found: tuple[Any, ...] | None = connection.execute(statement, values).fetchone()
    assert found is not None
    return found
