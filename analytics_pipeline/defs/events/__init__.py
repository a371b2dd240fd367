"""Raw events, as Dagster sees them."""

import dagster as dg

from analytics_pipeline.defs.events.assets import events

DEFINITIONS = dg.Definitions(assets=[events])
