"""What Dagster's own tables tell of its last runs, its checks and its daemon.

Belongs here: reading them, without Dagster, which takes a second to load. Does not belong here: writing them (Dagster
alone does), starting runs.

Dagster's tables are not ours: of each only columns are read that it has had since version 1.0 (`asset_check_executions`
since 1.5), and where one is missing, nothing is known.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from analytics_pipeline.storage.connection import Connection

_ASSET_JOB = "__ASSET_JOB"
ASSETS = "assets"
"""The name of runs that materialize what a person chose, not the assets of a job."""

_RUNS = """
(
    SELECT run_id, pipeline_name, status, create_timestamp, start_time, end_time
    FROM {schema}.runs ORDER BY id DESC LIMIT %(most)s
)
UNION
(
    SELECT run_id, pipeline_name, status, create_timestamp, start_time, end_time
    FROM {schema}.runs WHERE status = 'FAILURE' AND create_timestamp >= %(since)s ORDER BY id DESC LIMIT %(most)s
)
ORDER BY create_timestamp DESC, run_id
"""
_CHECKS = """
SELECT check_.asset_key, check_.check_name, check_.run_id, check_.execution_status, check_.create_timestamp,
    check_.evaluation_event
FROM {schema}.asset_check_executions AS check_
INNER JOIN (
    SELECT max(id) AS id FROM {schema}.asset_check_executions
    WHERE create_timestamp >= %(since)s AND execution_status <> 'PLANNED'
    GROUP BY asset_key, check_name
) AS newest ON check_.id = newest.id
ORDER BY check_.asset_key, check_.check_name
"""
_DAEMON = "SELECT max(timestamp) FROM {schema}.daemon_heartbeats"
_DAY = timedelta(days=1)
_CHECKS_OF = timedelta(hours=3)
MOST_RUNS = 60


class Run(NamedTuple):
    """A run; times are None before they come."""

    run_id: str
    job: str
    status: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class AssetCheck(NamedTuple):
    """The last evaluation of a check of an asset; `severity` is `error` or `warning`, for the case that it failed."""

    asset: str
    name: str
    run_id: str
    passed: bool
    severity: str
    evaluated_at: datetime


class Orchestration(NamedTuple):
    """What Dagster is about: the newest runs, checks by asset and name, and when its daemon last said something."""

    runs: list[Run]
    checks: list[AssetCheck]
    daemon_at: datetime | None

    def last_of_jobs(self) -> dict[str, Run]:
        """The newest run of each job that has ended."""
        found: dict[str, Run] = {}
        for run in self.runs:
            if run.ended_at is not None:
                found.setdefault(run.job, run)
        return found


def read_orchestration(connection: Connection, schema: str, *, now: datetime) -> Orchestration | None:
    """The newest runs and failed ones of a day, the checks of the last hours; None: no Dagster has run here.

    Args:
        connection: in autocommit.
        schema: where Dagster keeps its tables.
        now: UTC.
    """
    name = sql.Identifier(schema)
    naive = now.astimezone(UTC).replace(tzinfo=None)
    try:
        runs = connection.execute(
            sql.SQL(_RUNS).format(schema=name), {"most": MOST_RUNS, "since": naive - _DAY}
        ).fetchall()
        checks = connection.execute(
            sql.SQL(_CHECKS).format(schema=name), {"since": naive - _CHECKS_OF}
        ).fetchall()
        daemon = daemon_at(connection, schema)
    except (
        psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName,
        psycopg.errors.InsufficientPrivilege,
    ):  # fmt: skip
        return None
    return Orchestration(
        [
            Run(run_id, ASSETS if job == _ASSET_JOB else job, status, _utc(created), _at(started), _at(ended))
            for run_id, job, status, created, started, ended in runs
        ],
        [_check(*row) for row in checks],
        daemon,
    )


def daemon_at(connection: Connection, schema: str) -> datetime | None:
    """When a daemon last gave a sign of life; None if none ever did.

    Raises:
        psycopg.errors.UndefinedTable: Dagster has no tables here.
    """
    row = connection.execute(sql.SQL(_DAEMON).format(schema=sql.Identifier(schema))).fetchone()
    return _utc(row[0]) if row and row[0] else None


def _check(asset: str, name: str, run_id: str, status: str, at: datetime, event: str | None) -> AssetCheck:
    return AssetCheck(
        "/".join(json.loads(asset)), name, run_id, status == "SUCCEEDED", _severity(event), _utc(at)
    )


def _severity(event: str | None) -> str:
    """Of a stored evaluation; one that has none never came to it, which is an error."""
    try:
        found: Any = json.loads(event or "")["dagster_event"]["event_specific_data"]["severity"]
    except (ValueError, KeyError, TypeError):
        return "error"
    text = str(found.get("__enum__", "") if isinstance(found, dict) else found)
    return "warning" if text.endswith("WARN") else "error"


def _utc(at: datetime) -> datetime:
    """Dagster stores UTC without saying so."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
