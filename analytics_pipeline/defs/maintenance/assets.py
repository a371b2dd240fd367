"""Assets that keep Postgres' partitions as the settings say.

Belongs here: their thin bodies. Does not belong here: which partitions go (`retention`), and how (`storage`).
"""

import dagster as dg

from analytics_pipeline.defs.conventions import MAINTENANCE, OWNERS, RETENTION_POOL
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.maintenance.history import KEEP_RUNS, forget_runs
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import table
from analytics_pipeline.storage.partitions import ensure_partitions
from analytics_pipeline.storage.retention import remove_expired, write_policies

_RETRY = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL)


@dg.asset(
    description="Partitions of events, rollups and marts from the raw retention line to some days ahead.",
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres"},
    pool=RETENTION_POOL,
    retry_policy=_RETRY,
)
def partitions_ahead(pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Create what is missing; bring the policies in the database, and the floor, to the settings."""
    retention = pipeline.settings.analytics.retention
    with pipeline.connection("maintenance") as connection:
        created = ensure_partitions(
            connection,
            now=pipeline.now(),
            keep=retention.raw_events,
            ahead_days=retention.partitions_ahead,
        )
        changed = write_policies(connection, retention)
    return dg.MaterializeResult(metadata={"created": created, "policies changed": changed})


@dg.asset(
    description=(
        "Removal of partitions that the policies let go: floor raised, last deltas merged, day frozen, detached "
        "without blocking, dropped. Resumes where a killed run stopped."
    ),
    deps=[EVENTS],
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres"},
    pool=RETENTION_POOL,
    retry_policy=_RETRY,
)
def expired_partitions(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Carry out retention, unless `cleanup_enabled` is off."""
    if not pipeline.settings.analytics.retention.cleanup_enabled:
        return dg.MaterializeResult(metadata={"skipped": "analytics.retention.cleanup_enabled is false"})
    with pipeline.connection("retention") as connection:
        write_policies(connection, pipeline.settings.analytics.retention)
        outcomes = remove_expired(connection, now=pipeline.now(), run_id=context.run.run_id)
    return dg.MaterializeResult(
        metadata={
            "dropped": sum(outcome.action == "dropped" for outcome in outcomes),
            "skipped": sum(outcome.action == "skipped" for outcome in outcomes),
            "bytes": sum(outcome.bytes or 0 for outcome in outcomes),
            "partitions": table(
                [
                    {"partition": each.partition, "action": each.action, "reason": each.reason}
                    for each in outcomes
                ]
            ),
        }
    )


@dg.asset(
    description="Finished runs of Dagster older than two weeks, removed; their materializations stay known.",
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"dagster"},
    pool=RETENTION_POOL,
)
def forgotten_runs(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Keep Dagster's tables from growing for ever."""
    forgotten = forget_runs(context.instance, before=pipeline.now() - KEEP_RUNS)
    return dg.MaterializeResult(metadata={**forgotten._asdict()})
