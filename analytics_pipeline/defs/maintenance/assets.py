"""Assets that keep Postgres' partitions as the settings say.

Belongs here: their thin bodies. Does not belong here: which partitions go (`retention`), and how (`storage`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from analytics_pipeline.defs.conventions import MAINTENANCE, OWNERS, RETENTION_POOL, RETRY
from analytics_pipeline.defs.events.assets import EVENTS
from analytics_pipeline.defs.maintenance.history import forget_checks, forget_runs
from analytics_pipeline.defs.mistakes import not_retried
from analytics_pipeline.defs.resources import Pipeline
from analytics_pipeline.defs.rollups.reports import table
from analytics_pipeline.storage import series
from analytics_pipeline.storage.archive import Archive
from analytics_pipeline.storage.event_indexes import index_closed_days
from analytics_pipeline.storage.expired_rows import preview_expired_rows, remove_expired_rows
from analytics_pipeline.storage.forgotten_rows import forget_rows, preview_forgotten_rows
from analytics_pipeline.storage.partitions import ensure_partitions, sizes
from analytics_pipeline.storage.removal import Outcome
from analytics_pipeline.storage.retention import preview, remove_expired, write_policies
from analytics_pipeline.storage.retired_metrics import retire


@dg.asset(
    description="Partitions of events, rollups and marts from the raw retention line to some days ahead.",
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres"},
    pool=RETENTION_POOL,
    retry_policy=RETRY,
)
def partitions_ahead(pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Create what is missing; bring the policies in the database, and the floor, to the settings."""
    retention = pipeline.settings.analytics.retention
    with not_retried(), pipeline.connection("maintenance") as connection:
        created = ensure_partitions(
            connection,
            now=pipeline.now(),
            keep=retention.raw_events,
            ahead_days=retention.partitions_ahead,
        )
        changed = write_policies(connection, retention)
        found = sizes(connection)
    return dg.MaterializeResult(
        metadata={
            "created": created,
            "policies changed": changed,
            "partitions": sum(each.partitions for each in found),
            "bytes": sum(each.bytes for each in found),
            "tables": table([each._asdict() for each in found]),
        }
    )


