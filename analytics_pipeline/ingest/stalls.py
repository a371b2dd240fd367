"""Partitions that do not move although Kafka holds more; pure.

Belongs here: telling a stall from idleness, back-pressure and a slow partition. Does not belong here: what is done
about it (`freshness`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from analytics_pipeline.ingest.consumer import Partition


class Kind(StrEnum):
    """What does not move."""

    FETCH = "fetch"
    """Nothing comes from Kafka although everything in memory has landed: a new consumer may help."""
    LANDING = "landing"
    """Messages are in memory and do not land: the log says what landing waits for."""


class View(NamedTuple):
    """One partition at a moment: everything before `fetched_to` was fetched, before `next_offset` landed."""

    partition: Partition
    fetched_to: int
    next_offset: int
    high: int


class Stall(NamedTuple):
    """A partition that has not moved for `seconds`; `is_new`: it was not called stalled before."""

    view: View
    kind: Kind
    seconds: float
    is_new: bool


@dataclass
class _Seen:
    view: View
    since: float
    is_told: bool = False


class Stalls:
    """Remembers since when each partition of one worker stands still.

    Args:
        patience: seconds that a partition may stand still.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: dict[Partition, _Seen] = {}

    def look(self, now: float, views: Iterable[View], *, is_reading: bool) -> list[Stall]:
        """Compare with what was seen before.

        Args:
            now: monotonic seconds.
            views: of all partitions that are read at present.
            is_reading: whether messages may come; under back-pressure nothing is expected of Kafka.
        """
        found, seen = [], {}
        for view in views:
            before = self._seen.get(view.partition)
            is_fetched = view.fetched_to >= view.high
            waits_for_kafka = view.fetched_to == view.next_offset
            is_idle = is_fetched and waits_for_kafka
            is_held_back = waits_for_kafka and not is_reading
            has_moved = before is None or before.view[1:3] != view[1:3]
            if before is None or has_moved or is_idle or is_held_back:
                seen[view.partition] = _Seen(view, now)
                continue
            seen[view.partition] = before
            seconds = now - before.since
            if seconds >= self._patience:
                kind = Kind.FETCH if waits_for_kafka else Kind.LANDING
                found.append(Stall(view, kind, seconds, is_new=not before.is_told))
                before.is_told = True
        self._seen = seen
        return found

    def forget(self, partition: Partition) -> None:
        """Give it time again."""
        self._seen.pop(partition, None)
