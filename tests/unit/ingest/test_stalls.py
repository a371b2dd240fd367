"""Partitions that stand still: told from idle ones and from back-pressure, and read by a new consumer."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from analytics_pipeline.ingest.consumer import Fetched, Partition, PositionLost
from analytics_pipeline.ingest.freshness import Freshness
from analytics_pipeline.ingest.memory import MemoryConsumer, MemoryKafka
from analytics_pipeline.ingest.stalls import Kind, Stall, Stalls, View
from analytics_pipeline.ingest.watermarks import Note
from tests.unit.ingest.fakes import MemoryDatabase, outage
from tests.unit.ingest.test_worker import P0, P1, START, Rig, check, messages

KEY = ("t", 0)
PATIENCE = 30.0


def views(fetched_to: int, next_offset: int, high: int) -> list[View]:
    return [View(KEY, fetched_to, next_offset, high)]


def kinds(stalls: list[Stall]) -> list[Kind]:
    return [stall.kind for stall in stalls]


@pytest.mark.parametrize(
    ("fetched_to", "next_offset", "high", "is_reading", "expected"),
    [
        (10, 10, 20, True, [Kind.FETCH]),
        (10, 10, 20, False, []),  # back-pressure: nothing is asked for
        (20, 10, 20, True, [Kind.LANDING]),
        (20, 10, 20, False, [Kind.LANDING]),  # Postgres is away
        (15, 10, 20, True, [Kind.LANDING]),
        (20, 20, 20, True, []),  # idle
        (20, 20, 10, True, []),  # the watermark is older than what was fetched
    ],
)
def test_what_stands_still_is_told_once_patience_is_over(
    fetched_to: int, next_offset: int, high: int, is_reading: bool, expected: list[Kind]
) -> None:
    stalls = Stalls(PATIENCE)
    seen = views(fetched_to, next_offset, high)
    assert stalls.look(0, seen, is_reading=is_reading) == []
    assert stalls.look(29.9, seen, is_reading=is_reading) == []
    found = stalls.look(30, seen, is_reading=is_reading)
    assert kinds(found) == expected
    assert all(stall.is_new for stall in found)
    again = stalls.look(31, seen, is_reading=is_reading)
    assert kinds(again) == expected
    assert not any(stall.is_new for stall in again)


@pytest.mark.parametrize("moved", [views(11, 11, 20), views(11, 10, 20), views(20, 20, 20)])
def test_any_step_gives_it_time_again(moved: list[View]) -> None:
    stalls = Stalls(PATIENCE)
    stalls.look(0, views(10, 10, 20), is_reading=True)
    stalls.look(29, moved, is_reading=True)
    assert stalls.look(58, moved, is_reading=True) == []


def test_a_pause_gives_it_time_again() -> None:
    stalls, seen = Stalls(PATIENCE), views(10, 10, 20)
    stalls.look(0, seen, is_reading=True)
    stalls.look(29, seen, is_reading=False)
    assert stalls.look(58, seen, is_reading=True) == []
    assert kinds(stalls.look(59, seen, is_reading=True)) == [Kind.FETCH]


def test_a_partition_that_was_gone_meanwhile_begins_anew() -> None:
    stalls, seen = Stalls(PATIENCE), views(10, 10, 20)
    stalls.look(0, seen, is_reading=True)
    stalls.look(10, [], is_reading=True)
    assert stalls.look(35, seen, is_reading=True) == []


class Stuck(MemoryConsumer):
    """Brings nothing of some partitions, without a word."""

    silent: frozenset[Partition] = frozenset()

    def fetch(self, most: int, timeout: float) -> Fetched:
        before = self.positions
        fetched = super().fetch(most, timeout)
        for key in self.silent & fetched.messages.keys():
            del fetched.messages[key]
            fetched.ends.pop(key, None)
            self.seek(key, before.get(key, 0))
        return fetched


class StalledRig(Rig):
    """A rig whose first consumer may fall silent; Kafka's watermarks are always fresh."""

    def __init__(self, **options: Any) -> None:
        super().__init__(MemoryKafka(), MemoryDatabase(), **options)
        self.readable: dict[Partition, int | None] = {}
        self.silent: frozenset[Partition] = frozenset()
        """For consumers made from now on."""
        self.worker._freshness = Freshness(
            self.landings, self.ownership, self, stall_after=PATIENCE, clock=lambda: self.time
        )

    def _make(self) -> MemoryConsumer:
        made = Stuck(self.kafka)
        made.silent = self.silent
        self.consumers.append(made)
        return made

    def latest(self, partition: Partition) -> Note | None:
        return Note(START, self.kafka.high.get(partition, 0))

    def readable_end(self, partition: Partition) -> int | None:
        return self.readable.get(partition, self.kafka.high.get(partition, 0))

    def silence(self, *partitions: Partition) -> None:
        assert isinstance(self.consumer, Stuck)
        self.consumer.silent = frozenset(partitions)

    def steps_until_position_lost(self) -> int:
        for steps in range(200):
            try:
                self.step(seconds=1.0)
            except PositionLost:
                self.worker._leave()  # as `run` does
                return steps
        raise AssertionError("nothing was lost")


