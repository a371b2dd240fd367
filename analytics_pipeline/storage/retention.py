"""Removing what the policies let go, partition by partition: resumable, and never in the way of landings.

Belongs here: the policies in the database, the floor, and the order of removal. Each step is idempotent and
noted in `retention_removals`, so that a run killed anywhere is continued by the next one:

1. planned   the floor is above the partition: nothing below it is in flight or will be accepted
2. merged    no delta of its time is pending
3. frozen    its day is never recomputed from live raw again (raw events only)
4. detached  out of the table, CONCURRENTLY (`detaching` before): neither readers nor landings wait
5. archived  its rows are in Parquet files        } only where the policy says so
6. verified  read back, they are the same rows    }
7. dropped

Does not belong here: which partitions go (`retention.plan`), removal by plain SQL (`cleanup_old_data()`), the
files of an archive (`storage.archive`), rows of tables without partitions (`storage.expired_rows`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar

import psycopg
import structlog
from psycopg import sql

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.retention.plan import Kind, Partition, Plan, Policy, plan
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.archive import Archive, ArchiveFault, Contents
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.rollups import hour_key, merge_hour

log = structlog.get_logger()
T = TypeVar("T")


class Held(EnvironmentFault):
    """Others hold what a step needs; the next run continues with this step."""


@dataclass(frozen=True)
class Outcome:
    """What became of one partition; `bytes` is its size with indexes, None when unknown."""

    partition: str
    action: str
    reason: str = ""
    bytes: int | None = None


_LEVEL_SETTINGS = {
    "1m": "minute_aggregates",
    "5m": "five_minute_aggregates",
    "15m": "fifteen_minute_aggregates",
    "1h": "hourly_aggregates",
    "1d": "daily_aggregates",
}
_MARTS = {
    "order_analytics": timedelta(days=90),
    "user_behavior": timedelta(days=90),
    "strategy_performance": timedelta(days=730),
    "market_analytics_fine": timedelta(days=90),
    "market_analytics_coarse": timedelta(days=730),
    "system_metrics": timedelta(days=30),
}
_WRITE_POLICY = """
INSERT INTO retention_policies AS policy (parent, kind, keep, must_archive)
VALUES (%(parent)s, %(kind)s, %(keep)s, %(must_archive)s)
ON CONFLICT (parent) DO UPDATE
SET kind = excluded.kind, keep = excluded.keep, must_archive = excluded.must_archive, updated_at = now()
WHERE (policy.kind, policy.keep, policy.must_archive)
    IS DISTINCT FROM (excluded.kind, excluded.keep, excluded.must_archive)
"""
_POLICIES = "SELECT parent, kind, keep, must_archive FROM retention_policies ORDER BY parent"
_PARTITIONS = "SELECT parent, partition, lower_bound, upper_bound FROM time_partitions"
_LEFT_OVER = """
SELECT parent, partition, lower_bound, upper_bound FROM retention_removals AS removal
WHERE state IN ('detaching', 'detached', 'archived', 'verified')
    AND NOT EXISTS (SELECT FROM time_partitions AS known WHERE known.partition = removal.partition)
