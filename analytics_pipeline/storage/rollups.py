"""Settled rollups in Postgres: merging pending deltas, writing rows.

Belongs here: the statements on `rollup_deltas`, `metric_aggregations` and `metric_states`, and the
locks that keep *settled(level) + pending = truth* at every level and moment.
Does not belong here: arithmetic of states (`rollups`), the register of buckets (`storage.buckets`), reading raw
events (`storage.recompute`), landing.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pyarrow as pa

from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.catalog import Kind
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, canonical_dimensions
from analytics_pipeline.storage import buckets
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.restatements import Reason, restating

_PENDING = """
SELECT pending.hour, count(*), min(pending.batch_id) FROM pending_batches AS pending
GROUP BY pending.hour ORDER BY pending.hour DESC
"""
_BATCHES = "SELECT batch_id FROM pending_batches WHERE hour = %s ORDER BY batch_id LIMIT %s"
_TAKE_DELTAS = """
DELETE FROM rollup_deltas WHERE hour = %s AND batch_id = ANY(%s)
RETURNING hour, minute, metric_id, metric_name, dimension_set, dimensions::text, kind, count, sum, min, max, state
"""
_TAKE_BATCHES = "DELETE FROM pending_batches WHERE hour = %s AND batch_id = ANY(%s)"
_CREATE_STAGE = """
CREATE TEMP TABLE IF NOT EXISTS rollup_stage (
    time_bucket timestamptz, metric_id text, metric_name text, dimension_set text, dimensions jsonb, kind text,
    count bigint, sum numeric, min double precision, max double precision, state bytea,
    p50 double precision, p95 double precision, p99 double precision, distinct_count bigint,
    first double precision, last double precision
) ON COMMIT DELETE ROWS
"""
_COPY_STAGE = "COPY rollup_stage FROM STDIN"
_STATES = """
SELECT time_bucket, metric_id, dimension_set, dimensions::text, state FROM metric_states
WHERE interval = %s AND time_bucket = ANY(%s) AND metric_id = ANY(%s)
"""
_UPSERT_ROWS = """
INSERT INTO metric_aggregations AS settled (
    metric_name, interval, time_bucket, count, sum, avg, min, max, p50, p95, p99, dimensions,
    metric_id, dimension_set, sum_exact, distinct_count, first, last
)
SELECT
    metric_name, %s, time_bucket, count, sum, sum / nullif(count, 0), min, max, p50, p95, p99, dimensions,
    metric_id, dimension_set, sum, distinct_count, first, last
FROM rollup_stage WHERE kind <> 'register'
ON CONFLICT (metric_name, dimension_set, time_bucket, dimensions, metric_id, interval) DO UPDATE SET
    count = settled.count + excluded.count,
    sum_exact = settled.sum_exact + excluded.sum_exact,
    sum = settled.sum_exact + excluded.sum_exact,
    avg = (settled.sum_exact + excluded.sum_exact) / nullif(settled.count + excluded.count, 0),
    min = least(settled.min, excluded.min),
    max = greatest(settled.max, excluded.max),
    p50 = excluded.p50, p95 = excluded.p95, p99 = excluded.p99,
    distinct_count = excluded.distinct_count,
    first = excluded.first, last = excluded.last
"""
_UPSERT_STATES = """
INSERT INTO metric_states (metric_id, interval, time_bucket, dimension_set, dimensions, kind, state)
SELECT metric_id, %s, time_bucket, dimension_set, dimensions, kind, state
FROM rollup_stage WHERE state IS NOT NULL AND kind <> 'register'
ON CONFLICT (metric_id, dimension_set, time_bucket, dimensions, interval) DO UPDATE SET state = excluded.state
"""
_BUMP_DAY = """
INSERT INTO rollup_days AS days (day, revision) VALUES (%(day)s, 1)
ON CONFLICT (day) DO UPDATE SET revision = days.revision + 1, changed_at = clock_timestamp()
"""
_NOTIFY = "SELECT pg_notify('merged', %s)"


class PendingHour(NamedTuple):
    """An hour with deltas that are not settled yet."""

    hour: datetime
    batches: int
    oldest_batch_id: int


@dataclass(frozen=True)
class MergeResult:
    """What one merge did: rows written and buckets touched per level, events and late events added."""

    hour: datetime
    batches: int
    deltas: int
    events: int
    late: int
    rows: dict[str, int]
    has_more: bool


def hour_key(hour: datetime) -> int:
    """Second key of `Lock.HOUR`."""
    return int(hour.timestamp()) // 3600


def day_key(at: datetime) -> int:
    """Second key of `Lock.DAY`."""
    return int(at.timestamp()) // 86400


def pending_hours(connection: Connection) -> list[PendingHour]:
    """Hours with pending deltas, newest first."""
    return [PendingHour(*row) for row in connection.execute(_PENDING)]


@contextmanager
def hour_lock(connection: Connection, hour: datetime, *, wait: bool) -> Iterator[bool]:
    """Hold the session lock of an hour; yields False when it is taken and `wait` is not asked for.

    A session lock, because it has to be held before a snapshot is taken and until after the commit.
    """
    key = (Lock.HOUR, hour_key(hour))
    if wait:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", key)
        is_held = True
    else:
        found = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone()
        is_held = bool(found and found[0])
    try:
        yield is_held
    finally:
        if is_held and not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", key)


def lock_day(connection: Connection, at: datetime) -> None:
    """Hold the day until COMMIT.

    A statement of its own: the next one takes its snapshot after the lock is held, and so sees the 1d rows
    that another hour of the same day has just written.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (Lock.DAY, day_key(at)))


