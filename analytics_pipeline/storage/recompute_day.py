"""Recomputing a day whose 1h rows are gone, whole, from the archive that covers it.

Its 1d rows cannot be put together from hours, so all 24 are computed again and only the day is written.
Does not belong here: days that still have their hours (`storage.recompute`).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta

import pyarrow as pa

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.storage import metric_versions, rollups
from analytics_pipeline.storage.archived_events import Archives, kept
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.predecessors import predecessors
from analytics_pipeline.storage.read_ahead import ahead
from analytics_pipeline.storage.recompute import (
    RecomputeResult,
    buckets_in,
    change_of,
    every_id,
    minutes_of,
    replace_rows,
    settled_rows,
)
from analytics_pipeline.storage.series import Admission

_LEVEL = "1d"
_HOURS = 24


def recompute_day(
    conninfo: str,
    day: datetime,
    *,
    run_id: str,
    before_hour: Callable[[], None],
    archives: Archives,
    catalog: Catalog = BUILT_IN,
    metric_ids: Sequence[str] | None = None,
    write: bool = True,
    in_transaction: Callable[[Connection], None] | None = None,
) -> RecomputeResult:
    """Compute one UTC day from its archive and replace its rows at 1d, the only ones that are left.

    Nothing of it is pending: its deltas were merged before it was frozen, and the raw floor keeps new ones away.

    Args:
        conninfo: where the database is.
        day: start of a UTC day that has no 1h rows any more.
        run_id: noted in the bucket register.
        before_hour: called before each hour is read; may wait.
        archives: those of the same run.
        catalog: what can be computed.
        metric_ids: which of its metrics, the register included; None for all.
        write: False compares and changes nothing.
        in_transaction: called where rows are replaced, before COMMIT.

    Raises:
        ConfigurationError: no verified archive covers the day, or its 1d rows are gone too.
        EnvironmentFault: Postgres or the archive cannot be reached, or the archive holds something else.
        InvariantBroken: the computed rows contradict themselves.
    """
    began = time.monotonic()
    ids = every_id(catalog, metric_ids)
    hours = [day + timedelta(hours=number) for number in range(_HOURS)]
    with (
        connection(conninfo, name="recompute", autocommit=True) as main,
        Admission(conninfo, writes=write) as admission,
        ExitStack() as held,
    ):
        for hour in hours:
            held.enter_context(rollups.hour_lock(main, hour, wait=True))
        left = kept(main, day)
        if _LEVEL not in left.levels:
            raise ConfigurationError(
                f"{day:%Y-%m-%d} cannot be recomputed: none of its rollups is kept any more"
            )
        archived = archives.prove(main, day)
        gaps = {hour: metric_versions.gaps(main, hour, ids) for hour in hours}
        rows, events, late = levels.LEVEL_SCHEMA.empty_table(), 0, 0
        for hour in hours:
            before_hour()
            with ahead(archives.events(archived, hour)) as chunks:
                minutes, of_hour, late_of_hour = minutes_of(chunks, catalog, ids, admission)
            check_rows(minutes)
            rows = levels.roll_up(pa.concat_tables([rows, levels.roll_up(minutes, _LEVEL)]), _LEVEL)
            events, late = events + of_hour, late + late_of_hour
        end = day + timedelta(days=1)
        before = predecessors(main, day, catalog, ids)
        change = change_of(
            _LEVEL,
            catalog,
            settled_rows(main, _LEVEL, day, end, ids),
            levels.LEVEL_SCHEMA.empty_table(),
            rows,
            has_states=_LEVEL in left.with_states,
            before=before,
            instead=settled_rows(main, _LEVEL, day, end, list(before)),
        )
        if write:
            with main.transaction():
                rollups.lock_day(main, day)
                replace_rows(main, _LEVEL, day, end, ids, change, run_id)
                rollups.bump_days(main, [day])
                if in_transaction is not None:
                    in_transaction(main)
                for hour, found in gaps.items():
                    metric_versions.close_gaps(main, hour, found)
    return RecomputeResult(
        day,
        events,
        late,
        {_LEVEL: rows.num_rows},
        {_LEVEL: buckets_in(rows)},
        change.differences,
        is_written=write,
        seconds=time.monotonic() - began,
        unserved=frozenset(metric.metric_id for metric in before.values()),
        hours=_HOURS,
    )
