"""The register of buckets: how many events each holds, how often it changed, and whether it is final.

Belongs here: the statements on `metric_buckets`, and the rule by which a bucket becomes final or restated.
Does not belong here: the numbers of metrics (`storage.rollups`).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.catalog import Kind
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.connection import Connection

_UPSERT_BUCKET = """
INSERT INTO metric_buckets AS register (interval, time_bucket, event_count, late_count, set_hash, run_id)
VALUES (%(level)s, %(bucket)s, %(events)s, %(late)s, %(set_hash)s, %(run_id)s)
ON CONFLICT (interval, time_bucket) DO UPDATE SET
    revision = register.revision + 1,
    state = CASE WHEN register.state IN ('final', 'restated') THEN 'restated' ELSE register.state END,
    event_count = register.event_count + excluded.event_count,
    late_count = register.late_count + excluded.late_count,
    set_hash = mod(register.set_hash + excluded.set_hash, 340282366920938463463374607431768211456),
    computed_at = clock_timestamp(),
    run_id = excluded.run_id
"""
_REPLACE_BUCKET = """
INSERT INTO metric_buckets AS register (interval, time_bucket, event_count, late_count, set_hash, run_id)
VALUES (%(level)s, %(bucket)s, %(events)s, %(late)s, %(set_hash)s, %(run_id)s)
ON CONFLICT (interval, time_bucket) DO UPDATE SET
    event_count = excluded.event_count,
    late_count = excluded.late_count,
    set_hash = excluded.set_hash,
    computed_at = clock_timestamp(),
    run_id = excluded.run_id
"""
_RAISE_REVISIONS = """
UPDATE metric_buckets SET
    revision = revision + 1,
    state = CASE WHEN state = 'final' THEN 'restated' ELSE state END,
    computed_at = clock_timestamp(),
    run_id = %s
WHERE interval = %s AND time_bucket = ANY(%s)
"""
# A bucket that a merge or recompute is changing at this moment, or whose day one is about to tell of, is left to the
# next run: waiting for it, with others of its level locked in whatever order the scan found them, could end in a
# deadlock. The day is told of, because answers that say the state of a bucket are kept for as long as its day is as it
# was. What is pending is looked up in a hash of it: as a list, it would be read again for each bucket once it no longer
# fits in memory, with the days locked so long. A bucket waits for those of the finer level within it, whatever held
# them back.
_DUE = """
WITH pending AS MATERIALIZED (
    SELECT DISTINCT bucket_start(%(level)s, minute) AS time_bucket
    FROM rollup_deltas WHERE kind = 'register' AND %(state)s = 'final'
),
days AS MATERIALIZED (
    SELECT day FROM rollup_days
    WHERE day IN (
        SELECT (time_bucket AT TIME ZONE 'UTC')::date FROM metric_buckets
        WHERE interval = %(level)s AND state = ANY(%(from)s) AND time_bucket < %(over)s
    )
    FOR UPDATE SKIP LOCKED
),
due AS MATERIALIZED (
    SELECT bucket.time_bucket FROM metric_buckets AS bucket
    WHERE bucket.interval = %(level)s AND bucket.state = ANY(%(from)s) AND bucket.time_bucket < %(over)s
        AND (bucket.time_bucket AT TIME ZONE 'UTC')::date NOT IN (
            SELECT day FROM rollup_days WHERE day NOT IN (SELECT day FROM days)
        )
        AND NOT EXISTS (SELECT FROM pending WHERE pending.time_bucket = bucket.time_bucket)
        AND NOT EXISTS (
            SELECT FROM metric_buckets AS part
            WHERE %(state)s = 'final' AND part.interval = %(finer)s AND part.state IN ('open', 'settling')
                AND part.time_bucket >= bucket.time_bucket AND part.time_bucket < bucket.time_bucket + %(width)s
        )
    FOR UPDATE SKIP LOCKED
),
told AS (
    UPDATE rollup_days SET revision = revision + 1, changed_at = clock_timestamp()
    WHERE day IN (SELECT (time_bucket AT TIME ZONE 'UTC')::date FROM due)
)
UPDATE metric_buckets AS register
SET state = %(state)s, run_id = %(run_id)s, computed_at = clock_timestamp()
FROM due WHERE register.interval = %(level)s AND register.time_bucket = due.time_bucket
"""
_HORIZON = """
SELECT least(
    (SELECT min(coalesce(caught_up_at, 'epoch')) FROM ingest_offsets WHERE NOT is_retired),
    (SELECT min(received_at) FROM http_inbox)
)
"""
_TICK = timedelta(microseconds=1)


def add_buckets(connection: Connection, level: str, rows: pa.Table, *, run_id: str) -> None:
    """Add the register rows of one level to the buckets and raise their revisions."""
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT_BUCKET, _buckets(level, rows, run_id))


def replace_buckets(connection: Connection, level: str, rows: pa.Table, *, run_id: str) -> None:
    """Put the register rows of one level in the place of the buckets; their revisions stay (`raise_revisions`)."""
    with connection.cursor() as cursor:
        cursor.executemany(_REPLACE_BUCKET, _buckets(level, rows, run_id))


def raise_revisions(connection: Connection, level: str, starts: Iterable[datetime], *, run_id: str) -> None:
    """Say that the numbers of these buckets change; those that were final are restated."""
    connection.execute(_RAISE_REVISIONS, (run_id, level, list(starts)))


def finalize_buckets(
    connection: Connection, *, now: datetime, graces: Mapping[str, timedelta], run_id: str
) -> int:
    """Move buckets on: over → settling; over by the grace, all sources past it and nothing pending → final.

    Every source must have been caught up at some time past the bucket's end, and the inbox must hold no older
    row: so lag can delay `final`, but never make it lie. `graces` says how long each level waits; a bucket is never
    final before those of the finer level within it. Never waits for a merge or recompute, and leaves alone what
    one is changing. Raises the versions of the days concerned. Returns how many buckets became final.
    """
    row = connection.execute(_HORIZON).fetchone()
    horizon = min(now, row[0]) if row and row[0] is not None else now
    closed, finer = 0, ""
    for level, seconds in LEVELS.items():
        width = timedelta(seconds=seconds)
        common = {"level": level, "finer": finer, "width": width, "run_id": run_id}
        connection.execute(
            _DUE, {**common, "state": "settling", "from": ["open"], "over": now - width + _TICK}
        )
        over = min(now - graces[level], horizon) - width + _TICK
        done = connection.execute(
            _DUE, {**common, "state": "final", "from": ["open", "settling"], "over": over}
        )
        closed, finer = closed + done.rowcount, level
    return closed


def register_totals(deltas: pa.Table) -> tuple[int, int]:
    """Events and late events that the register rows of a table count."""
    events = late = 0
    for kind, count, total in zip(
        *(deltas.column(name).to_pylist() for name in ("kind", "count", "sum")), strict=True
    ):
        if kind == Kind.REGISTER:
            events, late = events + count, late + int(total or 0)
    return events, late


def _buckets(level: str, rows: pa.Table, run_id: str) -> list[dict[str, Any]]:
    return [
        {
            "level": level,
            "bucket": row["time_bucket"],
            "events": row["count"],
            "late": int(row["sum"] or 0),
            "set_hash": Decimal(states.register_value(row["state"])),
            "run_id": run_id,
        }
        for row in rows.to_pylist()
        if row["kind"] == Kind.REGISTER
    ]
