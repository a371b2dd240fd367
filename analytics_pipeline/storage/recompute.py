"""Recomputing settled rollups from raw events: backfill, repair, a metric that is new.

Belongs here: the snapshot that raw events and pending deltas are read from, and the transaction that replaces rows.
Does not belong here: arithmetic (`rollups`), merging (`storage.rollups`), deciding what to recompute (`defs`), days
that have no hours any more (`storage.recompute_day`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID, REGISTER_NAME, Catalog, Kind
from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.rollups.compare import Difference, compare_rows
from analytics_pipeline.rollups.minutes import minute_rows
from analytics_pipeline.rollups.schema import HOUR_LEVELS
from analytics_pipeline.storage import buckets, metric_versions, predecessors, rollups
from analytics_pipeline.storage.archived_events import Archives, RawEventsGone, kept
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.metric_versions import Gap
from analytics_pipeline.storage.predecessors import Predecessors
from analytics_pipeline.storage.raw_events import raw_events
from analytics_pipeline.storage.read_ahead import ahead
from analytics_pipeline.storage.restatements import Reason, restating
from analytics_pipeline.storage.series import Admission

_VISIBLE_BATCHES = "SELECT batch_id FROM pending_batches WHERE hour = %s"
_IS_FROZEN = """
SELECT (SELECT raw_floor FROM retention_state) > %(hour)s
    OR EXISTS (SELECT 1 FROM frozen_days WHERE day = (%(hour)s AT TIME ZONE 'UTC')::date)
"""
_DELETE_ROWS = """
DELETE FROM metric_aggregations
WHERE interval = %(level)s AND time_bucket >= %(first)s AND time_bucket < %(last)s AND metric_id = ANY(%(metric_ids)s)
"""
_DELETE_STATES = """
DELETE FROM metric_states
WHERE interval = %(level)s AND time_bucket >= %(first)s AND time_bucket < %(last)s AND metric_id = ANY(%(metric_ids)s)
"""
_CLEAR_BUCKETS = """
UPDATE metric_buckets SET event_count = 0, late_count = 0, set_hash = 0
WHERE interval = %(level)s AND time_bucket >= %(first)s AND time_bucket < %(last)s
"""
_DELETE_DELTAS = "DELETE FROM rollup_deltas WHERE hour = %s AND batch_id = ANY(%s) AND metric_id = ANY(%s)"
_DELETE_BATCHES = """
DELETE FROM pending_batches AS pending WHERE hour = %(hour)s AND batch_id = ANY(%(batches)s)
    AND NOT EXISTS (
        SELECT 1 FROM rollup_deltas AS deltas
        WHERE deltas.hour = pending.hour AND deltas.batch_id = pending.batch_id
    )
"""
_SETTLED = """
SELECT
    settled.time_bucket, settled.metric_id, settled.metric_name, settled.dimension_set, settled.dimensions::text,
    coalesce(states.kind, 'value'), settled.count, settled.sum_exact, settled.min, settled.max, states.state
FROM metric_aggregations AS settled
LEFT JOIN metric_states AS states
    ON states.interval = settled.interval AND states.metric_id = settled.metric_id
    AND states.dimension_set = settled.dimension_set AND states.time_bucket = settled.time_bucket
    AND states.dimensions = settled.dimensions
WHERE settled.interval = %(level)s AND settled.time_bucket >= %(first)s AND settled.time_bucket < %(last)s
    AND settled.metric_id = ANY(%(metric_ids)s)
