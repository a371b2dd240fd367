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
import pyarrow.compute as pc

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.rollups import gathered, levels
from analytics_pipeline.rollups.catalog import Kind
from analytics_pipeline.rollups.schema import canonical_dimensions
from analytics_pipeline.storage import buckets
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.copying import Copier
from analytics_pipeline.storage.portions import fitting
from analytics_pipeline.storage.restatements import Reason, restating

_PENDING = """
SELECT pending.hour, count(*), min(pending.batch_id) FROM pending_batches AS pending
GROUP BY pending.hour ORDER BY pending.hour DESC
"""
_BATCHES = """
WITH oldest AS (
    SELECT batch_id FROM pending_batches WHERE hour = %(hour)s ORDER BY batch_id LIMIT %(most)s
),
counted AS (
    SELECT batch_id, count(*) AS deltas FROM rollup_deltas
    WHERE hour = %(hour)s AND batch_id = ANY(ARRAY(SELECT batch_id FROM oldest)) GROUP BY batch_id
)
SELECT batch_id, coalesce(counted.deltas, 0) FROM oldest LEFT JOIN counted USING (batch_id) ORDER BY batch_id
"""
MOST_DELTAS = 500_000
"""That one transaction merges, unless a single batch has more: it holds the day so long, and needs memory for them."""
# By minute and series; a state of several is all of theirs, each behind its size.
_ADD_UP = """
SELECT
    minute, metric_id, metric_name, dimension_set, dimensions::text, kind,
    sum(count)::bigint, sum(sum), min(min), max(max),
    string_agg(int4send(octet_length(state)) || state, ''), count(*)
FROM rollup_deltas WHERE hour = %s AND {these} = ANY(%s)
GROUP BY minute, metric_id, metric_name, dimension_set, rollup_deltas.dimensions, kind
"""
_ADD_UP_DELTAS = _ADD_UP.format(these="batch_id")
_ADD_UP_METRICS = _ADD_UP.format(these="metric_id")
_DELETE_DELTAS = "DELETE FROM rollup_deltas WHERE hour = %s AND batch_id = ANY(%s)"
_TAKE_BATCHES = "DELETE FROM pending_batches WHERE hour = %s AND batch_id = ANY(%s)"
_CREATE_STAGE = """
CREATE TEMP TABLE IF NOT EXISTS rollup_stage (
    time_bucket timestamptz, metric_id text, metric_name text, dimension_set text, dimensions jsonb, kind text,
    count bigint, sum numeric, min double precision, max double precision, state bytea,
    p50 double precision, p95 double precision, p99 double precision, distinct_count bigint,
    first double precision, last double precision
) ON COMMIT DELETE ROWS
"""
# The buckets and metrics once more, as lists, so that no plan reads more than these of the level.
_STATES = """
SELECT time_bucket, metric_id, dimension_set, dimensions::text, state
FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::jsonb[])
    AS wanted (time_bucket, metric_id, dimension_set, dimensions)
INNER JOIN metric_states USING (time_bucket, metric_id, dimension_set, dimensions)
WHERE metric_states.interval = %s AND metric_states.time_bucket = ANY(%s) AND metric_states.metric_id = ANY(%s)
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
    """What one merge did: rows written and buckets touched per level, events and late events added; which batches."""

    hour: datetime
    batches: int
    deltas: int
    events: int
    late: int
    rows: dict[str, int]
    has_more: bool
    batch_ids: Sequence[int] = ()


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
    connection: Connection,
    hour: datetime,
    *,
    run_id: str,
    max_batches: int = 500,
    max_deltas: int = MOST_DELTAS,
) -> MergeResult | None:
    """Add the pending deltas of one hour to all five levels and remove them, in one transaction.

    Args:
        connection: an autocommit connection.
        hour: start of a UTC hour.
        run_id: noted in the bucket register.
        max_batches: at most this many batches in the transaction; `has_more` says whether to call again.
        max_deltas: at most this many deltas, unless the first batch alone has more.

    Returns:
        None when another merge or a recompute holds the hour.
    """
    with hour_lock(connection, hour, wait=False) as is_held:
        if not is_held:
            return None
        with connection.transaction():
            lock_day(connection, hour)
            oldest = connection.execute(_BATCHES, {"hour": hour, "most": max_batches}).fetchall()
            batches = fitting(oldest, max_deltas)
            minutes, deltas = _take_deltas(connection, hour, batches)
            connection.execute(_TAKE_BATCHES, (hour, batches))
            fail_at(RunPoint.DELTAS_TAKEN)
            written = {}
            for level, rows in levels.roll_up_all(minutes).items():
                written[level] = rows.num_rows
                late = dict.fromkeys(rows.column("time_bucket").to_pylist(), Reason.LATE)
                with restating(connection, level, late, run_id=run_id):
                    add_rows(connection, level, rows)
                    buckets.add_buckets(connection, level, rows, run_id=run_id)
            if batches:
                bump_days(connection, [hour])
            fail_at(RunPoint.LEVELS_WRITTEN)
            events, late_events = buckets.register_totals(minutes)
            return MergeResult(
                hour,
                len(batches),
                deltas,
                events,
                late_events,
                written,
                has_more=len(batches) < len(oldest) or len(oldest) == max_batches,
                batch_ids=batches,
            )


def _take_deltas(connection: Connection, hour: datetime, batches: list[int]) -> tuple[pa.Table, int]:
    """Remove the deltas of some batches; what they add up to at 1m, and how many they were.

    Both statements see the same deltas: these batches have committed, and only who holds the hour removes any.

    Raises:
        InvariantBroken: they did not.
    """
    minutes, deltas = _added_up(connection, _ADD_UP_DELTAS, (hour, batches))
    deleted = connection.execute(_DELETE_DELTAS, (hour, batches)).rowcount
    if deleted != deltas:
        raise InvariantBroken(f"deltas of {hour:%Y-%m-%dT%H}:00Z came or went while they were merged")
    return minutes, deltas


def pending_minutes(connection: Connection, hour: datetime, metric_ids: Sequence[str]) -> pa.Table:
    """What landings left pending of some metrics in an hour, added up at 1m (`LEVEL_SCHEMA`)."""
    return _added_up(connection, _ADD_UP_METRICS, (hour, list(metric_ids)))[0]


def _added_up(connection: Connection, query: str, parameters: Sequence[object]) -> tuple[pa.Table, int]:
    """Deltas added up in Postgres, which has up to hundreds for each minute and series; and how many they were."""
    found = fetch(connection, query, parameters, _ADDED_UP_SCHEMA)
    added_up = found.select(levels.LEVEL_SCHEMA.names)
    blobs = added_up.column("state").to_pylist()
    merged = levels.merged_states(
        added_up.column("kind"),
        added_up.column("state").combine_chunks().is_valid(),
        lambda places: gathered.of_prefixed([blobs[place] for place in places.tolist()]),
    )
    return _with_state(added_up, merged), pc.sum(found.column("deltas")).as_py() or 0


def add_rows(connection: Connection, level: str, rows: pa.Table) -> None:
    """Add rows of one level (`LEVEL_SCHEMA`) to what is settled; the caller holds hour and day."""
    write_rows(connection, level, _with_settled_states(connection, level, rows))


def write_rows(connection: Connection, level: str, rows: pa.Table, *, has_states: bool = True) -> None:
    """Write rows (`LEVEL_SCHEMA`) whose states are complete; counts and sums are added where a row exists already.

    Without `has_states`, what a state tells is written and the state itself is not: retention has let them go.
    """
    connection.execute(_CREATE_STAGE)
    with connection.cursor() as cursor:
        _STAGE.copy(cursor, levels.with_derived(rows))
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
    rows = connection.execute(query, parameters, binary=True).fetchall()
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


def _with_settled_states(connection: Connection, level: str, rows: pa.Table) -> pa.Table:
    """The same rows, each state with the one that is settled for its bucket and series; the register's as they are."""
    has_state = rows.column("state").combine_chunks().is_valid()
    is_added = pc.and_(has_state, pc.not_equal(rows.column("kind"), Kind.REGISTER.value).combine_chunks())
    added = rows.filter(is_added)
    wanted = [added.column(name).to_pylist() for name in _STATES_SCHEMA.names[:-1]]
    starts, metric_ids = (pc.unique(added.column(name)).to_pylist() for name in ("time_bucket", "metric_id"))
    settled = fetch(connection, _STATES, (*wanted, level, starts, metric_ids), _STATES_SCHEMA)
    before = dict(zip(_keys(settled), settled.column("state").to_pylist(), strict=True))
    new = [
        [state] if (known := before.get(key)) is None else [known, state]
        for key, state in zip(_keys(rows), rows.column("state").to_pylist(), strict=True)
    ]
    merged = levels.merged_states(
        rows.column("kind"),
        has_state,
        lambda places: gathered.of_sequences([new[place] for place in places.tolist()]),
    )
    return _with_state(rows, merged)


def _with_state(rows: pa.Table, states: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("state"), rows.schema.field("state"), states)


def _keys(rows: pa.Table) -> Iterator[tuple[int, str, str, str]]:
    """What tells one state of a level from all others."""
    at = rows.column("time_bucket").cast(pa.int64())
    names = ("metric_id", "dimension_set", "dimensions")
    return zip(*(column.to_pylist() for column in (at, *map(rows.column, names))), strict=True)


_STAGE = Copier("rollup_stage", levels.WRITTEN_SCHEMA, jsonb=frozenset({"dimensions"}))
_ADDED_UP_SCHEMA = levels.LEVEL_SCHEMA.append(pa.field("deltas", pa.int64()))
_STATES_SCHEMA = pa.schema(
    [
        levels.LEVEL_SCHEMA.field(name)
        for name in ("time_bucket", "metric_id", "dimension_set", "dimensions", "state")
    ]
)
