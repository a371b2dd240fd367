"""The metrics of the catalog, an asset each: what Dagster says is stale is exactly what was edited."""

import dagster as dg

from analytics_pipeline.defs.metrics.assets import metrics
from analytics_pipeline.defs.metrics.automation import metrics_in_service

DEFINITIONS = dg.Definitions(assets=[metrics], sensors=[metrics_in_service])
