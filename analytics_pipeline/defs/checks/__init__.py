"""Asset checks: the books of landing and rollups, judged."""

import dagster as dg

from analytics_pipeline.defs.checks.books import books_of_landing, books_of_rollups
from analytics_pipeline.defs.checks.cardinality import cardinality
from analytics_pipeline.defs.checks.every_metric import every_metric_equals_raw
from analytics_pipeline.defs.checks.schedules import checks_every_ten_minutes, checks_job

DEFINITIONS = dg.Definitions(
    asset_checks=[books_of_landing, books_of_rollups, every_metric_equals_raw, cardinality],
    jobs=[checks_job],
    schedules=[checks_every_ten_minutes],
)