@pytest.fixture
def rig() -> Iterator[StalledRig]:
    rig = StalledRig()
    rig.kafka.produce(P0, messages(0, 50))
    rig.kafka.produce(P1, messages(0, 30))
    rig.step(3)
    yield rig
    rig.worker._leave()


def series(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"analytics_ingest_{name}", labels) or 0.0


def test_a_silent_partition_is_read_by_a_new_consumer(rig: StalledRig) -> None:
    before = series("stalls_total", kind="fetch")
    rig.silence(P0)
    rig.kafka.produce(P0, messages(50, 10))
    rig.kafka.produce(P1, messages(30, 10))
    with pytest.raises(PositionLost, match=r"t/0@50"):
        rig.step(40, seconds=1.0)
    assert series("partitions_stalled", kind="fetch") == 1
    assert series("stalls_total", kind="fetch") == before + 1
    check(rig, (P0, 50), (P1, 40))
    rig.worker._leave()  # as `run` does
    rig.step(3, seconds=1.0)
    assert len(rig.consumers) == 2
    check(rig, (P0, 60), (P1, 40))
    assert series("partitions_stalled", kind="fetch") == 0


def test_a_new_consumer_is_given_time(rig: StalledRig) -> None:
    rig.silence(P0)
    rig.silent = frozenset({P0})
    rig.kafka.produce(P0, messages(50, 10))
    assert [rig.steps_until_position_lost() >= PATIENCE - 1 for _ in range(3)] == [True] * 3


def test_run_starts_over_by_itself(rig: StalledRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.silence(P0)
    rig.kafka.produce(P0, messages(50, 10))
    stop, step = threading.Event(), rig.worker.step

    def timed_step() -> None:
        step()
        rig.time += 1.0
        if rig.database.rows[P0].next_offset == 60:
            stop.set()

    monkeypatch.setattr(rig.worker, "step", timed_step)
    rig.worker.run(stop)
    check(rig, (P0, 60), (P1, 30))
    assert len(rig.consumers) == 2


@pytest.mark.parametrize("end", [50, None])
def test_an_open_transaction_or_an_absent_kafka_is_no_stall(rig: StalledRig, end: int | None) -> None:
    rig.silence(P0)
    rig.kafka.produce(P0, messages(50, 10))
    rig.readable[P0] = end
    rig.step(100, seconds=1.0)
    assert len(rig.consumers) == 1


def test_an_outage_of_postgres_is_told_and_keeps_the_consumer(rig: StalledRig) -> None:
    before = series("stalls_total", kind="landing")
    rig.landings.faults = outage(12)
    rig.kafka.produce(P0, messages(50, 10))
    rig.step(35, seconds=1.0)
    assert series("stalls_total", kind="landing") == before + 1
    assert series("partitions_stalled", kind="landing") == 1
    assert series("partitions", state="paused") == 2
    rig.step(60, seconds=1.0)
    check(rig, (P0, 60), (P1, 30))
    assert series("partitions_stalled", kind="landing") == 0
    assert series("partitions", state="paused") == 0
    assert len(rig.consumers) == 1
