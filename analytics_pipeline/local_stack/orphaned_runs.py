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
from tenacity import Retrying, stop_after_attempt, wait_exponential

from analytics_pipeline.settings import Settings, load_settings

_MODULE = "analytics_pipeline.local_stack.orphaned_runs"
_RELOADED_WITHIN = 10.0
"""Seconds until Dagster's daemon has noticed a new code server."""
_STARTS_WITHIN = 60.0
"""Seconds until a code server answers whose start nobody watches."""
_ATTEMPTS = 10
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


def fail_runs_later(
    runs: Sequence[str], variables: Mapping[str, str] | None = None, *, after: float = _RELOADED_WITHIN
) -> subprocess.Popen[bytes]:
    """Mark them as ended, some seconds from now; in a process of its own, because Dagster takes a second to load.

    Args:
        runs: ids.
        variables: the whole environment of a process of Dagster; this one's, where there is none.
        after: seconds, until a code server is there and known.
    """
    command = [sys.executable, "-m", _MODULE, "--after", str(after), "--fail", *runs]
    return subprocess.Popen(command, env=None if variables is None else dict(variables))


def _fail(runs: Sequence[str], *, after: float = 0.0) -> None:
    """Again and again, for a few minutes: what is not marked holds its pool.

    Not once whoever asked for it is gone: then the code server is, too, and the next one's start finds them again.
    """
    asking = os.getppid()
    time.sleep(after)
    for attempt in Retrying(stop=stop_after_attempt(_ATTEMPTS), wait=wait_exponential(max=30), reraise=True):
        with attempt:
            if os.getppid() != asking:
                return
            _fail_once(runs)


def _fail_once(runs: Sequence[str]) -> None:
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    why = "Its code server ended while it ran."
    with DagsterInstance.get() as instance:
        for run in instance.get_runs(RunsFilter(run_ids=list(runs))):
            if run.status is DagsterRunStatus.STARTED:
                instance.report_run_failed(run, why)
            elif run.status is DagsterRunStatus.CANCELING:  # retried by nobody: a person wanted it to end
                instance.report_run_canceled(run, why)


def main() -> None:
    """Start a code server, or mark runs: those that are named, or without a command all of them."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument(
        "--after", type=float, default=_STARTS_WITHIN, metavar="SECONDS", help="when the code server answers"
    )
    parser.add_argument("--fail", nargs="+", metavar="RUN", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of the code server, with its arguments")
    asked = parser.parse_args()
    if asked.fail:
        _fail(asked.fail, after=asked.after)
        return
    runs = orphaned_runs(load_settings())
    if not asked.command:
        if runs:
            _fail(runs)
        return
    if runs:
        fail_runs_later(runs, after=asked.after)
    os.execvp(asked.command[0], asked.command)  # noqa: S606 - what a person or a container named


if __name__ == "__main__":
    main()
