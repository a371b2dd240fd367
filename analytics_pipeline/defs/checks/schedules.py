"""When the books are checked.

Belongs here: the schedule. Does not belong here: the checks (`books`).
"""

import dagster as dg

from analytics_pipeline.defs.checks.books import books_of_landing, books_of_rollups
from analytics_pipeline.defs.checks.cardinality import cardinality
from analytics_pipeline.defs.checks.every_metric import every_metric_equals_raw
from analytics_pipeline.defs.conventions import ROUTINE_TAGS

checks_schedule = dg.ScheduleDefinition(
    name="checks",
    job=dg.define_asset_job(
        "checks",
        selection=dg.AssetSelection.checks(
            books_of_landing, books_of_rollups, every_metric_equals_raw, cardinality
        ),
        tags=ROUTINE_TAGS,
    ),
    cron_schedule="6-56/10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The books, every ten minutes.",
)
