"""What the landing loop needs of Kafka: the interface that `kafka` implements and `memory` plays in tests.

Belongs here: the shapes and the promises. Does not belong here: confluent-kafka, nor any policy.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.messages import Message

Partition = tuple[str, int]
"""(topic, partition number)."""

OnAssign = Callable[[Sequence[Partition]], Mapping[Partition, int]]
"""Told about a new assignment, it returns the offsets to start from; what it leaves out is not read. Never raises."""

OnRevoke = Callable[[Sequence[Partition]], None]
"""Told that partitions are gone. Never raises."""


class Bounds(NamedTuple):
    """The offsets a partition holds: `[low, high)`."""

    low: int
    high: int


@dataclass
class Fetched:
    """What one fetch brought.

    Attributes:
        messages: by partition, in the order of their offsets.
        ends: partitions whose end was reached, with the offset of what will come next.
        unreadable: partitions that cannot be read at their position any more: trimmed or made anew.
    """

    messages: dict[Partition, list[Message]] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    unreadable: set[Partition] = field(default_factory=set)


class PositionLost(EnvironmentFault):
    """Fetching failed in a way that leaves the position unknown: assign again from the last landed offset."""


class Unanswered(EnvironmentFault):
    """Kafka did not answer a question about one topic or partition; it may well answer about another."""


class Consumer(Protocol):
    """One member of the consumer group, used by one thread; callbacks run inside `fetch` and `close`."""

    def subscribe(self, topics: Sequence[str], on_assign: OnAssign, on_revoke: OnRevoke) -> None:
        """Join the group."""

    def fetch(self, most: int, timeout: float) -> Fetched:
        """Wait until `most` messages are there or `timeout` seconds have passed.

        Raises:
            PositionLost: see there.
        """

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions, from these offsets; none of them is paused any more."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Go on reading an assigned partition elsewhere."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Bring no more messages of these partitions until they are resumed."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """The opposite of `pause`."""

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the group, for lag tools alone; not waited for, failures do not matter."""

    def bounds(self, partition: Partition) -> Bounds:
        """Ask the broker.

        Raises:
            Unanswered: it does not tell.
        """

    def partitions(self, topic: str) -> Sequence[int]:
        """Numbers of all partitions that a topic has now, whoever owns them.

        Raises:
            Unanswered: the broker does not tell.
        """

    def close(self) -> None:
        """Leave the group."""