"""
_SETTLED_BUCKETS = """
SELECT time_bucket, event_count, late_count, set_hash FROM metric_buckets
WHERE interval = %(level)s AND time_bucket >= %(first)s AND time_bucket < %(last)s
"""


@dataclass(frozen=True)
class RecomputeResult:
    """What a recompute found.

    Attributes:
        hour: its start; where a day was recomputed whole, that of its first.
        events: read from raw.
        late: how many of them.
        rows: computed, per level.
        buckets: how many of each level hold something.
        differences: buckets of series that are not what was served, settled plus pending, of an edited metric by the
            definition before it: at the four levels up to 1h, or at 1d where a day was recomputed whole. With the last
            hour of a day that a backfill does, also at 1d (`storage.days`).
        is_written: False after a preview.
        unserved: the metric_id of each metric for which another definition answers still; `differences` compare with
            that one.
        hours: how many hours were read; none where a day was compared with its hours.
        seconds: how long it took, waiting for a merge of the hour included.
        is_empty: nothing was there at all, so nothing was computed (`storage.empty_hours`).
    """

    hour: datetime
    events: int
    late: int
    rows: dict[str, int]
    buckets: dict[str, int]
    differences: list[Difference]
    is_written: bool
    seconds: float
    unserved: frozenset[str] = frozenset()
    hours: int = 1
    is_empty: bool = False


@dataclass(frozen=True)
class _Snapshot:
    """One moment of one hour: what is settled and pending, and what the raw events say, per minute."""

    batches: list[int]
    gaps: list[Gap]
    settled: dict[str, pa.Table]
    pending: pa.Table
    after: pa.Table
    events: int
    late: int
    before: Predecessors
    instead: dict[str, pa.Table]


@dataclass(frozen=True)
class Change:
    """The new rows of one level, how they differ from what was served, and why each bucket changes that does.

    `has_states` is False where retention has let the level's states go: none are compared, and none written. `served`
    and `compared` are what the differences are of.
    """

    rows: pa.Table
    served: pa.Table
    compared: pa.Table
    differences: list[Difference]
    reasons: Mapping[datetime, Reason]
    has_states: bool = True


def recompute_hour(
    conninfo: str,
    hour: datetime,
    *,
    run_id: str,
    catalog: Catalog = BUILT_IN,
    metric_ids: Sequence[str] | None = None,
    write: bool = True,
    in_transaction: Callable[[Connection], None] | None = None,
    archives: Archives | None = None,
    compared: Callable[[pa.Table, pa.Table], None] | None = None,
) -> RecomputeResult:
    """Compute one UTC hour from raw events and replace its rows at 1m, 5m, 15m and 1h; rebuild its day's 1d rows.

    Waits for a merge of the hour to end; merges of other hours, and landings, go on meanwhile. Deltas that
    were pending in the snapshot are in the raw events and go with it; later ones stay pending. Where raw events are
    gone or going, they are read from their verified archive, and levels that retention has let go are left out.

    Args:
        conninfo: where the database is; two connections are opened.
        hour: start of a UTC hour.
        run_id: noted in the bucket register.
        catalog: what can be computed.
        metric_ids: which of its metrics, the register included; None for all.
        write: False compares and changes nothing.
        in_transaction: called where rows are replaced, before COMMIT: what it writes is there if the hour is done.
        archives: those of the same run, so that each archived day is proved once.
        compared: told at the end the hour's rows at 1h: as they were served, and as raw events give them.

    Raises:
        RawEventsGone: the hour's raw events are gone (retention) and no verified archive holds them, or its rows
            at 1h are gone, so that only its whole day can be recomputed (`storage.recompute_day`).
        EnvironmentFault: Postgres or the archive cannot be reached, stopped answering, or holds something else.
        InvariantBroken: the computed rows contradict themselves.
    """
    began = time.monotonic()
    ids = every_id(catalog, metric_ids)
    with (
        connection(conninfo, name="recompute", autocommit=True) as main,
        Admission(conninfo, writes=write) as admission,
        rollups.hour_lock(main, hour, wait=True),
    ):
        archived: Iterable[pa.Table] | None = None
        writable = with_states = HOUR_LEVELS
        if is_frozen(main, hour):
            archives = archives or Archives()
            archived = archives.events(archives.prove(main, hour), hour)
            left = kept(main, hour)
            if not left.has_hours:
                raise RawEventsGone(
                    f"{hour:%Y-%m-%dT%H}:00Z cannot be recomputed: its day has no rows at 1h any more (retention), so "
                    "only the whole day can be"
                )
            writable = [level for level in HOUR_LEVELS if level in left.levels]
            with_states = left.with_states
        fail_at(RunPoint.HOUR_LOCKED)
        snapshot = _read(main, conninfo, hour, catalog, ids, admission, archived)
        fail_at(RunPoint.SNAPSHOT_READ)
        check_rows(snapshot.after)
        changes = {
            level: change_of(
                level,
                catalog,
                snapshot.settled[level],
                snapshot.pending,
                levels.roll_up(snapshot.after, level),
                has_states=level in with_states,
                before=snapshot.before,
                instead=snapshot.instead.get(level),
            )
            for level in writable
        }
        if write:
            _replace(main, hour, catalog, ids, snapshot, changes, run_id, in_transaction)
    if compared is not None:
        compared(changes["1h"].served, changes["1h"].compared)
    return RecomputeResult(
        hour,
        snapshot.events,
        snapshot.late,
        {level: change.rows.num_rows for level, change in changes.items()},
        {level: buckets_in(change.rows) for level, change in changes.items()},
        [difference for change in changes.values() for difference in change.differences],
        is_written=write,
        seconds=time.monotonic() - began,
        unserved=frozenset(metric.metric_id for metric in snapshot.before.values()),
    )


def buckets_in(rows: pa.Table) -> int:
    """How many buckets these rows of one level are of."""
    return int(pc.count_distinct(rows.column("time_bucket")).as_py())


def every_id(catalog: Catalog, metric_ids: Sequence[str] | None) -> list[str]:
    """These ids, or those of the whole catalog and of the register."""
    return list(metric_ids) if metric_ids is not None else [*catalog.by_id, REGISTER_ID]


def is_frozen(connection: Connection, hour: datetime) -> bool:
    """Whether the hour's raw events are gone or going, so that live raw may be short of some."""
    row = connection.execute(_IS_FROZEN, {"hour": hour}).fetchone()
    return bool(row and row[0])


