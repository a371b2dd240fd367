"""Comparing some minutes of an hour that is too large to be recomputed every ten minutes.

Belongs here: the minutes against raw events, and the other levels against the minutes. Writes nothing.
Does not belong here: whole hours (`storage.recompute`), which minutes (`defs.checks`).
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.rollups.schema import HOUR_LEVELS
from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.raw_events import raw_events
from analytics_pipeline.storage.recompute import (
    RecomputeResult,
    buckets_in,
    is_frozen,
    minutes_of,
    settled_rows,
    snapshot_of,
)
from analytics_pipeline.storage.series import Admission

_MINUTES, *_COARSER = HOUR_LEVELS


def compare_minutes(
    conninfo: str, first: datetime, last: datetime, *, catalog: Catalog, metric_ids: Sequence[str]
) -> RecomputeResult:
    """Compare the minutes `[first, last)` of one UTC hour with raw events, and 5m, 15m and 1h of the hour with its 1m.

    Counts, sums, minima, maxima, states and the register, settled and pending together, of one moment; a merge of
    the hour waits so long.

    Raises:
        ConfigurationError: the hour's raw events are gone or going (retention).
        EnvironmentFault: Postgres cannot be reached or stopped answering.
        InvariantBroken: the computed rows contradict themselves.
    """
    began = time.monotonic()
    hour = first.replace(minute=0, second=0, microsecond=0)
    with (
        connection(conninfo, name="recompute", autocommit=True) as main,
        rollups.hour_lock(main, hour, wait=True),
        Admission(conninfo, writes=False) as admission,
        snapshot_of(main) as snapshot,
    ):
        if is_frozen(main, hour):
            raise ConfigurationError(
                f"raw events of {hour:%Y-%m-%dT%H:00Z} are going (retention): compare a later hour"
            )
        pending = rollups.pending_minutes(main, hour, metric_ids)
        settled = {
            level: settled_rows(main, level, hour, hour + timedelta(hours=1), metric_ids)
            for level in HOUR_LEVELS
        }
        with raw_events(conninfo, snapshot, first, last) as chunks:
            computed, events, late = minutes_of(chunks, catalog, metric_ids, admission)
    check_rows(computed)
    served = {
        level: levels.roll_up(pa.concat_tables([rows, levels.roll_up(pending, level)]), level)
        for level, rows in settled.items()
    }
    minutes = served[_MINUTES]
    differences = compare_rows(_between(minutes, first, last), computed, _MINUTES, catalog)
    for level in _COARSER:
        differences += compare_rows(served[level], levels.roll_up(minutes, level), level, catalog)
    return RecomputeResult(
        hour,
        events,
        late,
        {_MINUTES: computed.num_rows, **{level: served[level].num_rows for level in _COARSER}},
        {_MINUTES: buckets_in(computed), **{level: buckets_in(served[level]) for level in _COARSER}},
        differences,
        is_written=False,
        seconds=time.monotonic() - began,
    )


def _between(rows: pa.Table, first: datetime, last: datetime) -> pa.Table:
    at = rows.column("time_bucket")
    return rows.filter(
        pc.and_(pc.greater_equal(at, pa.scalar(first, at.type)), pc.less(at, pa.scalar(last, at.type)))
    )
