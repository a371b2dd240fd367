"""Runs of Dagster whose code server is gone: marked as ended once the next code server is there.

Runs are child processes of the code server, and end with it, however it ends. Dagster's own monitoring cannot see
that for its default launcher; the run would count as running for hours, and hold its pool: no live merge any more.
They are found before the next server starts, and marked after: Dagster retries a run within seconds of its end, once,
and where its daemon finds no server then, that was all.

Belongs here: finding and marking them. Where no `analytics up` starts the code server,
`python -m analytics_pipeline.local_stack.orphaned_runs dagster api grpc …` does, and marks what the last one left.
Does not belong here: running anything again (`defs`).
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings, load_settings

RELOADED_WITHIN = 10.0
"""Seconds until Dagster's daemon has noticed a new code server."""

_STARTS_WITHIN = 60.0
# One that is only starting may have been put back into the queue; Dagster's monitoring ends it where it was not.
_FOUND = "SELECT run_id FROM {schema}.runs WHERE status IN ('STARTED', 'CANCELING') ORDER BY id"


def orphaned_runs(settings: Settings) -> list[str]:
    """Ids of the runs that count as running; called while no code server runs, so that none of them does."""
    with (
        suppress(psycopg.errors.UndefinedTable),  # Dagster has never run here
        psycopg.connect(settings.database.conninfo()) as connection,
    ):
        schema = sql.Identifier(settings.dagster.schema_name)
        return [run for (run,) in connection.execute(sql.SQL(_FOUND).format(schema=schema))]
    return []


def fail_runs(runs: Sequence[str], variables: Mapping[str, str]) -> None:
    """Mark them as ended; in a process of its own, because Dagster takes a second to load.

    Args:
        runs: ids.
        variables: the whole environment of a process of Dagster.

    Raises:
        EnvironmentFault: Dagster refused.
    """
    result = subprocess.run(_failing(runs), env=dict(variables), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip() or "no output").splitlines()[-1]
        raise EnvironmentFault(
            f"runs of Dagster that ended with its code server could not be marked so: {last}"
        )


def _failing(runs: Sequence[str], *, after: float = 0.0) -> list[str]:
    return [sys.executable, "-m", __name__, "--after", str(after), "--fail", *runs]


def _fail_them(runs: Sequence[str]) -> None:
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    why = "Its code server ended while it ran."
    with DagsterInstance.get() as instance:
        for run in instance.get_runs(RunsFilter(run_ids=list(runs))):
            if run.status is DagsterRunStatus.STARTED:
                instance.report_run_failed(run, why)
            elif run.status is DagsterRunStatus.CANCELING:  # retried by nobody: a person wanted it to end
                instance.report_run_canceled(run, why)


def main() -> None:
    """Start a code server, or mark runs."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=__doc__)
    parser.add_argument("--after", type=float, default=0.0, metavar="SECONDS", help=argparse.SUPPRESS)
    parser.add_argument("--fail", nargs="+", metavar="RUN", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of the code server, with its arguments")
    asked = parser.parse_args()
    if asked.fail:
        time.sleep(asked.after)
        _fail_them(asked.fail)
        return
    if not asked.command:
        parser.error("name the command that starts the code server")
    if runs := orphaned_runs(load_settings()):
        subprocess.Popen(_failing(runs, after=_STARTS_WITHIN))
    os.execvp(asked.command[0], asked.command)  # noqa: S606 - what a person or a container named


if __name__ == "__main__":
    main()
