"""When rollups are brought up to date: a sensor about once a minute, an hourly schedule as its net.

Belongs here: asking for runs. Does not belong here: what the runs do (`live`).
"""

import dagster as dg

from analytics_pipeline.defs.conventions import OWNERS
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.live import merge_live
from analytics_pipeline.storage.due import buckets_due, closed_minutes_pending

_UNFINISHED = dg.RunsFilter(
    job_name=merge_live.name,
    statuses=[
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ],
)


@dg.sensor(
    job=merge_live,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    owners=OWNERS,
    description="Asks for one live merge when a minute that is over has pending deltas, or a bucket is due.",
)
def closed_minutes(context: dg.SensorEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
    """One run a minute at most (its run key), and never two at once."""
    if context.instance.get_run_ids(_UNFINISHED, limit=1):
        return dg.SkipReason("a live merge is queued or running")
    now = pipeline.now()
    with pipeline.connection("sensor") as connection:
        pending = closed_minutes_pending(connection, now=now)
        due = buckets_due(connection, now=now, graces=pipeline.settings.analytics.aggregation.graces)
    if not pending and not due:
        return dg.SkipReason("no closed minute is pending and no bucket is due")
    return dg.RunRequest(
        run_key=f"minute-{now:%Y-%m-%dT%H:%M}", tags={"pending": str(pending), "due": str(due)}
    )


# Not deduplicated: a merge with nothing to do costs one short run.
merge_hourly = dg.ScheduleDefinition(
    name="merge_hourly",
    job=merge_live,
    cron_schedule="4 * * * *",
    execution_timezone="UTC",
    tags={"net": "hourly"},
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=OWNERS,
    description="The net below the sensor: a live merge every hour, whatever the sensor saw.",
)
