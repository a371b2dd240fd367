"""What all definitions share: owners, groups, pools, priorities, retries.

Belongs here: names and numbers that must agree between areas. Does not belong here: any definition.
"""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Parameter `owners` of ")
"""Owners of jobs, schedules and sensors are new in Dagster; everyone should still see whom to ask."""

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

OWNERS = ["team:data-engineering"]

INGESTION = "ingestion"
ROLLUPS = "rollups"
METRICS = "metrics"
MAINTENANCE = "maintenance"
MARTS = "marts"

LIVE_POOL = "merge_live"
"""Holds one run at a time (`concurrency.pools.default_limit` in dagster.yaml), like every pool."""
RECOMPUTE_POOL = "recompute"
RETENTION_POOL = "retention"
MARTS_POOL = "marts"

_PRIORITY = "dagster/priority"
_RUN_RETRIES = "dagster/max_retries"
_MAX_RUNTIME = "dagster/max_runtime"
"""Seconds; what has none may take `run_monitoring.max_runtime_seconds` of dagster.yaml, which is enough for a backfill:
a run that a person asks for from an asset has no tags of ours."""

LIVE_TAGS = {_PRIORITY: "10", _RUN_RETRIES: "0", _MAX_RUNTIME: "600"}
"""First of all. Not retried, because the next minute's run does the same and more. It takes seconds to a minute: one
that hangs must not hold back the next for long."""
ROUTINE_TAGS = {_PRIORITY: "5", _MAX_RUNTIME: "21600"}
"""Six hours: so long may the archiving of a day take, or the first filling of a mart."""
BACKFILL_TAGS = {_PRIORITY: "0"}
"""What runs have that a person materializes from an asset: they wait until nothing of the others is queued."""

RETRY = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL)
"""Of a step whose surroundings failed it; what a person has to mend is a `dg.Failure` that allows none."""
