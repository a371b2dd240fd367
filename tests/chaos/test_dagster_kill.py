"""A run's process is killed under Dagster: it is shown as failed, another one is started, and the numbers are right.

A whole stack, as `analytics up` starts it; only in the long form. What a kill at each moment leaves behind is tried
without Dagster (`test_run_kills`).
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.connection import Lock, connection
from analytics_pipeline.storage.rollups import day_key, hour_key
from tests.e2e.local import Pipe, Stack, event
from tests.waiting import wait_for

HOUR = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)
_COUNT = 40
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }
"""
_RUNS = """
SELECT runs.run_id, runs.status, tags.value FROM dagster.runs
LEFT JOIN dagster.run_tags AS tags ON tags.run_id = runs.run_id AND tags.key = 'dagster/parent_run_id'
WHERE runs.pipeline_name = %s ORDER BY runs.id
"""
_CLIENT = """
SELECT client_port FROM pg_stat_activity
WHERE application_name = %s AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    folder = Path(tempfile.mkdtemp(prefix="b25-kill-", dir="/tmp"))
    stack = Stack(folder / "state")
    try:
        stack.up()
        yield Pipe(stack)
    finally:
        stack.run("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_run_is_shown_as_failed_and_done_again(pipe: Pipe) -> None:
    pipe.produce(
        "order.events", [event("order.placed", HOUR + timedelta(seconds=at)) for at in range(_COUNT)]
    )
    wait_for(lambda: pipe.count("order.placed") == _COUNT, 60, "all have landed")
    # Each is held at a lock that the test has, so that it is there to be killed, in the middle.
    _kill(
        pipe, "merge_live", "analytics-merge", (Lock.DAY, day_key(HOUR))
    )  # the next minute's run does the same
    wait_for(lambda: pipe.sql("SELECT count(*) FROM rollup_deltas") == [(0,)], 120, "a merge has settled all")
    before = _counts(pipe)
    assert before == dict.fromkeys(LEVELS, _COUNT)

    _launch(pipe)
    killed = _kill(pipe, "__ASSET_JOB", "analytics-recompute", (Lock.HOUR, hour_key(HOUR)))
    wait_for(
        lambda: [s for _, s, parent in pipe.sql(_RUNS, "__ASSET_JOB") if parent == killed] == ["SUCCESS"],
        120,
        "the run has been done again",
    )
    assert _counts(pipe) == before
    pipe.check_books()


def _kill(pipe: Pipe, job: str, role: str, lock: tuple[int, int]) -> str:
    """Kill the run of a job that waits for a lock, and say which it was once it is shown as failed."""
    with connection(pipe.conninfo, name="test", autocommit=True) as opened:
        opened.execute("SELECT pg_advisory_lock(%s, %s)", lock)
        [(port,)] = wait_for(lambda: pipe.sql(_CLIENT, role), 120, f"{job} waits for the lock")
        running = [run for run, status, _ in pipe.sql(_RUNS, job) if status == "STARTED"]
        os.kill(_process_of(port), signal.SIGKILL)
        wait_for(lambda: _status(pipe, job, running[-1]) == "FAILURE", 90, "the run is shown as failed")
    return str(running[-1])


def _process_of(port: int) -> int:
    """Whose end of a connection to Postgres it is."""
    [pid] = {
        found.pid
        for found in psutil.net_connections("tcp")
        if found.laddr and found.laddr.port == port and found.pid
    }
    assert pid is not None
    return pid


def _status(pipe: Pipe, job: str, run_id: str) -> str:
    return next(status for run, status, _ in pipe.sql(_RUNS, job) if run == run_id)


def _counts(pipe: Pipe) -> dict[str, int]:
    settled = (
        "SELECT interval, sum(count)::bigint FROM metric_aggregations"
        " WHERE metric_name = 'events.count' AND dimension_set = '' GROUP BY interval"
    )
    return dict(pipe.sql(settled))


def _launch(pipe: Pipe) -> None:
    """Materialize the hour, as a person does in the UI."""
    params: dict[str, Any] = {
        "selector": {
            "repositoryLocationName": "analytics",
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": [f"metric_rollups_{level}"]} for level in LEVELS if level != "1d"],
        },
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": f"{HOUR:%Y-%m-%d-%H:%M}"}]},
    }
    body = {"query": _LAUNCH, "variables": {"params": params}}
    answer = httpx.post(f"{pipe.dagster}/graphql", json=body, timeout=30.0).json()
    assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", answer
