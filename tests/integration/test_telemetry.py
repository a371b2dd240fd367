"""Series of several processes that share a folder: gauges live as long as their process, counters stay."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analytics_pipeline.settings import environment
from analytics_pipeline.telemetry import LiveCollector
from tests.integration.ingest_process import ingest, produce, wait_until_landed, write_config
from tests.integration.landing_rig import event, execute
from tests.waiting import wait_for

PROGRAM = """
import os, sys
from analytics_pipeline import telemetry as t
t.INGEST_STOPPED.labels("a", "dead_letters").inc()
t.INGEST_LAG.labels("a", "0").set(7)
t.EVENTS_INGESTED.inc(5)
if "fork" in sys.argv:
    if os.fork():
        sys.stdin.read()
        os._exit(0)
    t.INGEST_STOPPED.labels("a", "dead_letters").inc()
    t.EVENTS_INGESTED.inc(5)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def series(folder: Path) -> dict[str, float]:
    """The sum of each series over its labels."""
    found: dict[str, float] = {}
    for family in LiveCollector(None, folder).collect():
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env={**environment(), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_process_takes_its_gauges_along_and_leaves_its_counters(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first, second = start(), start()
    found = series(tmp_path)
    assert found["analytics_ingest_partitions_stopped"] == 2
    assert found["analytics_ingest_lag"] == 7
    assert found["analytics_events_ingested_total"] == 10
    first.send_signal(signal.SIGKILL)
    first.wait()
    found = series(tmp_path)
    assert found["analytics_ingest_partitions_stopped"] == 1
    assert found["analytics_events_ingested_total"] == 10
    second.send_signal(signal.SIGKILL)
    second.wait()
    found = series(tmp_path)
    assert found.get("analytics_ingest_partitions_stopped", 0) == 0
    assert "analytics_ingest_lag" not in found
    assert found["analytics_events_ingested_total"] == 10


def test_a_stopped_process_is_alive(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start()
    process.send_signal(signal.SIGSTOP)
    assert series(tmp_path)["analytics_ingest_partitions_stopped"] == 1


def test_a_forked_child_has_a_life_of_its_own(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    parent = start("fork")
    wait_for(lambda: series(tmp_path)["analytics_ingest_partitions_stopped"] == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert series(tmp_path)["analytics_ingest_partitions_stopped"] == 1


def test_the_identity_of_a_dead_process_begins_anew(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A restarted container has the host name and the process id that it had before."""
    process = start()
    process.send_signal(signal.SIGKILL)
    process.wait()
    [left] = tmp_path.glob("gauge_livesum_*.db")
    program = (
        "import os; os.getpid = lambda: int(os.environ['PRETENDED'])\n"
        "from analytics_pipeline import telemetry as t\nt.INGEST_STOPPED.labels('a', 'dead_letters').inc()\n"
        "from pathlib import Path\n"
        "[g] = [m for m in t.LiveCollector(None, Path(os.environ['PROMETHEUS_MULTIPROC_DIR'])).collect()"
        " if m.name == 'analytics_ingest_partitions_stopped']\n"
        "print(g.samples[0].value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **environment(),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
            "PRETENDED": left.stem.rpartition("-")[2],
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1.0\n", done.stderr


@pytest.mark.slow
def test_an_ingest_that_is_killed_while_a_partition_is_stopped(
    database: str,
    kafka: str,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, folder = topic(partitions=2), tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    sent = [json.dumps(event(number)).encode() for number in range(100)]
    config = write_config(tmp_path, database, kafka, [name], dead_letter_consecutive=20)
    with ingest(config) as process:
        produce(kafka, name, [*sent, *sent[:10]], partition=0)
        wait_until_landed(database, name, 110)
        produce(kafka, name, [b"broken"] * 30, partition=1)
        execute(database, "INSERT INTO http_inbox (payload) VALUES (%s)", sent[0])
        wait_until_landed(database, "http", 1)

        def is_complete() -> bool:
            found = series(folder)
            return (
                found.get("analytics_ingest_partitions_stopped") == 1
                and found.get("analytics_landing_connections", 0) >= 2
                and 0 < found.get("analytics_ingest_freshness_seconds", 0) < 60
                and found.get("analytics_ingest_partitions") == 2 + 1  # owned, and one of them stopped
            )

        wait_for(is_complete, 30, "the series of a running ingest")
        found = series(folder)
        assert found["analytics_ingest_batch_rows_sum"] == 141
        assert found["analytics_events_failed_total"] == 30
        assert found["analytics_events_duplicate_total"] == 11
        assert found["analytics_ingest_fallback_batches_total"] >= 1
        assert found["analytics_landing_step_seconds_total"] > 0
        assert found["analytics_definition_loads_total"] >= 1
        process.kill()
        assert series(folder).get("analytics_ingest_partitions_stopped", 0) == 0
        assert series(folder)["analytics_events_failed_total"] == 30
