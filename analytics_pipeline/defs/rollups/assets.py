"""The five rollup assets. Materializing a partition of them means recomputing it from raw events.

Belongs here: the recompute of chosen partitions, and its job. Does not belong here: the live merge (`live`), which
reports materializations of the same assets; backfilling one metric (`defs.metrics`).
"""

from collections.abc import Callable, Iterator
from datetime import datetime

import dagster as dg
from pydantic import Field

from analytics_pipeline.defs.conventions import BACKFILL_TAGS, OWNERS, RECOMPUTE_POOL, RETRY
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.partitions import DAILY, HOURLY, chosen_hours, day_key, hour_key
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.recomputing import Asked, recomputed
from analytics_pipeline.defs.rollups.reports import PREVIEWED, Preview, describe_recompute
from analytics_pipeline.defs.rollups.specs import KEYS, level_spec, level_tags
from analytics_pipeline.rollups.schema import HOUR_LEVELS, LEVELS
from analytics_pipeline.storage.recompute import RecomputeResult

SINGLE_RUN = dg.BackfillPolicy.single_run()


class Recompute(dg.Config):
    """What to recompute, and whether to."""

    dry_run: bool = Field(default=False, description="Show what would change, and write nothing.")
    metrics: list[str] = Field(default=[], description="Only these metrics; all of them where it is empty.")


@dg.multi_asset(
    name="recompute_hours",
    description="Recomputes the chosen hours from raw events, and their share of the day, one hour after another.",
    specs=[level_spec(level, EVENTS) for level in HOUR_LEVELS],
    partitions_def=HOURLY,
    backfill_policy=SINGLE_RUN,
    pool=RECOMPUTE_POOL,
    retry_policy=RETRY,
)
def metric_rollups_hours(
    context: dg.AssetExecutionContext, config: Recompute, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Each hour is reported when it is done, so a run that is interrupted has told what it did."""
    yield from ()
    preview = Preview()
    for result, _ in recomputed(context, pipeline, _asked(context, config, HOURLY)):
        if config.dry_run:
            preview.add(result)
        else:
            _report(context, result)
    for level in LEVELS if config.dry_run else ():
        _show(context, level, preview, day_key if level == "1d" else hour_key)


@dg.multi_asset(
    name="recompute_days",
    description="Recomputes the chosen days whole, from the raw events of their hours or from their archive.",
    specs=[level_spec("1d", KEYS["1h"])],
    partitions_def=DAILY,
    backfill_policy=SINGLE_RUN,
    pool=RECOMPUTE_POOL,
    retry_policy=RETRY,
)
def metric_rollups_days(
    context: dg.AssetExecutionContext, config: Recompute, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """The hours of a day are reported too, where it has any."""
    yield from ()
    preview = Preview()
    for result, _ in recomputed(context, pipeline, _asked(context, config, DAILY)):
        if config.dry_run:
            preview.add(result)
        else:
            _report(context, result)
    if config.dry_run:
        _show(context, "1d", preview, day_key)


backfill_job = dg.define_asset_job(
    "backfill",
    selection=dg.AssetSelection.assets(*(KEYS[level] for level in HOUR_LEVELS)).without_checks(),
    description=(
        "Recomputes hours from raw events at all levels, or with `dry_run: true` shows what that would change. "
        "Waits for live work. Interrupted, its retry goes on where it was."
    ),
    tags=BACKFILL_TAGS,
    owners=OWNERS,
)


def _asked(
    context: dg.AssetExecutionContext, config: Recompute, definition: dg.TimeWindowPartitionsDefinition
) -> Asked:
    return Asked(lambda _: chosen_hours(context, definition), config.metrics, is_preview=config.dry_run)


def _report(context: dg.AssetExecutionContext, result: RecomputeResult) -> None:
    """One hour, or a day that has no hours any more, on the partitions of every level that it wrote.

    Of today there are hours still to come: nothing is told of those.
    """
    for level in dict.fromkeys([*result.rows, "1d"]):
        definition, key = (DAILY, day_key(result.hour)) if level == "1d" else (HOURLY, hour_key(result.hour))
        if not definition.has_partition_key(key):
            continue
        context.log_event(
            dg.AssetMaterialization(
                KEYS[level],
                partition=key,
                metadata=describe_recompute(level, result),
                tags=level_tags(level),
            )
        )


def _show(
    context: dg.AssetExecutionContext, level: str, preview: Preview, key: Callable[[datetime], str]
) -> None:
    """Differences of a preview, on the partition if it is of one."""
    keys = {key(hour) for hour in preview.hours}
    context.log_event(
        dg.AssetObservation(
            KEYS[level],
            description=PREVIEWED,
            partition=keys.pop() if len(keys) == 1 else None,
            metadata=preview.metadata(level),
        )
    )
