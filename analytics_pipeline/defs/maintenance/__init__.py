"""Partitions ahead of time, and expired ones removed."""

import dagster as dg

from analytics_pipeline.defs.maintenance.assets import (
    event_indexes,
    expired_partitions,
    expired_rows,
    forgotten_runs,
    partitions_ahead,
    retired_metrics,
)
from analytics_pipeline.defs.maintenance.schedules import (
    maintenance_daily,
    maintenance_half_hourly,
    maintenance_job,
)

DEFINITIONS = dg.Definitions(
    assets=[
        partitions_ahead,
        event_indexes,
        retired_metrics,
        expired_partitions,
        expired_rows,
        forgotten_runs,
    ],
    jobs=[maintenance_job],
    schedules=[maintenance_half_hourly, maintenance_daily],
)
