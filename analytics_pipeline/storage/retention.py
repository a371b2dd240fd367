"""Retention of partitions: the policies in the database, the floor, and the run that removes what they let go.

Belongs here: how long each table keeps its partitions, raising `raw_floor`, the order of removals.
Does not belong here: which partitions go (`retention.plan`), the steps of one removal (`storage.removal`), rows of
tables without partitions (`storage.expired_rows`), removal by plain SQL (`cleanup_old_data()`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta

import structlog

from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.retention.plan import Kind, Partition, Plan, Policy, plan
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.archive import Archive, ArchiveFault
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.storage.patience import Held as Held
from analytics_pipeline.storage.patience import patiently
from analytics_pipeline.storage.removal import Outcome, remove

log = structlog.get_logger()

_LEVEL_SETTINGS = {
    "1m": "minute_aggregates",
    "5m": "five_minute_aggregates",
    "15m": "fifteen_minute_aggregates",
    "1h": "hourly_aggregates",
    "1d": "daily_aggregates",
}
_MART_SETTINGS = {
    "order_analytics": "order_analytics",
    "user_behavior": "user_behavior",
    "strategy_performance": "strategy_performance",
    "market_analytics_fine": "market_analytics",
    "market_analytics_coarse": "market_analytics_coarse",
    "system_metrics": "system_metrics",
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
    AND NOT EXISTS (
        SELECT FROM time_partitions AS known WHERE known.partition = removal.partition AND NOT known.is_detaching
    )
ORDER BY lower_bound, partition
"""
_FLOOR = "SELECT raw_floor FROM retention_state"
_HOLD_FLOOR = "SELECT pg_advisory_xact_lock(%s, 0)"
_RAISE_FLOOR = "UPDATE retention_state SET raw_floor = greatest(raw_floor, %s)"
_RAISE_TO_LINE = """
UPDATE retention_state SET raw_floor = greatest(raw_floor, retention_line(policy.keep))
FROM retention_policies AS policy WHERE policy.kind = 'raw'
"""
_FROZEN = "SELECT day FROM frozen_days WHERE day >= %s AND day < %s ORDER BY day"
_SIZES = "SELECT partition, bytes FROM time_partitions"
_TRY_ALONE = "SELECT pg_try_advisory_lock(%s, 0)"
_LEAVE = "SELECT pg_advisory_unlock(%s, 0)"


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
    return found + [Policy(mart, Kind.MART, getattr(settings, key)) for mart, key in _MART_SETTINGS.items()]


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
    return plan(known, rules, now=now, floor=raw_floor(connection))


def raw_floor(asked: Connection | Cursor) -> datetime:
    """Before when events are refused, as this transaction sees it."""
    row = asked.execute(_FLOOR).fetchone()
    assert row is not None
    floor: datetime = row[0]
    return floor


def preview(connection: Connection, settings: Retention, *, now: datetime) -> list[Outcome]:
    """The partitions that a run at `now` would drop by these settings, in its order; nothing is changed."""
    rules = policies(settings)
    archived = {rule.parent for rule in rules if rule.must_archive}
    sizes = dict(connection.execute(_SIZES).fetchall())
    going = in_order(connection, read_plan(connection, now=now, rules=rules))
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
        fail_at(RunPoint.FLOOR_RAISED)
        going = in_order(connection, decided)
        to_archive = {each.name for each in going if each.parent in rules and rules[each.parent].must_archive}
        obstacle = _archive_obstacle(archive) if to_archive else None
        return [
            Outcome(each.name, "skipped", obstacle)
            if obstacle and each.name in to_archive
            else remove(connection, each, rules.get(each.parent), run_id, archive)
            for each in going
        ]


def in_order(connection: Connection, decided: Plan) -> list[Partition]:
    """What earlier runs began to detach first, whatever the policies say by now: it is gone from its table."""
    left_over = [Partition(*row) for row in connection.execute(_LEFT_OVER)]
    return [*left_over, *(each for each in decided.removals if each not in left_over)]


def _archive_obstacle(archive: Archive | None) -> str | None:
    """Why nothing can be archived: found out before any partition is taken out of its table for it."""
    try:
        if archive is None:
            raise Held("its policy asks for an archive and this process has none: set retention.archive_uri")
        archive.check()
    except (Held, ArchiveFault) as error:
        log.warning("retention.archive_out_of_reach", reason=str(error))
        return str(error)
    return None


def _policies_in_force(connection: Connection) -> list[Policy]:
    return [
        Policy(parent, Kind(kind), keep, must_archive)
        for parent, kind, keep, must_archive in connection.execute(_POLICIES)
    ]


def frozen_days(connection: Connection, first: date, last: date) -> list[date]:
    """The UTC days in `[first, last)` whose rollups are never recomputed from live raw again."""
    return [row[0] for row in connection.execute(_FROZEN, (first, last))]


def _change_floor(connection: Connection, statement: str, values: tuple[object, ...]) -> None:
    """Change `raw_floor` while no landing is in flight: each holds the lock from reading it to COMMIT."""

    def change() -> None:
        connection.execute(_HOLD_FLOOR, (Lock.FLOOR,))
        connection.execute(statement, values)

    patiently(connection, change, "the floor")


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    row = connection.execute(_TRY_ALONE, (Lock.RETENTION,)).fetchone()
    if not (row and row[0]):
        raise Held("another run is removing expired partitions")
    try:
        yield
    finally:
        connection.execute(_LEAVE, (Lock.RETENTION,))
