"""Dagster's tables, and runs that ended with their code server."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.defs.environment import dagster_environment
from analytics_pipeline.local_stack.addresses import Listener
from analytics_pipeline.local_stack.dagster_home import create_tables_once, write_home
from analytics_pipeline.local_stack.orphaned_runs import fail_runs_later, orphaned_runs
from analytics_pipeline.settings import Settings, environment
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from tests.waiting import wait_for

START_A_RUN = """
import dagster as dg

@dg.job
def job(): ...

with dg.DagsterInstance.get() as instance:
    for status in (
        dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELING,
        dg.DagsterRunStatus.STARTING,
    ):
        instance.create_run_for_job(job, status=status)
"""


@pytest.mark.slow
def test_runs_that_ended_with_their_code_server_are_failed(database: str, tmp_path: Path) -> None:
    settings, variables = stack_of(database, tmp_path)
    with connection(database, name="test") as opened:
        create_dagster_schema(opened, settings.dagster.schema_name)
    assert orphaned_runs(settings) == []  # no tables yet

    write_home(tmp_path, Listener("local_stack.dagster_code_port", "127.0.0.1", 1))
    create_tables_once(settings, tmp_path)
    create_tables_once(settings, tmp_path)
    assert orphaned_runs(settings) == []

    subprocess.run([sys.executable, "-c", START_A_RUN], env=variables, check=True)
    found = orphaned_runs(settings)
    assert len(found) == 2
    assert statuses(database) == ["STARTED", "SUCCESS", "CANCELING", "STARTING"], "nothing is marked yet"
    assert fail_runs_later(found, variables, after=0).wait(60) == 0
    assert statuses(database) == ["FAILURE", "SUCCESS", "CANCELED", "STARTING"]
    assert fail_runs_later(found, variables, after=0).wait(60) == 0
    assert statuses(database) == ["FAILURE", "SUCCESS", "CANCELED", "STARTING"]
    assert orphaned_runs(settings) == []


@pytest.mark.slow
def test_a_code_server_of_ones_own_starts_at_once_and_what_the_last_one_left_is_marked(
    database: str, tmp_path: Path
) -> None:
    settings, variables = stack_of(database, tmp_path)

    def start() -> None:
        done = subprocess.run(
            [sys.executable, "-m", orphaned_runs.__module__, "--after", "0", "echo", "api", "--port", "4000"],
            env=variables,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "api --port 4000\n")

    start()  # Dagster has never run here
    with connection(database, name="test") as opened:
        create_dagster_schema(opened, settings.dagster.schema_name)
    write_home(tmp_path, Listener("local_stack.dagster_code_port", "127.0.0.1", 1))
    create_tables_once(settings, tmp_path)
    subprocess.run([sys.executable, "-c", START_A_RUN], env=variables, check=True)
    start()
    wanted = ["FAILURE", "SUCCESS", "CANCELED", "STARTING"]
    wait_for(lambda: statuses(database) == wanted, 60, "they are marked")


def stack_of(database: str, home: Path) -> tuple[Settings, dict[str, str]]:
    """Settings with a database, and the environment of Dagster's processes."""
    settings = Settings()
    settings.database = settings.database.model_copy(update={"url": SecretStr(database)})
    own = {"B25_DATABASE__URL": database, "DAGSTER_HOME": str(home)}
    return settings, {**environment(), **dagster_environment(settings), **own}


def statuses(database: str) -> list[str]:
    with psycopg.connect(database) as opened:
        return [status for (status,) in opened.execute("SELECT status FROM dagster.runs ORDER BY id")]