def _read(
    main: Connection,
    conninfo: str,
    hour: datetime,
    catalog: Catalog,
    ids: list[str],
    admission: Admission,
    archived: Iterable[pa.Table] | None,
) -> _Snapshot:
    """Read pending deltas, settled rows and raw events of one snapshot; the hour's lock is held already."""
    with snapshot_of(main) as exported:
        batches = [row[0] for row in main.execute(_VISIBLE_BATCHES, (hour,))]
        gaps = metric_versions.gaps(main, hour, ids)
        pending = rollups.pending_minutes(main, hour, ids)
        settled = {
            level: settled_rows(main, level, hour, hour + timedelta(hours=1), ids) for level in HOUR_LEVELS
        }
        before = predecessors.predecessors(main, hour, catalog, ids)
        instead = _served_instead(main, hour, before) if before else {}
        fail_at(RunPoint.SNAPSHOT_TAKEN)
        reading = (
            raw_events(conninfo, exported, hour, hour + timedelta(hours=1))
            if archived is None
            else ahead(archived)
        )
        with reading as chunks:
            computed, events, late = minutes_of(chunks, catalog, ids, admission)
    return _Snapshot(batches, gaps, settled, pending, computed, events, late, before, instead)


def _served_instead(main: Connection, hour: datetime, before: Predecessors) -> dict[str, pa.Table]:
    """What is served of predecessors, settled and pending, at each level."""
    pending = rollups.pending_minutes(main, hour, list(before))
    return {
        level: pa.concat_tables(
            [
                settled_rows(main, level, hour, hour + timedelta(hours=1), list(before)),
                levels.roll_up(pending, level),
            ]
        )
        for level in HOUR_LEVELS
    }


def minutes_of(
    chunks: Iterable[pa.Table], catalog: Catalog, ids: Sequence[str], admission: Admission
) -> tuple[pa.Table, int, int]:
    """Rows of 1m of these metrics; with them, how many events there are, and how many late."""
    wanted = _of(catalog, tuple(ids))
    found = minute_rows(chunks, wanted, lambda deltas: admission.within_budget(deltas, wanted.by_id))
    events, late = buckets.register_totals(found)
    return found.filter(pc.is_in(found.column("metric_id"), pa.array(ids))), events, late


@lru_cache(maxsize=4)
def _of(catalog: Catalog, ids: tuple[str, ...]) -> Catalog:
    """The same catalog, or one of these metrics alone: the others need not be computed."""
    wanted = tuple(metric for metric in catalog.metrics if metric.metric_id in ids)
    return catalog if len(wanted) == len(catalog.metrics) else Catalog(wanted)


@contextmanager
def snapshot_of(main: Connection) -> Iterator[str]:
    """A transaction that only reads, of one moment; gives the name by which `raw_events` reads the same moment."""
    with main.transaction():
        main.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        exported = main.execute("SELECT pg_export_snapshot()").fetchone()
        assert exported is not None
        yield str(exported[0])


