"""Marts, filled by dbt."""

import dagster as dg

from analytics_pipeline.defs.marts.assets import marts
from analytics_pipeline.defs.marts.resources import RESOURCES
from analytics_pipeline.defs.marts.schedules import marts_schedule

DEFINITIONS = dg.Definitions(assets=[marts], schedules=[marts_schedule], resources=RESOURCES)