ORDER BY lower_bound, partition
"""
_FLOOR = "SELECT raw_floor FROM retention_state"
_HOLD_FLOOR = "SELECT pg_advisory_xact_lock(%s, 0)"
_RAISE_FLOOR = "UPDATE retention_state SET raw_floor = greatest(raw_floor, %s)"
_RAISE_TO_LINE = """
UPDATE retention_state SET raw_floor = greatest(raw_floor, retention_line(policy.keep))
FROM retention_policies AS policy WHERE policy.kind = 'raw'
"""
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
_FROZEN = "SELECT day FROM frozen_days WHERE day >= %s AND day < %s ORDER BY day"
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
_SIZES = "SELECT partition, bytes FROM time_partitions"
_TRY_ALONE = "SELECT pg_try_advisory_lock(%s, 0)"
_LEAVE = "SELECT pg_advisory_unlock(%s, 0)"

_ATTEMPTS = 25
_PAUSE_SECONDS = 0.05
_DETACH_PATIENCE = "60s"


def policies(settings: Retention) -> list[Policy]:
    """The policies of the settings. States at 1m live as long as raw, so that a late event finds them."""
    found = [Policy("events", Kind.RAW, settings.raw_events, must_archive=settings.archive_uri is not None)]
    for level, key in _LEVEL_SETTINGS.items():
        keep: timedelta = getattr(settings, key)
        found.append(Policy(f"metric_aggregations_{level}", Kind.ROLLUP, keep))
        found.append(Policy(f"metric_buckets_{level}", Kind.ROLLUP, keep))
        found.append(
            Policy(f"metric_states_{level}", Kind.ROLLUP, settings.raw_events if level == "1m" else keep)
        )
    return found + [Policy(mart, Kind.MART, keep) for mart, keep in _MARTS.items()]


def write_policies(connection: Connection, settings: Retention) -> int:
    """Put the policies where `cleanup_old_data()` finds them, raise the floor to their line; returns changes.

    Raises:
        Held: landings kept the floor lock for all tries.
    """
    changed = 0
    with connection.transaction():
        for policy in policies(settings):
            values = {
                "parent": policy.parent,
                "kind": policy.kind,
                "keep": policy.keep,
                "must_archive": policy.must_archive,
            }
            changed += connection.execute(_WRITE_POLICY, values).rowcount
    _change_floor(connection, _RAISE_TO_LINE, ())
    return changed


def read_plan(connection: Connection, *, now: datetime, rules: list[Policy] | None = None) -> Plan:
    """What a run at `now` would do, by `rules` or by the policies in the database; nothing is changed."""
    known = [Partition(*row) for row in connection.execute(_PARTITIONS)]
    if rules is None:
        rules = _policies_in_force(connection)
    row = connection.execute(_FLOOR).fetchone()
    assert row is not None
    return plan(known, rules, now=now, floor=row[0])


def preview(connection: Connection, settings: Retention, *, now: datetime) -> list[Outcome]:
    """The partitions that a run at `now` would drop by these settings, in its order; nothing is changed."""
    rules = policies(settings)
    archived = {rule.parent for rule in rules if rule.must_archive}
    sizes = dict(connection.execute(_SIZES).fetchall())
    left_over = [Partition(*row) for row in connection.execute(_LEFT_OVER)]
    going = [*left_over, *read_plan(connection, now=now, rules=rules).removals]
    return [
        Outcome(
            each.name,
            "expires",
            "archived, then dropped" if each.parent in archived else "dropped",
            sizes.get(each.name),
        )
        for each in going
    ]


def remove_expired(
    connection: Connection, *, now: datetime, run_id: str, archive: Archive | None = None
) -> list[Outcome]:
    """Carry out the plan of `now`, after finishing what earlier runs left detached.

    Args:
        connection: an autocommit connection, which this holds for as long as the removals take.
        now: the time, with zone.
        run_id: noted with every step.
        archive: where partitions go whose policy asks for an archive; without one they are skipped.

    Raises:
        Held: another run is removing, or landings kept the floor lock for all tries.
    """
    with _alone(connection):
        decided = read_plan(connection, now=now)
        rules = {rule.parent: rule for rule in _policies_in_force(connection)}
        _change_floor(connection, _RAISE_FLOOR, (decided.floor,))
        left_over = [Partition(*row) for row in connection.execute(_LEFT_OVER)]
        return [
            _remove(connection, each, rules.get(each.parent), run_id, archive)
            for each in [*left_over, *decided.removals]
        ]


def _policies_in_force(connection: Connection) -> list[Policy]:
    return [
        Policy(parent, Kind(kind), keep, must_archive)
        for parent, kind, keep, must_archive in connection.execute(_POLICIES)
    ]


def frozen_days(connection: Connection, first: date, last: date) -> list[date]:
    """The UTC days in `[first, last)` whose rollups are never recomputed from live raw again."""
    return [row[0] for row in connection.execute(_FROZEN, (first, last))]


def _remove(
    connection: Connection, partition: Partition, policy: Policy | None, run_id: str, archive: Archive | None
) -> Outcome:
    kind = policy.kind if policy else Kind.MART

    def note(state: str) -> int | None:
        values = {"state": state, "run_id": run_id, "partition": partition.name, "parent": partition.parent}
        row = connection.execute(
            _NOTE, {**values, "lower": partition.lower, "upper": partition.upper}
        ).fetchone()
        fail_at(RunPoint(f"partition_{state}"))
        return row[0] if row else None

    try:
        if policy and policy.must_archive and archive is None:
            raise Held("its policy asks for an archive and this process has none: set retention.archive_uri")
        is_attached = connection.execute(_IS_DETACHING, (partition.name,)).fetchone()
        if is_attached is not None:
            note("planned")
            if kind is not Kind.MART:
                _merge_rest(connection, partition, run_id)
                note("merged")
            if kind is Kind.RAW:
                _freeze(connection, partition)
                note("frozen")
            note("detaching")
            _detach(connection, partition, is_detaching=is_attached[0])
            note("detached")
        if policy and policy.must_archive and archive is not None:
            _save(connection, archive, partition, note)
        name = sql.Identifier(partition.name)
        _patiently(
            connection,
            lambda: connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name)),
            "the table",
        )
        size = note("dropped")
    except (Held, ArchiveFault) as held:
        log.info("retention.skipped", partition=partition.name, reason=str(held))
        return Outcome(partition.name, "skipped", str(held))
    log.info("retention.dropped", partition=partition.name, bytes=size)
    return Outcome(partition.name, "dropped", bytes=size)


def _merge_rest(connection: Connection, partition: Partition, run_id: str) -> None:
    """Merge until nothing of the partition's time is pending; the floor keeps new deltas away."""
    for attempt in range(_ATTEMPTS):
        hours = [row[0] for row in connection.execute(_PENDING, (partition.lower, partition.upper))]
        if not hours:
            return
        for hour in hours:
            while (merged := merge_hour(connection, hour, run_id=run_id)) is not None and merged.has_more:
                pass
        time.sleep(_PAUSE_SECONDS * attempt)
    raise Held("its pending deltas are being merged by others")