@dg.asset(
    description=(
        "Indexes of events by user and by session, on days that are over: built without blocking landings. The open "
        "day goes without, because there each would cost landing more than it can spare."
    ),
    deps=[EVENTS],
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres"},
    pool=RETENTION_POOL,
    retry_policy=RETRY,
)
def event_indexes(pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Build what is missing."""
    with pipeline.connection("event-indexes") as connection:
        found = index_closed_days(connection, now=pipeline.now())
    return dg.MaterializeResult(metadata={"built": found.built, "indexed before": str(found.before)})


@dg.asset(
    description=(
        "The end of metrics that no running ingest process has declared for retire_metrics_after: removed from the "
        "catalog, or with the definition of custom events they came from. Their history stays."
    ),
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres"},
    pool=RETENTION_POOL,
    retry_policy=RETRY,
)
def retired_metrics(pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Retire what is due."""
    after = pipeline.settings.analytics.aggregation.retire_metrics_after
    with not_retried(), pipeline.connection("maintenance") as connection:
        retired = retire(connection, after)
    rows: list[dict[str, str | int | float]] = [
        {"metric": one.name, "id": one.metric_id, "until": one.until.isoformat()} for one in retired
    ]
    return dg.MaterializeResult(metadata={"retired": len(retired), "metrics": table(rows)})


_FIRST = {"dagster/priority": "1"}
"""Before rows, in a run of both. No dependency: a dry run materializes nothing, so what depends would be skipped."""


class RetentionRun(dg.Config):
    """What a person may ask of a run."""

    dry_run: bool = Field(default=False, description="List what would go, and change nothing.")


@dg.asset(
    description=(
        "Removal of partitions that the policies let go: floor raised, last deltas merged, day frozen, detached "
        "without blocking, archived and verified where asked for, dropped. Resumes where a killed run stopped. "
        "Run config `dry_run: true` lists what would go."
    ),
    deps=[EVENTS],
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres", "parquet"},
    pool=RETENTION_POOL,
    retry_policy=RETRY,
    output_required=False,
    op_tags=_FIRST,
)
def expired_partitions(
    context: dg.AssetExecutionContext, config: RetentionRun, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Carry out retention, unless `cleanup_enabled` is off."""
    retention = pipeline.settings.analytics.retention
    if not retention.cleanup_enabled and not config.dry_run:
        yield dg.MaterializeResult(metadata=_OFF)
        return
    with not_retried(), pipeline.connection("retention") as connection:
        if config.dry_run:
            _show(context, _told(preview(connection, retention, now=pipeline.now())))
            return
        write_policies(connection, retention)
        archive = Archive(retention.archive_uri, pipeline.conninfo) if retention.archive_uri else None
        outcomes = remove_expired(connection, now=pipeline.now(), run_id=context.run.run_id, archive=archive)
    yield dg.MaterializeResult(metadata=_told(outcomes))


_OFF = {"skipped": "analytics.retention.cleanup_enabled is false"}


def _show(context: dg.AssetExecutionContext, metadata: Mapping[str, Any]) -> None:
    """What a dry run found: an observation, because nothing was maintained."""
    context.log_event(
        dg.AssetObservation(
            context.asset_key,
            description="What would go; nothing was changed. To carry it out, launch the same without dry_run.",
            metadata=metadata,
        )
    )


def _told(outcomes: list[Outcome]) -> dict[str, dg.MetadataValue[Any] | int]:
    return {
        "dropped": sum(outcome.action == "dropped" for outcome in outcomes),
        "skipped": sum(outcome.action == "skipped" for outcome in outcomes),
        "would be dropped": sum(outcome.action == "expires" for outcome in outcomes),
        "bytes": sum(outcome.bytes or 0 for outcome in outcomes),
        "partitions": table(
            [{"partition": each.partition, "action": each.action, "reason": each.reason} for each in outcomes]
        ),
    }


@dg.asset(
    description=(
        "Old lines of the ledger with their dead letters, and the content of letters settled long ago, removed in "
        "small transactions without breaking a balance; old lines of the feed of restatements, places of series "
        "without rows, and what is known of rollups that are gone. Run config `dry_run: true` counts what would go."
    ),
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"postgres"},
    pool=RETENTION_POOL,
    retry_policy=RETRY,
    deps=[EVENTS],
    output_required=False,
)
def expired_rows(
    context: dg.AssetExecutionContext, config: RetentionRun, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Keep tables that have no partitions from growing for ever, unless `cleanup_enabled` is off."""
    retention = pipeline.settings.analytics.retention
    if not retention.cleanup_enabled and not config.dry_run:
        yield dg.MaterializeResult(metadata=_OFF)
        return
    carry_out = preview_expired_rows if config.dry_run else remove_expired_rows
    forget = preview_forgotten_rows if config.dry_run else forget_rows
    forget_places = series.count_expired if config.dry_run else series.remove_expired
    with not_retried(), pipeline.connection("retention") as connection:
        done = carry_out(connection, retention, now=pipeline.now())
        forgotten = forget(connection, retention, now=pipeline.now())
        places = forget_places(connection)
    found: dict[str, str | int] = {
        "dry run": config.dry_run,
        "ledger lines": done.ledger_lines,
        "dead letters": done.dead_letters,
        "contents of dead letters": done.contents_erased,
        "places of series": places,
        "held": ", ".join(done.held),
        "restatements": forgotten.restatements,
        "hours of abandoned backfills": forgotten.backfill_progress,
        "gaps of days without rollups": forgotten.metric_gaps,
        "versions of days without rollups": forgotten.rollup_days,
    }
    if config.dry_run:
        _show(context, found)
    else:
        yield dg.MaterializeResult(metadata=found)


@dg.asset(
    description=(
        "Finished runs of Dagster older than dagster_runs, and what checks found before, removed; what was "
        "materialized last, and the newest finding of each check, stay known."
    ),
    group_name=MAINTENANCE,
    owners=OWNERS,
    kinds={"dagster"},
    pool=RETENTION_POOL,
)
def forgotten_runs(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Keep Dagster's tables from growing for ever."""
    before = pipeline.now() - pipeline.settings.analytics.retention.dagster_runs
    forgotten = forget_runs(context.instance, before=before)
    checks = forget_checks(context.instance, before=before)
    return dg.MaterializeResult(metadata={**forgotten._asdict(), "findings of checks": checks})
