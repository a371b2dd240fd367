"""Marts: those that dbt fills, and the view of the dashboard."""

import dagster as dg

from analytics_pipeline.defs.marts.assets import marts
from analytics_pipeline.defs.marts.dashboard import dashboard_metrics
from analytics_pipeline.defs.marts.resources import RESOURCES
from analytics_pipeline.defs.marts.schedules import marts_every_five_minutes, marts_job

DEFINITIONS = dg.Definitions(
    assets=[marts, dashboard_metrics],
    jobs=[marts_job],
    schedules=[marts_every_five_minutes],
    resources=RESOURCES,
)
