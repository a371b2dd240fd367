"""What Dagster's own tables say: runs of the last hour, failed asset checks, heartbeats of the daemon.

Belongs here: reading those tables. Their shape is that of the Dagster in pyproject.toml; a test reads a real one.
Does not belong here: anything that writes to them, which is Dagster's business alone.

Only the newest rows are looked at, so that a long history costs nothing.
"""

from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from analytics_pipeline.storage.connection import Connection

MOST_NAMES = 80
RUN_STATES = ("waiting", "started", "success", "failure", "canceled")

_RUNS = """
WITH recent AS (
    SELECT status, end_time FROM {schema}.runs ORDER BY id DESC LIMIT 5000
)
SELECT
    count(*) FILTER (WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING')),
    count(*) FILTER (WHERE status IN ('STARTED', 'CANCELING')),
    count(*) FILTER (WHERE status = 'SUCCESS' AND end_time >= extract(EPOCH FROM now()) - 3600),
    count(*) FILTER (WHERE status = 'FAILURE' AND end_time >= extract(EPOCH FROM now()) - 3600),
    count(*) FILTER (WHERE status = 'CANCELED' AND end_time >= extract(EPOCH FROM now()) - 3600)
FROM recent
"""
# One name may be a check of several assets: it counts those whose latest one failed.
_CHECKS = """
SELECT check_name, count(*) FILTER (WHERE execution_status <> 'SUCCEEDED')
FROM (
    SELECT DISTINCT ON (asset_key, check_name) check_name, execution_status
    FROM (SELECT * FROM {schema}.asset_check_executions ORDER BY id DESC LIMIT 5000) AS recent
    WHERE execution_status IN ('SUCCEEDED', 'FAILED', 'EXECUTION_FAILED')
    ORDER BY asset_key ASC, check_name ASC, id DESC
) AS latest
GROUP BY check_name ORDER BY 2 DESC, 1 LIMIT %(most)s
"""
_HEARTBEATS = """
SELECT daemon_type, extract(EPOCH FROM (now() AT TIME ZONE 'UTC') - "timestamp")::double precision
FROM {schema}.daemon_heartbeats
"""


class DagsterFigures(NamedTuple):
    """Runs by one of `RUN_STATES`, failed assets by check, seconds by daemon."""

    runs: dict[str, int]
    failed_checks: dict[str, int]
    heartbeats: dict[str, float]


def dagster_figures(connection: Connection, *, schema: str) -> DagsterFigures | None:
    """Look; None where Dagster has not made its tables yet.

    Args:
        connection: in autocommit.
        schema: where Dagster keeps its tables.
    """

    def ask(statement: LiteralString) -> list[tuple[Any, ...]]:
        query = sql.SQL(statement).format(schema=sql.Identifier(schema))
        return connection.execute(query, {"most": MOST_NAMES}).fetchall()

    try:
        [runs] = ask(_RUNS)
        return DagsterFigures(
            dict(zip(RUN_STATES, runs, strict=True)),
            dict(ask(_CHECKS)),
            dict(ask(_HEARTBEATS)),
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
