"""What processes write about themselves: figures from two readings, a row per figure and minute, and no disturbance."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from analytics_pipeline.defs import processes
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.ingest.work_done import work_done
from analytics_pipeline.settings import settings
from analytics_pipeline.storage.system_metrics import Reading, Reporter, Work, figures
from analytics_pipeline.telemetry import (
    BATCH_DURATION,
    EVENTS_FAILED,
    EVENTS_INGESTED,
    SYSTEM_METRICS_SKIPPED,
)
from api.work_done import work_done as requests_done
from tests.waiting import wait_for

START = datetime.now(UTC).replace(second=30, microsecond=0) - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NOTHING_LISTENS = "host=127.0.0.1 port=1 dbname=none connect_timeout=2"


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def reading(seconds: float, cpu: float, *work: float) -> Reading:
    return Reading(START + timedelta(seconds=seconds), Work(*work), cpu, 1000)


def skipped() -> float:
    return SYSTEM_METRICS_SKIPPED._value.get()


def stored(db) -> dict[tuple[str, datetime], dict[str, float]]:
    found: dict[tuple[str, datetime], dict[str, float]] = {}
    for service, at, name, value in db.execute(
        "SELECT service_name, time_bucket, metric_type, value FROM system_metrics"
    ):
        found.setdefault((service, at), {})[name] = value
    return found


def test_figures_are_means_and_rates_of_the_time_between_two_readings():
    found = figures(reading(0, 5, 100, 10, 4, 2.0), reading(50, 10, 300, 30, 8, 3.0))
    assert found == {"throughput": 4.0, "cpu": 10.0, "memory": 1000, "latency": 250.0, "error_rate": 10.0}


def test_what_has_nothing_to_be_the_mean_of_is_left_out():
    assert figures(reading(0, 5), reading(60, 5)) == {"throughput": 0, "cpu": 0, "memory": 1000}


def test_a_minute_is_written_once_when_it_is_over(db):
    clock, work = Clock(), Work()
    reporter = Reporter(settings().database.conninfo(), "ingest", lambda: work, clock=clock)
    assert not reporter.tick()
    clock.now, work = START + timedelta(seconds=30), Work(600, 60, 3, 1.5)
    assert reporter.tick()
    assert not reporter.tick()
    [((service, at), found)] = stored(db).items()
    assert (service, at) == ("ingest", START.replace(second=0))
    assert found.keys() == {"latency", "throughput", "error_rate", "cpu", "memory"}
    assert (found["latency"], found["throughput"], found["error_rate"]) == (500, 20, 10)
    assert found["memory"] > 1_000_000
    clock.now = clock.now + MINUTE
    assert reporter.tick()
    assert stored(db)["ingest", START.replace(second=0) + MINUTE]["throughput"] == 0
    [dimensions] = db.execute("SELECT DISTINCT dimensions FROM system_metrics").fetchone()
    assert dimensions.keys() == {"host", "process"}


def test_a_minute_without_postgres_is_skipped_and_counted_and_the_next_is_its_own(db):
    clock, work = Clock(), Work()
    reporter = Reporter(NOTHING_LISTENS, "api", lambda: work, clock=clock)
    before = skipped()
    clock.now, work = START + MINUTE, Work(60, 0, 0, 0)
    assert not reporter.tick()
    assert skipped() == before + 1
    reporter._conninfo = settings().database.conninfo()
    clock.now, work = START + 2 * MINUTE, Work(180, 0, 0, 0)
    assert reporter.tick()
    [found] = stored(db).values()
    assert found["throughput"] == 2


def test_a_defect_of_the_figures_never_reaches_the_process():
    clock = Clock()
    calls = []

    def work() -> Work:
        calls.append(clock.now)
        if len(calls) > 1:
            raise RuntimeError("a defect")
        return Work()

    reporter = Reporter(NOTHING_LISTENS, "api", work, clock=clock)
    clock.now = START + MINUTE
    before = skipped()
    reporter.start()
    try:
        wait_for(lambda: skipped() == before + 1)
    finally:
        reporter.stop()


def test_ingest_counts_messages_and_the_api_counts_requests():
    before = work_done()
    EVENTS_INGESTED.inc(7)
    EVENTS_FAILED.labels("too_old").inc(3)
    BATCH_DURATION.observe(0.5)
    assert [new - old for old, new in zip(before, work_done(), strict=True)] == [10, 3, 1, 0.5]
    assert requests_done().units >= requests_done().failed


@pytest.fixture
def dagster_clock(monkeypatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(Pipeline, "now", lambda _self: clock.now)
    processes._of_this_process.cache_clear()
    yield clock
    processes._of_this_process.cache_clear()


def test_dagster_counts_the_runs_that_ended(db, dagster_clock):
    @dg.op
    def breaks() -> None:
        raise RuntimeError("broken")

    @dg.job
    def good(): ...

    @dg.job
    def bad():
        breaks()

    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> str:
            context = dg.build_sensor_context(instance=instance, resources={"pipeline": Pipeline()})
            skip = processes.system_metrics(context)
            assert isinstance(skip, dg.SkipReason)
            return str(skip.skip_message)

        good.execute_in_process(instance=instance)
        tick()  # the first look: what ended before is history
        good.execute_in_process(instance=instance)
        bad.execute_in_process(instance=instance, raise_on_error=False)
        dagster_clock.now = START + timedelta(seconds=40)
        assert tick() == "a minute is written"
        assert tick() != "a minute is written"
    [((service, _), found)] = stored(db).items()
    assert (service, found["throughput"], found["error_rate"]) == ("dagster", 2 / 40, 50)
    assert 0 < found["latency"] < 60_000
