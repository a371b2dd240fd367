"""Runs of Dagster whose code server is gone: marked as failed before the next code server starts.

Runs are child processes of the code server, and end with it, however it ends. Dagster's own monitoring cannot see
that for its default launcher; the run would count as running for hours, and hold its pool: no live merge any more.

Belongs here: finding and failing them. `python -m analytics_pipeline.local_stack.orphaned_runs` does the second in a
process of its own, because Dagster takes a second to load; in containers it stands before the code server's command.
Does not belong here: running anything again (`defs`).
"""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

import psycopg
from psycopg import sql

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings

_FOUND = "SELECT EXISTS (SELECT FROM {schema}.runs WHERE status IN ('STARTING', 'STARTED', 'CANCELING'))"


def fail_orphaned_runs(settings: Settings, variables: Mapping[str, str]) -> bool:
    """Fail every run that counts as running, while no code server runs; True if there were any.

    Args:
        settings: with the database of the stack.
        variables: the whole environment of a process of Dagster.

    Raises:
        EnvironmentFault: Dagster refused.
    """
    found = False
    with (
        suppress(psycopg.errors.UndefinedTable),  # Dagster has never run here
        psycopg.connect(settings.database.conninfo()) as connection,
    ):
        schema = sql.Identifier(settings.dagster.schema_name)
        row = connection.execute(sql.SQL(_FOUND).format(schema=schema)).fetchone()
        found = bool(row and row[0])
    if not found:
        return False
    result = subprocess.run(
        [sys.executable, "-m", __name__], env=dict(variables), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        last = (result.stderr.strip() or "no output").splitlines()[-1]
        raise EnvironmentFault(
            f"runs of Dagster that ended with its code server could not be marked so: {last}"
        )
    return True


def _fail_them() -> None:
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    running = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    with DagsterInstance.get() as instance:
        for run in instance.get_runs(RunsFilter(statuses=running)):
            instance.report_run_failed(run, "Its code server ended while it ran.")


if __name__ == "__main__":
    _fail_them()
