"""When maintenance and retention run.

Belongs here: their schedules. Does not belong here: what they do (`assets`).
"""

import dagster as dg

from analytics_pipeline.defs.conventions import ROUTINE_TAGS

maintenance_schedule = dg.ScheduleDefinition(
    name="maintenance",
    job=dg.define_asset_job("maintenance", selection=["partitions_ahead"], tags=ROUTINE_TAGS),
    cron_schedule="11,41 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Partitions ahead of time: long before they are needed, so that a missed run does no harm.",
)

retention_schedule = dg.ScheduleDefinition(
    name="retention",
    job=dg.define_asset_job(
        "retention", selection=["expired_partitions", "forgotten_runs"], tags=ROUTINE_TAGS
    ),
    cron_schedule="17 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Removes expired partitions and old runs once a day, after midnight UTC.",
)
