"""The five rollup assets. Materializing a partition of them means recomputing it from raw events.

Belongs here: their specs and the recompute. Does not belong here: the live merge (`live`), which reports
materializations of the same assets.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import dagster as dg
from pydantic import Field

from analytics_pipeline.defs.conventions import OWNERS, RECOMPUTE_POOL, ROLLUPS
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.partitions import DAILY, HOURLY, day_key, hour_key, hours_in
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import RecomputeReport
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.backfill import LiveFirst, ids_of, plan, recompute
from analytics_pipeline.storage.metric_versions import switch

HOUR_LEVELS = [level for level in LEVELS if level != "1d"]
KEYS = {level: dg.AssetKey(f"metric_rollups_{level}") for level in LEVELS}
BACKFILL = dg.BackfillPolicy.single_run()
RETRY = dg.RetryPolicy(max_retries=2, delay=5)


class Recompute(dg.Config):
    """What to recompute, and whether to."""

    dry_run: bool = Field(default=False, description="Show what would change, and write nothing.")
    metrics: list[str] = Field(default=[], description="Only these metrics; all of them where it is empty.")


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
        code_version=BUILT_IN.version,
        skippable=True,  # a preview materializes nothing
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
    context: dg.AssetExecutionContext, config: Recompute, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Recompute the chosen hours one by one; each also rebuilds its day's 1d rows."""
    report = _recompute(context, pipeline, hours_in(context.partition_time_window), config)
    if config.dry_run:
        for level in HOUR_LEVELS:
            context.log_event(_preview(level, report, hour_key))
        return
    for day in sorted({day_key(hour) for hour in report.hours}):
        context.log_event(dg.AssetMaterialization(KEYS["1d"], partition=day))
    for level in HOUR_LEVELS:
        yield dg.MaterializeResult(asset_key=KEYS[level], metadata=report.metadata(level))


@dg.multi_asset(
    name="recompute_days",
    specs=[_spec("1d", KEYS["1h"])],
    partitions_def=DAILY,
    backfill_policy=BACKFILL,
    pool=RECOMPUTE_POOL,
    retry_policy=RETRY,
)
def metric_rollups_days(
    context: dg.AssetExecutionContext, config: Recompute, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Recompute the chosen days whole, from the raw events of their hours."""
    report = _recompute(context, pipeline, hours_in(context.partition_time_window), config)
    if config.dry_run:
        context.log_event(_preview("1d", report, day_key))
    else:
        yield dg.MaterializeResult(asset_key=KEYS["1d"], metadata=report.metadata("1h", "1d"))


def _recompute(
    context: dg.AssetExecutionContext, pipeline: Pipeline, hours: list[datetime], config: Recompute
) -> RecomputeReport:
    """Hour by hour, live work first; what a person has to mend is not retried."""
    report = RecomputeReport()
    verb = "compared" if config.dry_run else "recomputed"
    try:
        with pipeline.connection("recompute-watch") as connection:
            catalog = pipeline.catalog(connection)
            metric_ids = ids_of(config.metrics, catalog)
            live_first = LiveFirst(connection, lambda reason: context.log.info(reason or "going on"))
            planned = plan(connection, hours, catalog=catalog, metric_ids=metric_ids, restart=True)
            for result in recompute(
                pipeline.conninfo,
                planned,
                run_id=context.run.run_id,
                before_hour=live_first,
                write=not config.dry_run,
            ):
                report.add(result)
                context.log.info(f"{verb} {result.hour:%Y-%m-%dT%H:00Z}: {result.events} events")
            if hours and not config.dry_run:
                ids = list(catalog.by_id) if metric_ids is None else metric_ids
                names = switch(connection, ids, hours[0], hours[-1] + timedelta(hours=1))
                context.log.info(
                    f"answered anew from {hours[0]:%Y-%m-%dT%H:00Z} on: {', '.join(names) or 'none'}"
                )
    except ConfigurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    return report


def _preview(level: str, report: RecomputeReport, key: Callable[[datetime], str]) -> dg.AssetObservation:
    """Differences of a preview, on the partition if it is of one."""
    keys = {key(hour) for hour in report.hours}
    return dg.AssetObservation(
        KEYS[level],
        description="What a recompute would change; nothing was written.",
        partition=keys.pop() if len(keys) == 1 else None,
        metadata=report.metadata(*(("1h", "1d") if level == "1d" else (level,))),
    )
