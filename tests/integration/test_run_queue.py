"""Which run starts next, and which failed run is run again, by `dagster.yaml` and the jobs' own tags."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from analytics_pipeline.defs.environment import URL_VARIABLE, dagster_environment
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import project_file, settings
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from tests.integration.databases import fresh_database

QUEUED, STARTED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED


@pytest.fixture(scope="module")
def everything(
    postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dg.Definitions, dg.DagsterInstance]]:
    """The definitions, and an instance as in production: `dagster.yaml`, with its storage in Postgres."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    for database in fresh_database(postgres, template_database):
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("B25_DATABASE__URL", database)
            patched.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(tmp_path_factory.getbasetemp() / "dagster"))
            settings.cache_clear()
            with connection(database, name="test") as opened:
                create_dagster_schema(opened, settings().dagster.schema_name)
            patched.setenv(URL_VARIABLE, dagster_environment(settings())[URL_VARIABLE])
            from analytics_pipeline.definitions import definitions

            with dg.DagsterInstance.from_config(str(home)) as instance:
                yield definitions, instance
        settings.cache_clear()


@pytest.fixture
def instance(everything: tuple[dg.Definitions, dg.DagsterInstance]) -> dg.DagsterInstance:
    """Without any run."""
    everything[1].run_storage.wipe()
    return everything[1]


class Queue:
    """Runs of the product's jobs, and what the daemon would start of them now."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        self._daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)

    def add(self, job_name: str, status: dg.DagsterRunStatus = QUEUED) -> dg.DagsterRun:
        job = self._definitions.resolve_job_def(job_name)
        origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("analytics"), "__repository__")
        return self._instance.create_run_for_job(
            job, tags=job.run_tags, status=status, remote_job_origin=origin.get_job_origin(job_name)
        )

    def next(self) -> list[str]:
        limits = self._instance.get_concurrency_config()
        for _ in range(2):  # Dagster knows the limit of a pool from the second look on
            found = self._daemon._get_runs_to_dequeue(self._instance, limits, fixed_iteration_time=None)
        return [run.job_name for run in found]


@pytest.fixture
def queue(everything: tuple[dg.Definitions, dg.DagsterInstance], instance: dg.DagsterInstance) -> Queue:
    return Queue(everything[0], instance)


@pytest.mark.slow
def test_live_work_starts_first_and_one_backfill_at_a_time(queue):
    for job in ("backfill", "backfill", "backfill", "marts", "checks", "merge_live", "merge_live"):
        queue.add(job)
    assert queue.next() == ["merge_live", "marts", "checks", "backfill"]


def test_a_running_backfill_keeps_the_next_one_waiting_and_nothing_else(queue):
    queue.add("backfill", STARTED)
    for job in ("backfill", "maintenance", "merge_live"):
        queue.add(job)
    assert queue.next() == ["merge_live", "maintenance"]


def test_live_merges_never_overlap(queue):
    queue.add("merge_live", STARTED)
    queue.add("merge_live")
    assert queue.next() == []


@pytest.mark.slow
def test_four_runs_at_once_at_most(queue):
    for job in ("marts", "maintenance", "checks"):
        queue.add(job, STARTED)
    for job in ("backfill", "merge_live"):
        queue.add(job)
    assert queue.next() == ["merge_live"]


def test_what_may_start_while_the_code_server_is_away_waits_for_minutes(instance):
    queue = instance.get_concurrency_config().run_queue_config
    assert queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay >= 120


@pytest.mark.parametrize(
    ("job", "reason", "is_retried"),
    [
        ("backfill", RunFailureReason.UNEXPECTED_TERMINATION, True),
        ("backfill", RunFailureReason.STEP_FAILURE, False),
        ("maintenance", RunFailureReason.START_TIMEOUT, True),
        ("marts", RunFailureReason.UNKNOWN, True),
        ("merge_live", RunFailureReason.UNEXPECTED_TERMINATION, False),
    ],
)
def test_a_run_is_run_again_if_its_process_failed_it_and_not_if_a_step_did(
    queue, instance, job, reason, is_retried
):
    run = queue.add(job, STARTED)
    instance.report_run_failed(run, "it ended", JobFailureData(error=None, failure_reason=reason))
    assert should_retry(instance.get_run_by_id(run.run_id), instance) is is_retried