def _freeze(connection: Connection, partition: Partition) -> None:
    """Under the locks of all its hours: a recompute that runs ends first, one that comes later is refused."""
    hours = (Lock.HOUR, hour_key(partition.lower), hour_key(partition.upper) - 1)

    def freeze() -> None:
        connection.execute(_HOLD_HOURS, hours)
        fail_at(RunPoint.HOURS_FREEZING)
        connection.execute(_FREEZE, (partition.lower.date(),))

    _patiently(connection, freeze, "one of its hours")


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
    state, written_to, *noted = row or (None, None)
    if state not in ("archived", "verified") or written_to != folder:
        if written_to != folder and archive.exists(partition):
            raise Held(f"{folder} holds files that were not written by this database: move them away")
        connection.execute(_BEGIN_ARCHIVE, {"archive": folder, "partition": partition.name})
        contents = archive.write(partition)
        connection.execute(_KEEP_ARCHIVE, {**contents._asdict(), "partition": partition.name})
        note("archived")
    else:
        contents = Contents(noted[0], int(noted[1]))
    count = connection.execute(sql.SQL(_COUNT).format(sql.Identifier(partition.name))).fetchall()[0][0]
    try:
        found = archive.read(partition)
    except ArchiveFault:
        note("detached")  # whatever it is that cannot be read, the rows are still here to be written again
        raise
    if found != contents or found.rows != count:
        note("detached")
        raise Held(
            f"its archive {folder} holds {found.rows} events instead of {count}, or others: it is written again"
        )
    note("verified")


def _change_floor(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    """Change `raw_floor` while no landing is in flight: each holds the lock from reading it to COMMIT."""

    def change() -> None:
        connection.execute(_HOLD_FLOOR, (Lock.FLOOR,))
        connection.execute(statement, values)

    _patiently(connection, change, "the floor")


def _patiently(connection: Connection, work: Callable[[], T], what: str) -> T:
    """Run `work` in a transaction that waits 200 ms for a lock, no more: so long do those behind it wait."""
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '200ms'")
                return work()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            time.sleep(_PAUSE_SECONDS * attempt)
    raise Held(f"{what} stayed locked by others")


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    row = connection.execute(_TRY_ALONE, (Lock.RETENTION,)).fetchone()
    if not (row and row[0]):
        raise Held("another run is removing expired partitions")
    try:
        yield
    finally:
        connection.execute(_LEAVE, (Lock.RETENTION,))
