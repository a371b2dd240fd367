"""Dagster's own history: runs go after a while, what they materialized stays known.

A live merge a minute leaves about 40 kB: 60 MB a day, if nobody cleared it away; and each run leaves files of what it
printed.
Belongs here: forgetting runs, and what checks found. Ticks are Dagster's own business (`retention` in dagster.yaml).
"""

from datetime import UTC, datetime
from typing import NamedTuple

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from analytics_pipeline.defs.conventions import FINISHED

_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION


class Forgotten(NamedTuple):
    """Runs deleted, and partitions whose last materialization was told again, so that it outlives its run."""

    runs: int
    partitions_kept: int


def forget_runs(instance: dg.DagsterInstance, *, before: datetime, limit: int = 5000) -> Forgotten:
    """Delete finished runs created before a time, the oldest first.

    Deleting a run deletes its events, and what it printed; without the second telling, a partition that was last
    materialized by it would be shown as missing.
    """
    filters = dg.RunsFilter(statuses=FINISHED, created_before=before)
    runs = [record.dagster_run.run_id for record in instance.get_run_records(filters, limit, ascending=True)]
    kept = 0
    latest: dict[dg.AssetKey, set[int]] = {}
    for run_id in runs:
        for record in instance.get_records_for_run(run_id, of_type=_MATERIALIZED).records:
            event = record.asset_materialization
            if event is None or event.partition is None:
                continue
            if event.asset_key not in latest:
                found = instance.event_log_storage.get_latest_storage_id_by_partition(
                    event.asset_key, _MATERIALIZED
                )
                latest[event.asset_key] = set(found.values())
            if record.storage_id in latest[event.asset_key]:
                instance.report_runless_asset_event(event)
                kept += 1
        instance.delete_run(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    return Forgotten(len(runs), kept)


def forget_checks(instance: dg.DagsterInstance, *, before: datetime) -> int:
    """Delete what checks found before a time, but for the newest of each check; deleting a run leaves it behind."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):  # in the memory of a test
        return 0
    found = AssetCheckExecutionsTable.c
    newest = sa.select(sa.func.max(found.id)).group_by(found.asset_key, found.check_name, found.partition)
    old = found.create_timestamp < before.astimezone(UTC).replace(tzinfo=None)
    with storage.index_connection() as connection:
        done = connection.execute(AssetCheckExecutionsTable.delete().where(old, found.id.not_in(newest)))
    return int(done.rowcount)
