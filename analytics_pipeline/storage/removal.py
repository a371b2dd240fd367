"""Removing one partition, step by step: resumable, and never in the way of landings.

Belongs here: the order of the steps and what each of them does. Each step is idempotent and noted in
`retention_removals`, so that a run killed anywhere is continued by the next one:

1. planned   the floor is above the partition: nothing below it is in flight or will be accepted
2. merged    no delta of its time is pending
3. frozen    its day is never recomputed from live raw again (raw events only)
4. detached  out of the table, CONCURRENTLY (`detaching` before): neither readers nor landings wait
5. archived  its rows are in Parquet files        } only where the policy says so
6. verified  read back, they are the same rows    }
7. dropped

Does not belong here: which partitions go (`retention.plan`), the floor and the run over all of them
(`storage.retention`), removal by plain SQL (`cleanup_old_data()`), the files of an archive (`storage.archive`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import sql

from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.retention.plan import Kind, Partition, Policy
from analytics_pipeline.storage import patience
from analytics_pipeline.storage.archive import Archive, ArchiveFault, Contents
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.patience import Held, patiently
from analytics_pipeline.storage.rollups import hour_key, merge_hour

log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What became of one partition; `bytes` is its size with indexes, None when unknown."""

    partition: str
    action: str
    reason: str = ""
    bytes: int | None = None


_NOTE = """
INSERT INTO retention_removals AS removal (partition, parent, lower_bound, upper_bound, state, bytes, run_id)
VALUES (
    %(partition)s, %(parent)s, %(lower)s, %(upper)s, %(state)s,
    (SELECT bytes FROM time_partitions WHERE partition = %(partition)s), %(run_id)s
)
ON CONFLICT (partition) DO UPDATE
SET state = excluded.state, bytes = coalesce(excluded.bytes, removal.bytes), run_id = excluded.run_id,
    changed_at = clock_timestamp()
RETURNING bytes
"""
_PENDING = "SELECT DISTINCT hour FROM pending_batches WHERE hour >= %s AND hour < %s ORDER BY hour"
_HOLD_HOURS = """
SELECT pg_advisory_xact_lock(%s, hours.hour) FROM generate_series(%s::integer, %s::integer) AS hours (hour)
"""
_FREEZE = "INSERT INTO frozen_days (day) VALUES (%s) ON CONFLICT DO NOTHING"
_IS_DETACHING = "SELECT is_detaching FROM time_partitions WHERE partition = %s"
_ARCHIVED = "SELECT state, archive, archived_rows, archived_hash FROM retention_removals WHERE partition = %s"
_BEGIN_ARCHIVE = """
UPDATE retention_removals SET archive = %(archive)s, state = 'detached', archived_rows = NULL, archived_hash = NULL
WHERE partition = %(partition)s
"""
_KEEP_ARCHIVE = """
UPDATE retention_removals SET archived_rows = %(rows)s, archived_hash = %(set_hash)s WHERE partition = %(partition)s
"""
_COUNT = "SELECT count(*) FROM {}"
_DETACH_PATIENCE = "60s"


def remove(
    connection: Connection, partition: Partition, policy: Policy | None, run_id: str, archive: Archive | None
) -> Outcome:
    """Do what is left to do with one partition; one that others hold is told as skipped, with the reason.

    Args:
        connection: in autocommit.
        partition: attached, or left detached by an earlier run.
        policy: of its table; without one, age alone decides.
        run_id: noted with every step.
        archive: where it goes first, if its policy asks for that.
    """
    kind = policy.kind if policy else Kind.MART

    def note(state: str) -> int | None:
        values = {"state": state, "run_id": run_id, "partition": partition.name, "parent": partition.parent}
        row = connection.execute(
            _NOTE, {**values, "lower": partition.lower, "upper": partition.upper}
        ).fetchone()
        fail_at(RunPoint(f"partition_{state}"))
        return row[0] if row else None

    try:
        is_attached = connection.execute(_IS_DETACHING, (partition.name,)).fetchone()
        if is_attached is not None:
            note("planned")
            if kind is not Kind.MART:
                _merge_rest(connection, partition, run_id)
                fail_at(RunPoint.REST_MERGED)
                note("merged")
            if kind is Kind.RAW:
                _freeze(connection, partition)
                fail_at(RunPoint.DAY_FROZEN)
                note("frozen")
            note("detaching")
            _detach(connection, partition, is_detaching=is_attached[0])
            fail_at(RunPoint.TABLE_DETACHED)
            note("detached")
        if policy and policy.must_archive:
            assert archive is not None
            _save(connection, archive, partition, note)
        name = sql.Identifier(partition.name)
        patiently(
            connection,
            lambda: connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name)),
            "the table",
        )
        fail_at(RunPoint.TABLE_DROPPED)
        size = note("dropped")
    except (Held, ArchiveFault) as held:
        log.info("retention.skipped", partition=partition.name, reason=str(held))
        return Outcome(partition.name, "skipped", str(held))
    log.info("retention.dropped", partition=partition.name, bytes=size)
    return Outcome(partition.name, "dropped", bytes=size)


