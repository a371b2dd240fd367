"""The five rollup assets. Materializing a partition of them means recomputing it from raw events.

Belongs here: their specs and the recompute. Does not belong here: the live merge (`live`), which reports
materializations of the same assets.
"""

from collections.abc import Iterator

import dagster as dg

from analytics_pipeline.defs.conventions import OWNERS, RECOMPUTE_POOL, ROLLUPS
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.partitions import DAILY, HOURLY, day_key, days_in, hours_in
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import describe_recompute
from analytics_pipeline.rollups.catalog import catalog_version
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.recompute import recompute_day, recompute_hour

HOUR_LEVELS = [level for level in LEVELS if level != "1d"]
KEYS = {level: dg.AssetKey(f"metric_rollups_{level}") for level in LEVELS}
BACKFILL = dg.BackfillPolicy.single_run()
RETRY = dg.RetryPolicy(max_retries=2, delay=5)


def _spec(level: str, upstream: dg.AssetKey) -> dg.AssetSpec:
    return dg.AssetSpec(
        KEYS[level],
        deps=[upstream],
        description=(
            f"All metrics of the catalog in buckets of {level}: settled rows (`metric_aggregations`), states "
            f"(`metric_states`) and the bucket register. Live runs add pending deltas; materializing a "
            f"partition here recomputes it from raw events."
        ),
        group_name=ROLLUPS,
        owners=OWNERS,
        kinds={"postgres", "duckdb"},
        code_version=catalog_version,
        metadata={"dagster/table_name": f"public.metric_aggregations_{level}"},
    )


@dg.multi_asset(
    name="recompute_hours",
    specs=[_spec(level, EVENTS) for level in HOUR_LEVELS],
    partitions_def=HOURLY,
    backfill_policy=BACKFILL,
    pool=RECOMPUTE_POOL,
    retry_policy=RETRY,
)
def metric_rollups_hours(
    context: dg.AssetExecutionContext, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Recompute the chosen hours one by one; each also rebuilds its day's 1d rows."""
    done = []
    for hour in hours_in(context.partition_time_window):
        done.append(recompute_hour(pipeline.conninfo, hour, run_id=context.run.run_id))
        context.log.info(f"recomputed {hour:%Y-%m-%dT%H:00Z}: {done[-1].events} events")
    for day in sorted({day_key(result.hour) for result in done}):
        context.log_event(dg.AssetMaterialization(KEYS["1d"], partition=day))
    for level in HOUR_LEVELS:
        yield dg.MaterializeResult(asset_key=KEYS[level], metadata=describe_recompute(done, level))


@dg.multi_asset(
    name="recompute_days",
    specs=[_spec("1d", KEYS["1h"])],
    partitions_def=DAILY,
    backfill_policy=BACKFILL,
    pool=RECOMPUTE_POOL,
    retry_policy=RETRY,
)
def metric_rollups_days(
    context: dg.AssetExecutionContext, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Recompute the chosen days whole, from the raw events of their hours."""
    done = []
    for day in days_in(context.partition_time_window):
        done += recompute_day(pipeline.conninfo, day, run_id=context.run.run_id)
        context.log.info(f"recomputed {day:%Y-%m-%d}")
    yield dg.MaterializeResult(asset_key=KEYS["1d"], metadata=describe_recompute(done, "1h"))
