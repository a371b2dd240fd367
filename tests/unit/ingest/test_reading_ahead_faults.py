"""What goes wrong while a batch lands and the next one is read: nothing is lost, doubled, stuck or kept."""

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.ingest import accounts
from analytics_pipeline.ingest.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.storage.landing import Landed
from analytics_pipeline.storage.offsets import Claim, Span
from tests.unit.ingest.fakes import outage
from tests.unit.ingest.test_reading_ahead import BACKLOG, SlowRig
from tests.unit.ingest.test_worker import P0, P1, check, messages


@pytest.fixture
def rig() -> Iterator[SlowRig]:
    """One batch is landing until `may_end`."""
    rig = SlowRig()
    rig.worker.step()
    assert rig.worker._flight is not None
    yield rig
    rig.landings.may_end.set()
    rig.worker._leave()


def test_a_landing_that_never_ends_does_not_keep_the_process_alive() -> None:
    program = """
        import threading
        from analytics_pipeline.ingest.landing_thread import LandingThread

        class Hung:
            def land(self, *_):
                began.set()
                threading.Event().wait()

        began = threading.Event()
        LandingThread(Hung()).launch([], None)
        began.wait()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_a_partition_is_read_on_when_all_that_waited_for_the_database_is_gone(rig: SlowRig) -> None:
    """An outage had paused all of them, but only one had something in memory, and somebody moved its offset."""
    rig.go_on()
    check(rig, (P0, BACKLOG), (P1, BACKLOG))
    rig.kafka.produce(P0, messages(BACKLOG, 30))
    rig.landings.faults = outage(1)
    rig.step()
    assert rig.consumer.paused == {P0, P1}
    row = rig.database.rows[P0]
    rig.database.rows[P0] = Claim(row.next_offset + 20, row.epoch)
    rig.kafka.produce(P1, messages(BACKLOG, 5))
    rig.step(100, seconds=0.1)
    assert rig.consumer.paused == set()
    assert rig.database.rows == {P0: Claim(BACKLOG + 30, 1), P1: Claim(BACKLOG + 5, 1)}


def test_a_failed_batch_is_given_back_to_memory_at_once(rig: SlowRig) -> None:
    """Without the garbage collector, which hardly ever runs while landing: an outage has many failed batches."""
    tried: list[weakref.ref[Decoded]] = []
    land = rig.landings.land

    def remember(spans: Sequence[Span], decoded: Decoded, deltas: pa.Table | None = None) -> Landed:
        tried.append(weakref.ref(decoded))
        return land(spans, decoded, deltas)

    rig.landings.land = remember  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    try:
        rig.landings.faults = outage(5)
        rig.landings.may_end.set()
        while rig.landings.faults:
            rig.step(seconds=1)
        assert len(tried) == 4
        assert [one() for one in tried[:-1]] == [None] * 3
    finally:
        gc.enable()


class OneRound(threading.Event):
    """A stop that comes when the worker waits before it starts over."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


@pytest.mark.parametrize("error", [InvariantBroken("read 1, stored 2"), ValueError("a bug")])
def test_no_error_that_must_end_the_process_is_forgotten_when_the_group_is_left(
    rig: SlowRig, error: Exception
) -> None:
    rig.landings.faults = [error]
    rig.landings.may_end.set()
    rig.consumer.fails_next = True
    with pytest.raises(type(error)):
        rig.worker.run(OneRound())
    assert rig.consumer.is_closed
    assert rig.worker.partitions == []
    assert rig.database.is_closed, "its connection is left open"


def test_a_batch_that_lands_while_the_group_is_left_is_counted(
    rig: SlowRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Landed] = []
    monkeypatch.setattr(accounts, "landed", counted.append)
    rig.landings.may_end.set()
    rig.worker._leave()
    assert sum(line.read for batch in counted for line in batch.lines) == len(rig.database.stored) == 100


def test_a_stop_right_after_an_outage_lands_what_is_in_memory(rig: SlowRig) -> None:
    """Also when more attempts failed before it than a stop has patience for."""
    rig.landings.faults = outage(4)
    rig.landings.may_end.set()
    while rig.landings.faults:
        rig.step(seconds=1)
    held = {owned.key: owned.position for owned in rig.ownership}
    stop = threading.Event()
    stop.set()
    rig.worker.run(stop)
    check(rig, *held.items())


def test_what_is_in_memory_lands_before_a_partition_stops_whose_messages_kafka_has_deleted(
    rig: SlowRig,
) -> None:
    """They were read, and exist nowhere else any more."""
    held = {owned.key: owned.position for owned in rig.ownership}[P0]
    assert 50 < held < BACKLOG
    rig.kafka.low[P0] = BACKLOG - 1
    rig.go_on(40)
    check(rig, (P0, held), (P1, BACKLOG))
    stopped = rig.ownership._owned[P0]
    assert stopped.stopped is not None
    assert f"offsets {held} to {BACKLOG - 1} were deleted" in stopped.stopped
    assert stopped.next_offset == held


def test_a_batch_whose_answer_was_lost_counts_for_the_dead_letter_limit() -> None:
    rig = SlowRig(make_limit=lambda: DeadLetterLimit(1.0, 40))
    rig.kafka.logs[P0] = messages(0, BACKLOG, lambda _number: b"no JSON")
    rig.landings.loses_answer_after = True
    rig.landings.may_end.set()
    rig.step(100, seconds=0.5)
    check(rig, (P0, 50), (P1, BACKLOG))
    rig.worker._leave()
