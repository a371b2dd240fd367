"""The figures of Dagster's code server and its runs, once a minute.

A sensor, because the code server has no loop of its own: sensors are evaluated in it, and its runs are its children.
Belongs here: which runs count. Does not belong here: figures and their table (`storage.system_metrics`).
"""

from datetime import datetime, timedelta
from functools import cache

import dagster as dg

from analytics_pipeline.defs.conventions import FINISHED, OWNERS
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.storage.system_metrics import Reporter, Work

_SLACK = timedelta(minutes=2)
"""A run's row is written after its end: look back for longer than that may take."""


class RunsDone:
    """Adds up the runs that end while this process lives; those of the first look are history."""

    def __init__(self) -> None:
        self._total, self._seen = Work(), set[str]()
        self._since: datetime | None = None

    def look(self, instance: dg.DagsterInstance, now: datetime) -> None:
        """Count what has ended since the last look: by any end but success it failed; timed from start to end."""
        since = (self._since or now) - _SLACK
        records = instance.get_run_records(dg.RunsFilter(statuses=FINISHED, updated_after=since))
        for record in records if self._since else []:
            if record.dagster_run.run_id not in self._seen:
                end = record.end_time or 0.0
                is_failed = not record.dagster_run.is_success
                one = Work(1, is_failed, 1, end - (record.start_time or end))
                self._total = Work(*map(sum, zip(self._total, one, strict=True)))
        self._seen = {record.dagster_run.run_id for record in records}
        self._since = now

    def total(self) -> Work:
        """Up to the last look."""
        return self._total


@cache
def _of_this_process(pipeline: Pipeline) -> tuple[RunsDone, Reporter]:
    """One for the life of the code server; made at the first tick, so that loading definitions does nothing."""
    runs = RunsDone()
    return runs, Reporter(pipeline.conninfo, "dagster", runs.total, clock=pipeline.now)


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    owners=OWNERS,
    description=(
        "Writes latency, throughput and error rate of runs, and processor and memory of the code server with its "
        "runs, to system_metrics, once a minute. Asks for no run."
    ),
)
def system_metrics(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.SkipReason:
    """A minute that cannot be written is skipped and counted."""
    runs, reporter = _of_this_process(pipeline)
    runs.look(context.instance, pipeline.now())
    is_written = reporter.tick()
    return dg.SkipReason("a minute is written" if is_written else "no minute is over, or Postgres is away")


DEFINITIONS = dg.Definitions(sensors=[system_metrics])
