"""What all definitions share: owners, groups, pools, priorities.

Belongs here: names and numbers that must agree between areas. Does not belong here: any definition.
"""

import dagster as dg

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

OWNERS = ["team:data-engineering"]

INGESTION = "ingestion"
ROLLUPS = "rollups"
MAINTENANCE = "maintenance"
MARTS = "marts"

LIVE_POOL = "merge_live"
"""Holds one run at a time (`concurrency.pools.default_limit` in dagster.yaml), like every pool."""
RECOMPUTE_POOL = "recompute"
RETENTION_POOL = "retention"
MARTS_POOL = "marts"

_PRIORITY = "dagster/priority"
LIVE_TAGS = {_PRIORITY: "10"}
ROUTINE_TAGS = {_PRIORITY: "5"}
"""Backfills have none, which is 0: they wait until nothing of these is queued."""
