"""Which partitions go, given those that exist, the policies, the time and the floor.

Belongs here: the decision.
Does not belong here: carrying it out (`storage.retention`), or reading what exists.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class Kind(StrEnum):
    """What a table holds, which decides what must be true before one of its partitions goes."""

    RAW = "raw"
    """Events: the floor is above them, their deltas are merged, their day is frozen."""
    ROLLUP = "rollup"
    """Settled rollups: the raw events of their time are gone, so that no delta can ask for them."""
    MART = "mart"
    """Derived rows: age alone decides."""


@dataclass(frozen=True)
class Policy:
    """How long the partitions of one table are kept."""

    parent: str
    kind: Kind
    keep: timedelta
    must_archive: bool = False


@dataclass(frozen=True)
class Partition:
    """One partition by time, `[lower, upper)` in UTC."""

    parent: str
    name: str
    lower: datetime
    upper: datetime


@dataclass(frozen=True)
class Plan:
    """The floor to raise first, then the partitions that go, in order."""

    floor: datetime
    removals: tuple[Partition, ...]


def line(keep: timedelta, now: datetime) -> datetime:
    """The time before which `keep` lets go: the start of a whole UTC day, so that partitions fit it."""
    return (now - keep).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def plan(
    partitions: Iterable[Partition], policies: Iterable[Policy], *, now: datetime, floor: datetime
) -> Plan:
    """Decide.

    Args:
        partitions: those that exist, in any order; of tables without a policy, they stay.
        policies: one per table; those of raw events also move the floor.
        now: the time, with zone.
        floor: the present `raw_floor`; it never goes down.

    Returns:
        raw events first and the oldest first, so that an interrupted run leaves no hole.
    """
    by_parent = {policy.parent: policy for policy in policies}
    lines = [line(policy.keep, now) for policy in by_parent.values() if policy.kind is Kind.RAW]
    raised = max([floor, *lines])
    going = [
        partition
        for partition in partitions
        if (policy := by_parent.get(partition.parent)) is not None
        and partition.upper <= line(policy.keep, now)
        and (policy.kind is Kind.MART or partition.upper <= raised)
    ]
    going.sort(key=lambda each: (by_parent[each.parent].kind is not Kind.RAW, each.upper, each.name))
    return Plan(raised, tuple(going))
