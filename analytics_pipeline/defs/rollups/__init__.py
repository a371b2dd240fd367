"""Metric rollups at five levels: the live merge, and recomputing from raw."""

import dagster as dg

from analytics_pipeline.defs.rollups.assets import backfill_job, metric_rollups_days, metric_rollups_hours
from analytics_pipeline.defs.rollups.automation import closed_minutes, merge_hourly
from analytics_pipeline.defs.rollups.live import merge_live

DEFINITIONS = dg.Definitions(
    assets=[metric_rollups_hours, metric_rollups_days],
    jobs=[merge_live, backfill_job],
    sensors=[closed_minutes],
    schedules=[merge_hourly],
)