def _merge_rest(connection: Connection, partition: Partition, run_id: str) -> None:
    """Merge until nothing of the partition's time is pending; the floor keeps new deltas away."""
    for attempt in range(patience.ATTEMPTS):
        hours = [row[0] for row in connection.execute(_PENDING, (partition.lower, partition.upper))]
        if not hours:
            return
        for hour in hours:
            while (merged := merge_hour(connection, hour, run_id=run_id)) is not None and merged.has_more:
                pass
        patience.pause(attempt)
    raise Held("its pending deltas are being merged by others")


def _freeze(connection: Connection, partition: Partition) -> None:
    """Under the locks of all its hours: a recompute that runs ends first, one that comes later is refused."""
    hours = (Lock.HOUR, hour_key(partition.lower), hour_key(partition.upper) - 1)

    def freeze() -> None:
        connection.execute(_HOLD_HOURS, hours)
        fail_at(RunPoint.HOURS_FREEZING)
        connection.execute(_FREEZE, (partition.lower.date(),))

    patiently(connection, freeze, "one of its hours")


def _detach(connection: Connection, partition: Partition, *, is_detaching: bool) -> None:
    """Outside a transaction; a detach that was interrupted half-way is finalized."""
    how = sql.SQL("FINALIZE" if is_detaching else "CONCURRENTLY")
    names = (sql.Identifier(partition.parent), sql.Identifier(partition.name), how)
    connection.execute(sql.SQL("SET lock_timeout = {}").format(_DETACH_PATIENCE))
    try:
        connection.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(*names))
    except psycopg.errors.LockNotAvailable:
        raise Held(f"a query has been reading its table for more than {_DETACH_PATIENCE}") from None
    except psycopg.errors.ObjectNotInPrerequisiteState:  # one partition of a table at a time
        raise Held("another partition of its table is still being detached") from None
    finally:
        connection.execute("RESET lock_timeout")


def _save(
    connection: Connection, archive: Archive, partition: Partition, note: Callable[[str], object]
) -> None:
    """Archive a detached partition and prove it; what an earlier run wrote to the same place is only proved again."""
    folder = archive.folder(partition)
    row = connection.execute(_ARCHIVED, (partition.name,)).fetchone()
    assert row is not None
    state, written_to, *noted = row
    is_written = state in ("archived", "verified")
    held_once = None if noted[0] is None else Contents(noted[0], int(noted[1]))
    count = _count(connection, partition)
    if count is None:
        if state == "verified":
            return  # the run was killed when it had dropped the table
        raise Held("somebody dropped its table before its archive was proved")
    if held_once and not is_written and count != held_once.rows:
        if count == 0:
            return  # it was made anew after it was dropped: its archive must not become empty
        raise Held(
            f"it was made anew and has {count} events that its archive {written_to} does not have: empty it, or move "
            "the files away and set archived_rows of its line in retention_removals to NULL"
        )
    if held_once and is_written and written_to == folder:
        contents = held_once
    else:
        if written_to != folder and archive.exists(partition):
            raise Held(f"{folder} holds files that were not written by this database: move them away")
        connection.execute(_BEGIN_ARCHIVE, {"archive": folder, "partition": partition.name})
        fail_at(RunPoint.ARCHIVE_BEGUN)
        contents = archive.write(partition)
        fail_at(RunPoint.ARCHIVE_WRITTEN)
        connection.execute(_KEEP_ARCHIVE, {**contents._asdict(), "partition": partition.name})
        note("archived")
    _prove(archive, partition, contents, count, note)


def _prove(
    archive: Archive, partition: Partition, contents: Contents, count: int, note: Callable[[str], object]
) -> None:
    """Read the archive back: it must be what was written, and as much as the table has."""
    try:
        found = archive.read(partition)
    except ArchiveFault:
        note("detached")  # whatever it is that cannot be read, the rows are still here to be written again
        raise
    if found != contents or found.rows != count:
        note("detached")
        raise Held(
            f"its archive {archive.folder(partition)} holds {found.rows} events instead of {count}, or others: it is "
            "written again"
        )
    fail_at(RunPoint.ARCHIVE_READ)
    note("verified")


def _count(connection: Connection, partition: Partition) -> int | None:
    """The rows of its table; None where there is no table any more."""
    try:
        [(count,)] = connection.execute(sql.SQL(_COUNT).format(sql.Identifier(partition.name))).fetchall()
    except psycopg.errors.UndefinedTable:
        return None
    return int(count)
