"""Recomputing settled rollups from raw events: backfill, repair, a metric that is new.

Belongs here: the snapshot that raw events and pending deltas are read from, and the transaction that replaces rows.
Does not belong here: arithmetic (`rollups`), merging (`storage.rollups`), deciding what to recompute (`defs`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.catalog import CATALOG, REGISTER_ID, REGISTER_NAME, Kind
from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.rollups.compare import Difference, compare_rows
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, LEVELS
from analytics_pipeline.storage import buckets, rollups
from analytics_pipeline.storage.connection import Connection, connection

_HOUR_LEVELS = [level for level, seconds in LEVELS.items() if seconds <= 3600]
_CHUNK_ROWS = 200_000

_VISIBLE_BATCHES = "SELECT batch_id FROM pending_batches WHERE hour = %s"
_EVENTS = """
SELECT
    uuid_send(id) AS id, event_type, user_id, session_id, coalesce(properties, '{{}}')::text AS properties,
    timestamp, is_late
FROM events WHERE timestamp >= '{first}' AND timestamp < '{last}'
"""
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
_PENDING_DELTAS = """
SELECT hour, minute, metric_id, metric_name, dimension_set, dimensions::text, kind, count, sum, min, max, state
FROM rollup_deltas WHERE hour = %s AND metric_id = ANY(%s)
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
    """What a recompute found: events read, rows per level, and the series that differ from what was served before."""

    hour: datetime
    events: int
    late: int
    rows: dict[str, int]
    differences: list[Difference]
    is_written: bool


@dataclass(frozen=True)
class _Snapshot:
    """One moment of one hour: what is pending and what the raw events say, per minute."""

    batches: list[int]
    before: pa.Table
    after: pa.Table


def recompute_hour(
    conninfo: str,
    hour: datetime,
    *,
    run_id: str,
    metric_ids: Sequence[str] | None = None,
    write: bool = True,
) -> RecomputeResult:
    """Compute one UTC hour from raw events and replace its rows at 1m, 5m, 15m and 1h; rebuild its day's 1d rows.

    Waits for a merge of the hour to end; merges of other hours, and landings, go on meanwhile. Deltas that
    were pending in the snapshot are in the raw events and go with it; later ones stay pending.

    Args:
        conninfo: where the database is; two connections are opened.
        hour: start of a UTC hour.
        run_id: noted in the bucket register.
        metric_ids: which metrics, the register included; None for all of the catalog.
        write: False compares and changes nothing.

    Raises:
        ConfigurationError: the hour's raw events are gone or going (retention).
        InvariantBroken: the computed rows contradict themselves.
    """
    ids = (
        list(metric_ids)
        if metric_ids is not None
        else [*(metric.metric_id for metric in CATALOG), REGISTER_ID]
    )
    with (
        connection(conninfo, name="recompute", autocommit=True) as main,
        rollups.hour_lock(main, hour, wait=True),
    ):
        frozen = main.execute(_IS_FROZEN, {"hour": hour}).fetchone()
        if frozen and frozen[0]:
            raise ConfigurationError(
                f"{hour:%Y-%m-%dT%H}:00Z cannot be recomputed: its raw events are beyond the raw retention line"
            )
        snapshot = _read(main, conninfo, hour, ids)
        check_rows(snapshot.after)
        differences = compare_rows(snapshot.before, snapshot.after)
        if write:
            _replace(main, hour, ids, snapshot, run_id, changed=bool(differences))
    events, late = buckets.register_totals(snapshot.after)
    rows = {level: levels.roll_up(snapshot.after, level).num_rows for level in _HOUR_LEVELS}
    return RecomputeResult(hour, events, late, rows, differences, is_written=write)


def recompute_day(conninfo: str, day: datetime, *, run_id: str, write: bool = True) -> list[RecomputeResult]:
    """Recompute the 24 hours of a UTC day, which rebuilds its 1d rows."""
    return [
        recompute_hour(conninfo, day + timedelta(hours=offset), run_id=run_id, write=write)
        for offset in range(24)
    ]


def _read(main: Connection, conninfo: str, hour: datetime, ids: list[str]) -> _Snapshot:
    """Read pending deltas, settled rows and raw events of one snapshot; the hour's lock is held already."""
    with main.transaction():
        main.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        batches = [row[0] for row in main.execute(_VISIBLE_BATCHES, (hour,))]
        pending = rollups.fetch(main, _PENDING_DELTAS, (hour, ids), DELTAS_SCHEMA)
        settled = settled_rows(main, "1m", hour, hour + timedelta(hours=1), ids)
        exported = main.execute("SELECT pg_export_snapshot()").fetchone()
        found = [levels.LEVEL_SCHEMA.empty_table()]
        for events in _raw_events(conninfo, str(exported[0] if exported else ""), hour):
            found = [
                levels.roll_up(pa.concat_tables([*found, levels.roll_up(compute_deltas(events), "1m")]), "1m")
            ]
    computed = found[0].filter(pc.is_in(found[0].column("metric_id"), pa.array(ids)))
    before = levels.roll_up(pa.concat_tables([settled, levels.roll_up(pending, "1m")]), "1m")
    return _Snapshot(batches, before, computed)


def _raw_events(conninfo: str, snapshot: str, hour: datetime) -> Iterator[pa.Table]:
    """The events of an hour as they were in an exported snapshot, in chunks of bounded size."""
    query = _EVENTS.format(first=hour.isoformat(), last=(hour + timedelta(hours=1)).isoformat())
    with dbapi.connect(conninfo, autocommit=True) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        cursor.execute(query)
        gathered: list[pa.RecordBatch] = []
        rows = 0
        for batch in cursor.fetch_record_batch():
            gathered.append(batch)
            rows += batch.num_rows
            if rows >= _CHUNK_ROWS:
                yield _with_fixed_id(gathered)
                gathered, rows = [], 0
        if rows:
            yield _with_fixed_id(gathered)
        cursor.execute("COMMIT")


def _with_fixed_id(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches)
    return table.set_column(0, "id", table.column("id").cast(pa.binary(16)))


def _replace(
    main: Connection, hour: datetime, ids: list[str], snapshot: _Snapshot, run_id: str, *, changed: bool
) -> None:
    with main.transaction():
        rollups.lock_day(main, hour)
        for level in _HOUR_LEVELS:
            rows = levels.roll_up(snapshot.after, level)
            _replace_rows(main, level, hour, hour + timedelta(hours=1), ids, rows, run_id, changed)
        day = hour.astimezone(UTC).replace(hour=0)
        day_end = day + timedelta(days=1)
        rows = levels.roll_up(settled_rows(main, "1h", day, day_end, ids), "1d")
        _replace_rows(main, "1d", day, day_end, ids, rows, run_id, changed)
        main.execute(_DELETE_DELTAS, (hour, snapshot.batches, ids))
        main.execute(_DELETE_BATCHES, {"hour": hour, "batches": snapshot.batches})
        rollups.bump_days(main, [hour])


def _replace_rows(
    main: Connection,
    level: str,
    first: datetime,
    last: datetime,
    ids: list[str],
    rows: pa.Table,
    run_id: str,
    changed: bool,
) -> None:
    span = {"level": level, "first": first, "last": last, "metric_ids": ids}
    main.execute(_DELETE_ROWS, span)
    main.execute(_DELETE_STATES, span)
    rollups.write_rows(main, level, rows.to_pylist())
    if REGISTER_ID in ids:
        main.execute(_CLEAR_BUCKETS, span)
        buckets.replace_buckets(main, level, rows, run_id=run_id, changed=changed)


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
