"""`merge_live`: the run that settles what landings left pending, about once a minute.

Belongs here: its op and job. One run cannot select assets with different partitions, so it is a job of its own
that reports a materialization of every partition it changed, on all five assets.
"""

from datetime import datetime, timedelta

import dagster as dg

from analytics_pipeline.defs.conventions import LIVE_POOL, LIVE_TAGS, OWNERS
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.partitions import DAILY, HOURLY, day_key, hour_key
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.merging import Touched, merge_pending, touched_partitions
from analytics_pipeline.defs.rollups.reports import describe_landed, describe_merge
from analytics_pipeline.defs.rollups.specs import KEYS, level_tags
from analytics_pipeline.defs.rollups.traced_merges import traced
from analytics_pipeline.storage.books import buckets_of_run, freshness
from analytics_pipeline.storage.buckets import finalize_buckets
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.source_statistics import fold
from analytics_pipeline.storage.table_sizes import rollup_rows

BUDGET = timedelta(seconds=40)


@dg.op(pool=LIVE_POOL, tags={"kind": "postgres"})
def merge_pending_deltas(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    """Merge every pending hour, newest first, close what is over, and report the partitions that changed.

    Fails at the end, when all else is done, if an hour could not be merged.
    """
    aggregation = pipeline.settings.analytics.aggregation
    failures: dict[datetime, Exception] = {}
    with pipeline.connection("merge") as connection:
        merging = merge_pending(
            connection,
            run_id=context.run_id,
            max_batches=aggregation.merge_batches,
            budget=BUDGET,
            failures=failures,
        )
        merges = list(traced(merging, pipeline.settings, run_id=context.run_id))
        buckets = buckets_of_run(connection, context.run_id, {merge.hour for merge, _ in merges})
        closed = finalize_buckets(
            connection, now=pipeline.now(), graces=aggregation.graces, run_id=context.run_id
        )
        keep = pipeline.settings.analytics.retention.source_statistics
        folded = fold(connection, now=pipeline.now(), keep=keep)
        for touched in touched_partitions(merges, buckets):
            if (event := _materialization(connection, touched)) is not None:
                context.log_event(event)
        behind = freshness(connection, now=pipeline.now())
    if merges:
        landed = describe_landed([merge for merge, _ in merges], behind)
        context.log_event(dg.AssetObservation(EVENTS, metadata=landed))
    context.log.info(f"{len(merges)} merges, {len(buckets)} buckets written, {closed} closed")
    context.log.info(f"source statistics: {folded.taken} rows folded into {folded.written}")
    for hour, error in failures.items():
        context.log.error(f"{hour:%Y-%m-%dT%H:00Z} could not be merged: {error}")
    if failures:
        raise next(iter(failures.values()))


def _materialization(connection: Connection, touched: Touched) -> dg.AssetMaterialization | None:
    """None for an hour or day that has no partition (yet): before the fixed start, or in the future."""
    definition, key = (
        (DAILY, day_key(touched.start)) if touched.level == "1d" else (HOURLY, hour_key(touched.start))
    )
    if not definition.has_partition_key(key):
        return None
    return dg.AssetMaterialization(
        KEYS[touched.level],
        partition=key,
        metadata=describe_merge(touched, rollup_rows(connection, touched.level, touched.start)),
        tags=level_tags(touched.level),
    )


@dg.job(
    tags=LIVE_TAGS,
    owners=OWNERS,
    description=(
        "Settles pending deltas at all five levels and closes buckets that are over, about once a minute. Has "
        "priority over every other run."
    ),
)
def merge_live() -> None:
    """One op: the order of hours is its business, not the graph's."""
    merge_pending_deltas()
