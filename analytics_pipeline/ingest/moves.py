"""Moving a partition's offset because a person says so: what it means, and what is refused.

Belongs here: judging a target. Does not belong here: the statement and its line in the ledger (`storage.offsets`),
words for a terminal (`cli.offsets`).
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.ingest.consumer import Bounds, Partition
from analytics_pipeline.storage import offsets
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.offsets import Claim
from analytics_pipeline.storage.standings import Standing


class Refused(AnalyticsError):
    """The target cannot be, or is not what the command is for."""

    exit_code = 2


@dataclass(frozen=True)
class Move:
    """From where a partition stands to where it shall go on.

    Attributes:
        left_out: offsets that will not be read.
        read_again: offsets that will be read a second time.
        bounds: what Kafka holds.
    """

    partition: Partition
    start: int
    target: int
    bounds: Bounds

    @property
    def left_out(self) -> int:
        """Offsets between start and target that are passed over, deleted ones too."""
        return max(0, self.target - self.start)

    @property
    def read_again(self) -> int:
        """Offsets that were read before; none when the topic was made anew: these are other messages."""
        return 0 if self.start > self.bounds.high else max(0, self.start - self.target)


def plan(
    standings: Sequence[Standing],
    held: Mapping[Partition, Bounds],
    partition: Partition,
    target: int,
    *,
    may_go_back: bool,
) -> Move:
    """Judge a target.

    Args:
        standings: of all partitions.
        held: what Kafka holds.
        partition: which one to move.
        target: the next offset to read.
        may_go_back: whether offsets may be read again.

    Raises:
        Refused: unknown partition, target out of range, or a step back that was not meant.
    """
    name = f"{partition[0]}/{partition[1]}"
    row = next((one for one in standings if (one.source, one.partition) == partition), None)
    if row is None:
        known = ", ".join(f"{one.source}/{one.partition}" for one in standings if one.source == partition[0])
        sources = ", ".join(sorted({one.source for one in standings}))
        known = known or (f"the topics {sources}" if sources else "none yet")
        raise Refused(f"{name} has never been read by ingest, which knows {known}")
    if partition not in held:
        raise Refused(f"Kafka has no partition {name}")
    move = Move(partition, row.next_offset, target, held[partition])
    low, high = move.bounds
    if target < low:
        raise Refused(
            f"offset {target} of {name} is deleted: Kafka holds {low} to {high}; choose {low} or later"
        )
    if target > high:
        raise Refused(f"offset {target} of {name} does not exist yet: Kafka holds {low} to {high}")
    if not may_go_back:
        refuse_step_back(move, row.next_offset)
    return move


def refuse_step_back(move: Move, start: int) -> None:
    """Refuse to read again what lies before `start`, unless the topic was made anew.

    Raises:
        Refused: it would be read again.
    """
    if move.target < start <= move.bounds.high:
        topic, number = move.partition
        raise Refused(
            f"{topic}/{number} stands at {start}, after {move.target}: skip-to only goes forward; to read "
            f"{start - move.target} offsets again, run `analytics offsets seek {topic} {number} {move.target}`"
        )


def to_retire(
    standings: Sequence[Standing], topic: str, number: int | None, configured: Container[Partition]
) -> Sequence[Standing]:
    """The partitions of a topic, or the one, that can be retired: nobody reads them; those retired before left out.

    Args:
        standings: of all partitions.
        topic: which.
        number: its partition; None: all.
        configured: partitions that Kafka has of the topics in the configuration: an ingest process would read them.

    Raises:
        Refused: ingest never read it, or the configuration says to read it, or a process that runs owns it.
    """
    name = topic if number is None else f"{topic}/{number}"
    rows = [row for row in standings if row.source == topic and number in (None, row.partition)]
    if not rows:
        known = ", ".join(sorted({row.source for row in standings})) or "none yet"
        raise Refused(f"{name} has never been read by ingest, which knows the topics {known}")
    if any((row.source, row.partition) in configured for row in rows):
        raise Refused(
            f"{name} is in the configuration, and ingest would read it again at its next start: take {topic} out of "
            "kafka.topics, restart ingest, then retire it"
        )
    if any(row.is_owner_connected for row in rows):
        raise Refused(
            f"{name} is read by an ingest process that runs; take {topic} out of kafka.topics, restart ingest, "
            "then retire it"
        )
    return [row for row in rows if not row.is_retired]


def carry_out(connection: Connection, conninfo: str, move: Move, *, note: str, may_go_back: bool) -> Claim:
    """Move, with a line in the ledger; landing may have gone on since the plan was made.

    Returns:
        Where the partition stood really.

    Raises:
        Refused: by now it would be a step back that was not meant.
        Moved: somebody claimed the partition meanwhile.
    """

    def check(start: int) -> None:
        if not may_go_back:
            refuse_step_back(move, start)

    return offsets.skip_to(connection, conninfo, move.partition, move.target, note=note, check=check)
