"""When the books are checked.

Belongs here: the job and its schedule. Does not belong here: the checks (`books`).
"""

import dagster as dg

from analytics_pipeline.defs.checks.books import books_of_landing, books_of_rollups
from analytics_pipeline.defs.checks.cardinality import cardinality
from analytics_pipeline.defs.checks.every_metric import every_metric_equals_raw
from analytics_pipeline.defs.conventions import OWNERS, ROUTINE_TAGS

checks_job = dg.define_asset_job(
    "checks",
    selection=dg.AssetSelection.checks(
        books_of_landing, books_of_rollups, every_metric_equals_raw, cardinality
    ),
    description=(
        "The books of landing and rollups, and a sample of every metric against raw events, or the range in run "
        "config. Writes nothing."
    ),
    tags=ROUTINE_TAGS,
    owners=OWNERS,
)

checks_every_ten_minutes = dg.ScheduleDefinition(
    name="checks_every_ten_minutes",
    job=checks_job,
    cron_schedule="6-56/10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=OWNERS,
    description="The books and a sample of every metric, every ten minutes.",
)
