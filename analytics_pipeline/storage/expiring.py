"""What retention would remove by a given time: which partitions, when each is due, how large, and what is in its way.

Belongs here: looking; nothing is changed and no lock is taken. Does not belong here: the decision (`retention.plan`),
removing (`storage.retention`, `storage.removal`).
"""

from dataclasses import dataclass, field
from datetime import datetime

from analytics_pipeline.retention.plan import Kind, Partition, Policy
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.retention import in_order, policies, read_plan
from analytics_pipeline.storage.rollups import hour_key

_SIZES = "SELECT partition, bytes, is_detaching FROM time_partitions"
_STEPS = "SELECT partition, state, bytes FROM retention_removals WHERE state <> 'dropped'"
_PENDING = "SELECT DISTINCT hour FROM pending_batches"
_LOCKS = """
SELECT classid::bigint, objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = ANY(%s)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Expiring:
    """One partition that would go.

    Attributes:
        partition: its name.
        parent: its table.
        kind: what the table holds, which decides what must be true before.
        lower: start of its time.
        upper: end of its time, not included.
        due_at: from then on a run removes it.
        bytes: its size with indexes, None when unknown.
        is_archived_first: whether it becomes Parquet before it is dropped.
        step: the last step that an interrupted run has done, None where none has begun.
        pending_hours: hours whose deltas the run merges first.
        blocked_by: what would make a run skip it at this moment, in words.
    """

    partition: str
    parent: str
    kind: Kind
    lower: datetime
    upper: datetime
    due_at: datetime
    bytes: int | None
    is_archived_first: bool
    step: str | None
    pending_hours: int
    blocked_by: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run at a time would do.

    Attributes:
        floor: where the raw floor would stand: older events are refused.
        partitions: those that would go, in the order of a run.
        blocked_by: what would keep a run from doing anything at this moment, in words.
    """

    floor: datetime
    partitions: list[Expiring]
    blocked_by: list[str]


def outlook(connection: Connection, settings: Retention, *, at: datetime) -> Outlook:
    """What a run at `at` would remove by these settings, if nothing changed until then.

    Args:
        connection: any.
        settings: how long things are kept, and whether they are archived.
        at: the time of the run.
    """
    rules = {policy.parent: policy for policy in policies(settings)}
    decided = read_plan(connection, now=at, rules=list(rules.values()))
    sizes = {name: (size, detaching) for name, size, detaching in connection.execute(_SIZES).fetchall()}
    steps = {name: (step, size) for name, step, size in connection.execute(_STEPS).fetchall()}
    pending = [hour for (hour,) in connection.execute(_PENDING).fetchall()]
    locks = set(connection.execute(_LOCKS, ([Lock.HOUR, Lock.RETENTION],)).fetchall())
    busy_hours = {hour for lock, hour in locks if lock == Lock.HOUR}
    raw = next(policy for policy in rules.values() if policy.kind is Kind.RAW)
    blocked = [] if settings.cleanup_enabled else ["analytics.retention.cleanup_enabled is false"]
    if any(lock == Lock.RETENTION for lock, _ in locks):
        blocked.append("a run is removing expired partitions")

    def expiring(each: Partition) -> Expiring:
        policy = rules.get(each.parent)
        kind = policy.kind if policy is not None else Kind.MART
        size, is_detaching = sizes.get(each.name, (None, False))
        step, size_then = steps.get(each.name, (None, None))
        is_attached = each.name in sizes
        return Expiring(
            partition=each.name,
            parent=each.parent,
            kind=kind,
            lower=each.lower,
            upper=each.upper,
            due_at=_due_at(each, policy, raw),
            bytes=size_then if size is None else size,
            is_archived_first=policy is not None and policy.must_archive,
            step=step,
            pending_hours=(
                sum(each.lower <= hour < each.upper for hour in pending)
                if kind is not Kind.MART and is_attached
                else 0
            ),
            blocked_by=_obstacles(each, kind, busy_hours, is_attached=is_attached and not is_detaching),
        )

    return Outlook(decided.floor, [expiring(each) for each in in_order(connection, decided)], blocked)


def _due_at(each: Partition, policy: Policy | None, raw: Policy) -> datetime:
    """Rollups go no earlier than raw events of their time, whatever their own policy says."""
    if policy is None:
        return each.upper
    keep = policy.keep if policy.kind is Kind.MART else max(policy.keep, raw.keep)
    return each.upper + keep


def _obstacles(each: Partition, kind: Kind, busy_hours: set[int], *, is_attached: bool) -> list[str]:
    if kind is not Kind.RAW or not is_attached:
        return []
    own = range(hour_key(each.lower), hour_key(each.upper))
    return ["one of its hours is being merged or recomputed"] if busy_hours.intersection(own) else []
