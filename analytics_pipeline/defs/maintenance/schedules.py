"""When maintenance and retention run.

Belongs here: their job and its schedules. Does not belong here: what they do (`assets`).
"""

from datetime import timedelta

import dagster as dg

from analytics_pipeline.defs.conventions import MAINTENANCE, OWNERS, ROUTINE_TAGS
from analytics_pipeline.settings import settings


def cron_of(interval: timedelta) -> str:
    """The nearest cron schedule of `retention.cleanup_interval`: whole hours below a day, else days at 00:17 UTC."""
    hours = max(1, int(interval / timedelta(hours=1)))
    if hours < 24:
        return f"17 */{hours} * * *"
    return "17 0 * * *" if hours < 48 else f"17 0 */{min(hours // 24, 28)} * *"


maintenance_job = dg.define_asset_job(
    "maintenance",
    selection=dg.AssetSelection.groups(MAINTENANCE),
    description=(
        "Partitions ahead of time, indexes of days that are over, metrics retired that nobody declares; expired "
        "partitions and rows, and old runs of Dagster, removed. The schedules run the first half of it often, and all "
        "of it once every analytics.retention.cleanup_interval."
    ),
    tags=ROUTINE_TAGS,
    owners=OWNERS,
)


@dg.schedule(
    job=maintenance_job,
    cron_schedule="11,41 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=OWNERS,
    description=(
        "Partitions ahead of time, long before they are needed, so that a missed run does no harm; indexes of days "
        "that are over; the end of metrics that nobody declares any more."
    ),
)
def maintenance_half_hourly() -> dg.RunRequest:
    """What cannot wait for a day."""
    often = ("partitions_ahead", "event_indexes", "retired_metrics")
    return dg.RunRequest(asset_selection=[dg.AssetKey(name) for name in often])


maintenance_daily = dg.ScheduleDefinition(
    name="maintenance_daily",
    job=maintenance_job,
    cron_schedule=cron_of(settings().analytics.retention.cleanup_interval),
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=OWNERS,
    description=(
        "Everything of it: removes expired partitions, rows and old runs, once every "
        "analytics.retention.cleanup_interval."
    ),
)
