"""The code location: loads what stands below `defs`, and nothing else happens here.

Loading needs no service, no environment variable and no file outside the package.
"""

import dagster as dg

from analytics_pipeline.defs import checks, events, maintenance, marts, metrics, processes, rollups
from analytics_pipeline.defs.resources import RESOURCES

definitions = dg.Definitions.merge(
    events.DEFINITIONS,
    rollups.DEFINITIONS,
    metrics.DEFINITIONS,
    marts.DEFINITIONS,
    maintenance.DEFINITIONS,
    checks.DEFINITIONS,
    processes.DEFINITIONS,
    dg.Definitions(resources=RESOURCES, executor=dg.in_process_executor),
)
