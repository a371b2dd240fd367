"""What all definitions share: owners, groups, pools, priorities.

Belongs here: names and numbers that must agree between areas. Does not belong here: any definition.
"""

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

PRIORITY_TAG = "dagster/priority"
LIVE_TAGS = {PRIORITY_TAG: "10"}
BACKFILL_TAGS = {PRIORITY_TAG: "-10"}
"""Backfills wait until nothing live is queued."""