def merge_hour(
    connection: Connection, hour: datetime, *, run_id: str, max_batches: int = 500
) -> MergeResult | None:
    """Add the pending deltas of one hour to all five levels and remove them, in one transaction.

    Args:
        connection: an autocommit connection.
        hour: start of a UTC hour.
        run_id: noted in the bucket register.
        max_batches: at most this many batches in the transaction; `has_more` says whether to call again.

    Returns:
        None when another merge or a recompute holds the hour.
    """
    with hour_lock(connection, hour, wait=False) as is_held:
        if not is_held:
            return None
        with connection.transaction():
            lock_day(connection, hour)
            batches = [row[0] for row in connection.execute(_BATCHES, (hour, max_batches))]
            deltas = fetch(connection, _TAKE_DELTAS, (hour, batches), DELTAS_SCHEMA)
            connection.execute(_TAKE_BATCHES, (hour, batches))
            fail_at(RunPoint.DELTAS_TAKEN)
            written = {}
            for level, rows in levels.roll_up_all(deltas).items():
                written[level] = rows.num_rows
                late = dict.fromkeys(rows.column("time_bucket").to_pylist(), Reason.LATE)
                with restating(connection, level, late, run_id=run_id):
                    add_rows(connection, level, rows)
                    buckets.add_buckets(connection, level, rows, run_id=run_id)
            if batches:
                bump_days(connection, [hour])
            fail_at(RunPoint.LEVELS_WRITTEN)
            events, late_events = buckets.register_totals(deltas)
            return MergeResult(
                hour, len(batches), deltas.num_rows, events, late_events, written, len(batches) == max_batches
            )


def add_rows(connection: Connection, level: str, rows: pa.Table) -> None:
    """Add rows of one level (`LEVEL_SCHEMA`) to what is settled; the caller holds hour and day."""
    found = rows.to_pylist()
    settled = _settled_states(connection, level, found)
    for row in found:
        before = settled.get(_key(row)) if row["kind"] != Kind.REGISTER else None
        if row["state"] is not None and before is not None:
            row["state"] = states.MERGE[row["kind"]]([before, row["state"]])
    write_rows(connection, level, found)


def write_rows(
    connection: Connection, level: str, rows: Iterable[dict[str, Any]], *, has_states: bool = True
) -> None:
    """Write rows whose states are complete; counts and sums are added where a row exists already.

    Without `has_states`, what a state tells is written and the state itself is not: retention has let them go.
    """
    connection.execute(_CREATE_STAGE)
    with connection.cursor() as cursor:
        with cursor.copy(_COPY_STAGE) as copy:
            for row in rows:
                copy.write_row((*row.values(), *levels.derived(row["kind"], row["state"])))
        cursor.execute(_UPSERT_ROWS, (level,))
        if has_states:
            cursor.execute(_UPSERT_STATES, (level,))
        cursor.execute("DELETE FROM rollup_stage")


def bump_days(connection: Connection, times: Sequence[datetime]) -> None:
    """Raise the revision of the UTC days of `times` and tell the caches at COMMIT."""
    days = sorted({at.astimezone(UTC).date() for at in times})
    for day in days:
        connection.execute(_BUMP_DAY, {"day": day})
    connection.execute(_NOTIFY, (",".join(day.isoformat() for day in days),))


def fetch(
    connection: Connection, query: str, parameters: Sequence[object] | dict[str, Any], schema: pa.Schema
) -> pa.Table:
    """Run a query whose columns are those of `schema`, in order; JSON text takes its canonical form."""
    rows = connection.execute(query, parameters).fetchall()
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    table = pa.table(
        [_array(column, field.type) for field, column in zip(schema, columns, strict=True)],
        names=schema.names,
    )
    dimensions = canonical_dimensions(table.column("dimensions"))
    return table.set_column(schema.get_field_index("dimensions"), "dimensions", dimensions).cast(schema)


def _array(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else round(Decimal(value), 9) for value in values], kind)
    return pa.array(values, kind)


def _settled_states(
    connection: Connection, level: str, rows: list[dict[str, Any]]
) -> dict[tuple[datetime, str, str, str], bytes]:
    with_state = [row for row in rows if row["state"] is not None and row["kind"] != Kind.REGISTER]
    starts = list({row["time_bucket"] for row in with_state})
    metric_ids = list({row["metric_id"] for row in with_state})
    settled = fetch(connection, _STATES, (level, starts, metric_ids), _STATES_SCHEMA)
    return {_key(row): row["state"] for row in settled.to_pylist()}


def _key(row: dict[str, Any]) -> tuple[datetime, str, str, str]:
    return row["time_bucket"], row["metric_id"], row["dimension_set"], row["dimensions"]


_STATES_SCHEMA = pa.schema(
    [
        levels.LEVEL_SCHEMA.field(name)
        for name in ("time_bucket", "metric_id", "dimension_set", "dimensions", "state")
    ]
)
