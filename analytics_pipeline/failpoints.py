"""Named moments of landing, rollups and retention at which tests end, freeze or hold the process; off in production.

Belongs here: the moments, and what can happen at them. Does not belong here: deciding when to arm one
(`ingest.__main__`, from the environment variable `VARIABLE`), or what a fault must not do (the tests).

Not armed, `fail_at` compares one name with None.
"""

import os
import signal
import threading
from enum import StrEnum

VARIABLE = "ANALYTICS_FAIL_AT"
"""Environment variable of the landing process: `<point>:<kill or stop>:<passage>`, such as `mid_copy:kill:3`."""


class FailPoint(StrEnum):
    """The moments, in the order of a batch's life; then those of a rebalance."""

    AFTER_CONSUME = "after_consume"
    AFTER_DECODE = "after_decode"
    IN_ADMISSION = "in_admission"
    """A UTC day is held to admit series that this process does not know yet; none is admitted."""
    BEFORE_COPY = "before_copy"
    MID_COPY = "mid_copy"
    """Half of the bytes of a COPY are sent: of events, dead letters or deltas."""
    AFTER_COPY = "after_copy"
    AFTER_DEAD_LETTERS = "after_dead_letters"
    AFTER_DELTAS = "after_deltas"
    AFTER_CAS = "after_cas"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    BEFORE_KAFKA_COMMIT = "before_kafka_commit"
    IN_ON_ASSIGN = "in_on_assign"
    """Inside Kafka's callback: epochs are raised, nothing is read yet."""
    IN_ON_REVOKE = "in_on_revoke"
    """Inside Kafka's callback: what is in memory is about to be forgotten."""


class RunPoint(StrEnum):
    """The moments of runs over what has landed: of a merge, a recompute, a removal of a partition, in their order."""

    DELTAS_TAKEN = "deltas_taken"
    """Hour and day are held; the deltas are deleted, and no level has them yet."""
    LEVELS_WRITTEN = "levels_written"
    """All five levels have the deltas; not committed."""
    HOUR_LOCKED = "hour_locked"
    """A recompute holds its hour, and has no snapshot yet."""
    SNAPSHOT_TAKEN = "snapshot_taken"
    """Its snapshot is there; no raw event is read yet."""
    SNAPSHOT_READ = "snapshot_read"
    """The hour is computed; the day is not held, nothing is written."""
    ROWS_REPLACED = "rows_replaced"
    """All five levels are replaced, the deltas deleted; not committed."""
    FLOOR_RAISED = "floor_raised"
    """Retention has raised the floor above what goes, and done nothing else."""
    PARTITION_PLANNED = "partition_planned"
    """This and all of that name: the step of `retention_removals` is noted, the next not begun."""
    REST_MERGED = "rest_merged"
    """No delta of the partition's time is left; not noted."""
    PARTITION_MERGED = "partition_merged"
    HOURS_FREEZING = "hours_freezing"
    """Retention holds the hours of a day, which is not frozen yet."""
    DAY_FROZEN = "day_frozen"
    """The day is frozen; not noted."""
    PARTITION_FROZEN = "partition_frozen"
    PARTITION_DETACHING = "partition_detaching"
    TABLE_DETACHED = "table_detached"
    """The partition is a table of its own; not noted."""
    PARTITION_DETACHED = "partition_detached"
    ARCHIVE_BEGUN = "archive_begun"
    """The folder of its archive is noted, nothing is written."""
    ARCHIVE_PART_WRITTEN = "archive_part_written"
    """A file has its rows, but on a disk not yet its name."""
    ARCHIVE_WRITTEN = "archive_written"
    """All files are whole; what they hold is not noted."""
    PARTITION_ARCHIVED = "partition_archived"
    ARCHIVE_READ = "archive_read"
    """The files were read back and are right; not noted."""
    PARTITION_VERIFIED = "partition_verified"
    TABLE_DROPPED = "table_dropped"
    """The table is gone; not noted."""
    PARTITION_DROPPED = "partition_dropped"


Point = FailPoint | RunPoint


class Fault(StrEnum):
    """What happens to the process, without any chance to clean up."""

    KILL = "kill"
    STOP = "stop"

    @property
    def signal(self) -> signal.Signals:
        """SIGKILL or SIGSTOP."""
        return signal.SIGKILL if self is Fault.KILL else signal.SIGSTOP


class _Armed:
    """Counts the passages of one point, over all threads, and strikes once."""

    def __init__(self, point: Point, fault: Fault, passage: int) -> None:
        self._point = point
        self._fault = fault
        self._left = passage
        self._lock = threading.Lock()

    def passed(self, point: Point) -> None:
        if point is not self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._fault.signal)


_POINTS: dict[str, Point] = {point.value: point for point in (*FailPoint, *RunPoint)}
_armed: _Armed | None = None


def fail_at(point: Point) -> None:
    """Say that the process passes a point; the fault strikes here if this is the armed passage."""
    if _armed is not None:
        _armed.passed(point)


def arm(what: str) -> None:
    """Arm one point of this process; an empty text arms none.

    Args:
        what: see `VARIABLE`.

    Raises:
        ValueError: it is not written like that, with one sentence for whoever wrote it.
    """
    global _armed
    if not what:
        _armed = None
        return
    try:
        point, fault, passage = what.split(":")
        number = int(passage)
        armed = _Armed(_POINTS[point], Fault(fault), number)
    except (KeyError, ValueError):
        number = 0
    if number < 1:
        raise ValueError(
            "write <point>:<fault>:<passage>, such as mid_copy:kill:3; the points are "
            f"{', '.join(_POINTS)}; the faults are {' and '.join(Fault)}; passages count from 1"
        )
    _armed = armed
