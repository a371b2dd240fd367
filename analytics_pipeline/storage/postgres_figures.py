"""What Postgres says of itself: connections, transactions, locks, write-ahead log, sizes.

Belongs here: the statements; all of them may be asked by any role. Does not belong here: tables (`storage.sizes`),
when to ask (`ingest.measuring`).
"""

from typing import NamedTuple

from analytics_pipeline.storage.connection import Connection

STATES = ("active", "idle", "idle in transaction", "other")
"""Of connections. To a role that is no superuser and not in pg_monitor, those of other roles are `other`."""

_DATABASE = """
SELECT
    pg_database_size(current_database()),
    (SELECT setting::integer FROM pg_settings WHERE name = 'max_connections'),
    (pg_current_wal_lsn() - '0/0'::pg_lsn)::double precision,
    stat.xact_commit, stat.xact_rollback, stat.blks_hit, stat.blks_read, stat.temp_bytes, stat.deadlocks,
    age(base.datfrozenxid)
FROM pg_stat_database AS stat INNER JOIN pg_database AS base ON base.oid = stat.datid
WHERE stat.datname = current_database()
"""
_ACTIVITY = """
SELECT
    CASE
        WHEN state IN ('active', 'idle') THEN state
        WHEN starts_with(state, 'idle in transaction') THEN 'idle in transaction'
        ELSE 'other'
    END AS kind,
    count(*),
    coalesce(max(extract(EPOCH FROM clock_timestamp() - xact_start)), 0)::double precision,
    count(*) FILTER (WHERE wait_event_type = 'Lock')
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
GROUP BY kind
"""


class PostgresFigures(NamedTuple):
    """One look at the server.

    Attributes:
        database_bytes: of this database.
        max_connections: that the server allows.
        wal_bytes: written since the server was made.
        committed: transactions, since the statistics began, as everything down to `deadlocks`.
        rolled_back: transactions.
        blocks_in_cache: read, and found in the server's own cache.
        blocks_on_disk: read, and not found there.
        temporary_bytes: written to temporary files.
        deadlocks: that the server ended.
        transaction_id_age: transactions since the oldest row that is not frozen.
        connections: by state, this one left out.
        oldest_transaction: seconds.
        waiting_for_locks: connections.
    """

    database_bytes: int
    max_connections: int
    wal_bytes: float
    committed: int
    rolled_back: int
    blocks_in_cache: int
    blocks_on_disk: int
    temporary_bytes: int
    deadlocks: int
    transaction_id_age: int
    connections: dict[str, int]
    oldest_transaction: float
    waiting_for_locks: int


def postgres_figures(connection: Connection) -> PostgresFigures:
    """Look; a few milliseconds.

    Args:
        connection: in autocommit.
    """
    [database] = connection.execute(_DATABASE).fetchall()
    activity = connection.execute(_ACTIVITY).fetchall()
    found = {state: count for state, count, _, _ in activity}
    connections = {state: found.get(state, 0) for state in STATES}
    oldest = max((age for _, _, age, _ in activity), default=0.0)
    waiting = sum(count for *_, count in activity)
    return PostgresFigures._make((*database, connections, oldest, waiting))
