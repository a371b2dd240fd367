"""Kafka in memory, for tests of the landing loop without I/O: the same promises as `kafka`.

Rebalances happen when the test says so, inside the next `fetch`, as in the real client.
"""

from collections.abc import Iterable, Mapping, Sequence

from analytics_pipeline.events.messages import Message
from analytics_pipeline.ingest.consumer import (
    Bounds,
    Fetched,
    OnAssign,
    OnRevoke,
    Partition,
    PositionLost,
    Unanswered,
)


class MemoryKafka:
    """The broker's side: what each partition holds."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[Message]] = {}
        self.low: dict[Partition, int] = {}
        self.high: dict[Partition, int] = {}
        self.silent: set[Partition] = set()
        """Partitions without a leader: nobody tells their offsets."""

    def produce(self, partition: Partition, messages: Iterable[Message]) -> None:
        """Append; offsets are those of the messages."""
        log = self.logs.setdefault(partition, [])
        log.extend(messages)
        self.high[partition] = max(self.high.get(partition, 0), log[-1].offset() + 1 if log else 0)

    def end(self, partition: Partition, offset: int) -> None:
        """Move the end without a message, as a control record does."""
        self.logs.setdefault(partition, [])
        self.high[partition] = offset


class MemoryConsumer:
    """One member; see `consumer.Consumer`."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._told_ends: dict[Partition, int] = {}
        self._assign_next: list[Partition] | None = None
        self._on_assign: OnAssign | None = None
        self._on_revoke: OnRevoke | None = None
        self.committed: dict[Partition, int] = {}
        self.fails_next = False
        self.is_closed = False

    def rebalance(self, partitions: Sequence[Partition]) -> None:
        """From the next fetch on, own exactly these."""
        self._assign_next = list(partitions)

    @property
    def positions(self) -> dict[Partition, int]:
        """What is assigned, and where reading goes on."""
        return dict(self._positions)

    @property
    def paused(self) -> set[Partition]:
        """What is paused."""
        return set(self._paused)

    def subscribe(self, topics: Sequence[str], on_assign: OnAssign, on_revoke: OnRevoke) -> None:
        """Join: everything of these topics is assigned at the first fetch."""
        self._on_assign, self._on_revoke = on_assign, on_revoke
        self.rebalance(sorted(key for key in self._kafka.logs if key[0] in topics))

    def fetch(self, most: int, timeout: float) -> Fetched:  # noqa: ARG002
        """What is there at once; never waits."""
        if self._assign_next is not None:
            self._move(self._assign_next)
            self._assign_next = None
        if self.fails_next:
            self.fails_next = False
            raise PositionLost("the test said so")
        fetched = Fetched()
        for key in self._positions:
            if key not in self._paused:
                self._read(key, most, fetched)
        return fetched

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these."""
        self._positions, self._paused, self._told_ends = dict(positions), set(), {}

    def seek(self, partition: Partition, offset: int) -> None:
        """Go on elsewhere."""
        self._positions[partition] = offset
        self._told_ends.pop(partition, None)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Bring nothing."""
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Bring again."""
        self._paused -= set(partitions)

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Remember."""
        self.committed.update(positions)

    def bounds(self, partition: Partition) -> Bounds:
        """What the log holds."""
        if partition in self._kafka.silent:
            raise Unanswered("the test said so")
        return Bounds(self._kafka.low.get(partition, 0), self._kafka.high.get(partition, 0))

    def partitions(self, topic: str) -> Sequence[int]:
        """Those with a log."""
        return sorted(number for name, number in self._kafka.logs if name == topic)

    def close(self) -> None:
        """Leave: everything is revoked."""
        self._move([])
        self.is_closed = True

    def _move(self, partitions: list[Partition]) -> None:
        assert self._on_assign is not None
        assert self._on_revoke is not None
        if self._positions:
            self._on_revoke(list(self._positions))
            self.assign({})
        if partitions:
            self.assign(self._on_assign(partitions))

    def _read(self, key: Partition, most: int, fetched: Fetched) -> None:
        position, bounds = self._positions[key], self.bounds(key)
        if not bounds.low <= position <= bounds.high:
            fetched.unreadable.add(key)
            return
        found = [m for m in self._kafka.logs.get(key, []) if m.offset() >= position][:most]
        if found:
            fetched.messages[key] = found
            self._positions[key] = found[-1].offset() + 1
        if len(found) < most and self._told_ends.get(key) != bounds.high:
            self._told_ends[key] = bounds.high
            fetched.ends[key] = bounds.high
