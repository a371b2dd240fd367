"""When the marts are brought up to date.

Belongs here: the schedule. Does not belong here: the models.
"""

import dagster as dg

from analytics_pipeline.defs.conventions import MARTS, ROUTINE_TAGS

marts_schedule = dg.ScheduleDefinition(
    name="marts",
    job=dg.define_asset_job("marts", selection=dg.AssetSelection.groups(MARTS), tags=ROUTINE_TAGS),
    cron_schedule="2-57/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Fills the marts incrementally, every five minutes.",
)
