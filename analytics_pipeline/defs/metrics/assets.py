"""Materializing a metric: backfilling it over everything that there are raw events of.

Belongs here: the thin body. Does not belong here: all metrics of some hours (`defs.rollups.assets`).
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg
from pydantic import Field

from analytics_pipeline.defs.conventions import RECOMPUTE_POOL, RETRY
from analytics_pipeline.defs.metrics.automation import event_of
from analytics_pipeline.defs.metrics.specs import key_of, metric_spec
from analytics_pipeline.defs.mistakes import not_retried
from analytics_pipeline.defs.ranges import Range, hours_of
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.recomputing import Asked, Progress, recomputed
from analytics_pipeline.defs.rollups.reports import PREVIEWED, Preview
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import BUILT_IN, Metric
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.backfill import needed_until, raw_begin
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.metric_versions import in_service

_STEPS = 20
"""How often a long backfill tells how far it is."""


class MetricBackfill(Range):
    """From and until when, and whether to; everything that there are raw events of where nothing is said."""

    dry_run: bool = Field(default=False, description="Show what would change, and write nothing.")


@dg.multi_asset(
    name="backfill_metrics",
    description="Backfills the chosen metrics over all raw events, or the range in run config, in one pass.",
    specs=[metric_spec(metric) for metric in BUILT_IN.metrics],
    can_subset=True,
    pool=RECOMPUTE_POOL,
    retry_policy=RETRY,
)
def metrics(
    context: dg.AssetExecutionContext, config: MetricBackfill, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Materialized is a metric that answers for all of raw afterwards; another says from when on it answers."""
    chosen = [metric for metric in BUILT_IN.metrics if key_of(metric.name) in context.selected_asset_keys]
    preview, told = Preview(), 0
    for result, progress in recomputed(context, pipeline, _asked(pipeline, config, chosen)):
        preview.add(result)
        if progress.percent * _STEPS // 100 > told:
            told = progress.percent * _STEPS // 100
            _tell(context, chosen, progress, is_preview=config.dry_run)
    if config.dry_run:
        _show(context, chosen, preview)
    else:
        yield from _results(context, pipeline, chosen)


def _asked(pipeline: Pipeline, config: MetricBackfill, chosen: Sequence[Metric]) -> Asked:
    def hours(connection: Connection) -> list[datetime]:
        _see_in_force(connection, chosen)
        now, catalog = pipeline.now(), pipeline.catalog(connection)
        if not config.end:
            now = max(now, needed_until(connection, catalog, [metric.metric_id for metric in chosen]) or now)
        return hours_of(config, now, begin=raw_begin(connection))

    return Asked(hours, [metric.name for metric in chosen], is_preview=config.dry_run)


def _see_in_force(connection: Connection, chosen: Sequence[Metric]) -> None:
    in_force = {found.metric_id for found in in_service(connection)}
    if missing := [metric.name for metric in chosen if metric.metric_id not in in_force]:
        raise ConfigurationError(
            f"no ingest process of this release has started yet, so nobody counts {', '.join(missing)} as declared "
            "here: restart ingest, then materialize again"
        )


def _tell(
    context: dg.AssetExecutionContext, chosen: Sequence[Metric], progress: Progress, *, is_preview: bool
) -> None:
    description = "A preview is under way." if is_preview else "A backfill is under way."
    numbers = {"hours done": progress.done, "hours": progress.total, "percent": progress.percent}
    for metric in chosen:
        context.log_event(dg.AssetObservation(key_of(metric.name), description=description, metadata=numbers))


def _show(context: dg.AssetExecutionContext, chosen: Sequence[Metric], preview: Preview) -> None:
    for metric in chosen:
        context.log_event(
            dg.AssetObservation(
                key_of(metric.name),
                description=PREVIEWED,
                metadata=preview.metadata(*LEVELS, metric=metric),
            )
        )


def _results(
    context: dg.AssetExecutionContext, pipeline: Pipeline, chosen: Sequence[Metric]
) -> Iterator[dg.MaterializeResult[None]]:
    with not_retried(), pipeline.connection("recompute-watch") as connection:
        found = {each.name: each for each in in_service(connection)}
        for metric in chosen:
            event = event_of(connection, pipeline, found[metric.name])
            if isinstance(event, dg.AssetMaterialization):
                yield dg.MaterializeResult(asset_key=event.asset_key, metadata=event.metadata)
            else:
                context.log_event(event)
