"""When the marts are brought up to date.

Belongs here: the job and its schedule. Does not belong here: the models.
"""

import dagster as dg

from analytics_pipeline.defs.conventions import MARTS, OWNERS, ROUTINE_TAGS

marts_job = dg.define_asset_job(
    "marts",
    selection=dg.AssetSelection.groups(MARTS),
    description="Fills the marts from what is new or changed, with dbt, and runs their tests.",
    tags=ROUTINE_TAGS,
    owners=OWNERS,
)

marts_every_five_minutes = dg.ScheduleDefinition(
    name="marts_every_five_minutes",
    job=marts_job,
    cron_schedule="2-57/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=OWNERS,
    description="Fills the marts incrementally, every five minutes.",
)
