"""When maintenance and retention run.

Belongs here: their schedules. Does not belong here: what they do (`assets`).
"""

from datetime import timedelta

import dagster as dg

from analytics_pipeline.defs.conventions import ROUTINE_TAGS
from analytics_pipeline.settings import settings


def cron_of(interval: timedelta) -> str:
    """The nearest cron schedule of `retention.cleanup_interval`: whole hours below a day, else days at 00:17 UTC."""
    hours = max(1, int(interval / timedelta(hours=1)))
    if hours < 24:
        return f"17 */{hours} * * *"
    return "17 0 * * *" if hours < 48 else f"17 0 */{min(hours // 24, 28)} * *"


maintenance_schedule = dg.ScheduleDefinition(
    name="maintenance",
    job=dg.define_asset_job(
        "maintenance", selection=["partitions_ahead", "event_indexes"], tags=ROUTINE_TAGS
    ),
    cron_schedule="11,41 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description=(
        "Partitions ahead of time, long before they are needed, so that a missed run does no harm; indexes of "
        "days that are over."
    ),
)

retention_schedule = dg.ScheduleDefinition(
    name="retention",
    job=dg.define_asset_job(
        "retention", selection=["expired_partitions", "expired_rows", "forgotten_runs"], tags=ROUTINE_TAGS
    ),
    cron_schedule=cron_of(settings().analytics.retention.cleanup_interval),
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Removes expired partitions, rows and old runs, once every analytics.retention.cleanup_interval.",
)