def change_of(
    level: str,
    catalog: Catalog,
    settled: pa.Table,
    pending: pa.Table,
    rows: pa.Table,
    *,
    has_states: bool = True,
    before: Predecessors | None = None,
    instead: pa.Table | None = None,
) -> Change:
    """Compare new rows with what is settled, to know what changes, and with what is served, to know why.

    Readers get the rows `instead` of those metrics that have another definition `before` them.
    """
    compared = rows if has_states else _without_states(rows)
    served, changes = settled, compare_rows(settled, compared, level, catalog)
    differences = changes
    if pending.num_rows:
        served = levels.roll_up(pa.concat_tables([settled, levels.roll_up(pending, level)]), level)
        differences = compare_rows(served, compared, level, catalog)
    wrong = {difference.time_bucket for difference in differences}
    changing = sorted({difference.time_bucket for difference in changes})
    reasons = {at: Reason.BACKFILL if at in wrong else Reason.LATE for at in changing}
    if before and instead is not None:
        served = predecessors.served(served, instead, before, level)
        differences = compare_rows(served, compared, level, catalog)
    return Change(rows, served, compared, differences, reasons, has_states)


def _without_states(rows: pa.Table) -> pa.Table:
    is_register = pc.equal(rows.column("kind"), Kind.REGISTER.value)
    state = pc.if_else(is_register, rows.column("state"), pa.scalar(None, pa.binary()))
    return rows.set_column(rows.schema.get_field_index("state"), "state", state)


def _replace(
    main: Connection,
    hour: datetime,
    catalog: Catalog,
    ids: list[str],
    snapshot: _Snapshot,
    changes: Mapping[str, Change],
    run_id: str,
    in_transaction: Callable[[Connection], None] | None,
) -> None:
    with main.transaction():
        rollups.lock_day(main, hour)
        for level, change in changes.items():
            replace_rows(main, level, hour, hour + timedelta(hours=1), ids, change, run_id)
        day = hour.astimezone(UTC).replace(hour=0)
        day_end = day + timedelta(days=1)
        rows = levels.roll_up(settled_rows(main, "1h", day, day_end, ids), "1d")
        change = change_of("1d", catalog, settled_rows(main, "1d", day, day_end, ids), snapshot.pending, rows)
        replace_rows(main, "1d", day, day_end, ids, change, run_id)
        main.execute(_DELETE_DELTAS, (hour, snapshot.batches, ids))
        main.execute(_DELETE_BATCHES, {"hour": hour, "batches": snapshot.batches})
        rollups.bump_days(main, [hour])
        if in_transaction is not None:
            in_transaction(main)
        # Last, because a landing may wait for the row.
        metric_versions.close_gaps(main, hour, snapshot.gaps)
        fail_at(RunPoint.ROWS_REPLACED)


def replace_rows(
    main: Connection,
    level: str,
    first: datetime,
    last: datetime,
    ids: list[str],
    change: Change,
    run_id: str,
) -> None:
    """Put the new rows of a range of buckets of one level in the place of the old, inside the caller's transaction."""
    span = {"level": level, "first": first, "last": last, "metric_ids": ids}
    with restating(main, level, change.reasons, run_id=run_id):
        main.execute(_DELETE_ROWS, span)
        main.execute(_DELETE_STATES, span)
        rollups.write_rows(main, level, change.rows, has_states=change.has_states)
        buckets.raise_revisions(main, level, change.reasons, run_id=run_id)
        if REGISTER_ID in ids:
            main.execute(_CLEAR_BUCKETS, span)
            buckets.replace_buckets(main, level, change.rows, run_id=run_id)


def settled_rows(
    connection: Connection, level: str, first: datetime, last: datetime, ids: Sequence[str]
) -> pa.Table:
    """Settled rows of a range of buckets as `LEVEL_SCHEMA`, states and register included."""
    span = {"level": level, "first": first, "last": last, "metric_ids": list(ids)}
    rows = rollups.fetch(connection, _SETTLED, span, levels.LEVEL_SCHEMA)
    if REGISTER_ID not in ids:
        return rows
    register = [
        {
            "time_bucket": at,
            "metric_id": REGISTER_ID,
            "metric_name": REGISTER_NAME,
            "dimension_set": "",
            "dimensions": "{}",
            "kind": Kind.REGISTER.value,
            "count": events,
            "sum": late,
            "state": states.register_pack(int(set_hash)),
        }
        for at, events, late, set_hash in connection.execute(_SETTLED_BUCKETS, span)
    ]
    return pa.concat_tables([rows, pa.Table.from_pylist(register, levels.LEVEL_SCHEMA)])
