"""What goes wrong while a batch lands and the next one is read: nothing is lost, doubled, stuck or kept."""

import gc
import random
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

import pyarrow as pa
import pytest

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.ingest import accounts, worker
from analytics_pipeline.ingest.consumer import Fetched, Partition
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.memory import MemoryConsumer, MemoryKafka
from analytics_pipeline.storage.landing import Deltas, Landed, TimedOut
from analytics_pipeline.storage.offsets import Claim, Span
from tests.unit.ingest.fakes import MemoryDatabase, MemoryLandings, outage
from tests.unit.ingest.test_reading_ahead import BACKLOG, LIMIT, SlowRig
from tests.unit.ingest.test_worker import P0, P1, TOPIC, Rig, check, messages


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

    def remember(spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
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


def test_what_was_decoded_ahead_is_what_lands_next(rig: SlowRig) -> None:
    """Nothing is decoded twice while nothing fails."""
    decoded = [1]
    definitions = rig.worker._definitions

    def decoding() -> object:
        if any(owned.has_more for owned in rig.ownership):
            decoded.append(1)
        return definitions()

    rig.worker._definitions = decoding  # type: ignore[assignment]
    rig.go_on()
    check(rig, (P0, BACKLOG), (P1, BACKLOG))
    assert len(decoded) == len(rig.database.batch_sizes)


def test_books_that_do_not_balance_end_the_loop_also_when_kafka_takes_the_partitions_away(
    rig: SlowRig,
) -> None:
    rig.landings.faults = [InvariantBroken("read 1, stored 2")]
    rig.landings.may_end.set()
    rig.consumer.rebalance([P1])
    with pytest.raises(InvariantBroken):
        rig.step(2)
    assert rig.database.stored == []


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
    rig.step(20)
    assert sum(line.read for batch in counted for line in batch.lines) == len(rig.database.stored), "twice"


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
    assert f"offsets {held} to {BACKLOG - 1} were deleted" in stopped.stopped.text
    assert stopped.next_offset == held


def test_a_topic_made_anew_is_not_read_on_while_what_was_read_before_still_lands(rig: SlowRig) -> None:
    """Its offsets stand for other messages as soon as it has grown as long as the old one was."""
    held = {owned.key: owned.position for owned in rig.ownership}[P0]
    old, rig.kafka.logs[P0] = rig.kafka.logs[P0], []
    rig.kafka.high[P0] = 0
    rig.landings.faults = outage(1)
    rig.landings.may_end.set()
    rig.step()
    rig.kafka.produce(P0, messages(0, 2 * BACKLOG))
    rig.step(100, seconds=0.1)
    rig.kafka.logs[P0] = old
    check(rig, (P0, held), (P1, BACKLOG))
    assert rig.ownership.get(P0) is None


def test_a_batch_whose_answer_was_lost_counts_for_the_dead_letter_limit() -> None:
    rig = SlowRig(make_limit=lambda: DeadLetterLimit(1.0, 40))
    rig.kafka.logs[P0] = messages(0, BACKLOG, lambda _number: b"no JSON")
    rig.landings.loses_answer_after = True
    rig.landings.may_end.set()
    rig.step(100, seconds=0.5)
    check(rig, (P0, 50), (P1, BACKLOG))
    rig.worker._leave()


class Awaited(Future[Landed]):
    """Whose transaction ends at the latest when somebody asks for the result."""

    def __init__(self, may_end: threading.Event) -> None:
        super().__init__()
        self._may_end = may_end

    def result(self, timeout: float | None = LIMIT) -> Landed:
        self._may_end.set()
        return super().result(timeout)


class SteppedThread(LandingThread):
    """A transaction begins when it is launched, and ends when the test says so or the worker cannot go on before."""

    def __init__(self, landings: MemoryLandings) -> None:
        super().__init__(landings)
        self.may_end = threading.Event()

    def launch(self, *batch: Any) -> Future[Landed]:
        self.may_end.clear()
        answer = Awaited(self.may_end)

        def pass_on(landed: Future[Landed]) -> None:
            if (error := landed.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(landed.result())

        super().launch(*batch).add_done_callback(pass_on)
        return answer

    def _submit(self, do: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        if do != self._landings.land:
            self.may_end.set()  # it waits for everything before it
            return super()._submit(do, *args, **kwargs)

        def land() -> Landed:
            assert self.may_end.wait(LIMIT), "nobody let the transaction end"
            return do(*args, **kwargs)  # type: ignore[no-any-return]

        return super()._submit(land)


class SteppedConsumer(MemoryConsumer):
    """Brings no more than asked for, all partitions together; a rebalance lets transactions end."""

    def __init__(self, kafka: MemoryKafka, may_end: threading.Event) -> None:
        super().__init__(kafka)
        self._may_end = may_end

    def _move(self, partitions: list[Partition]) -> None:
        self._may_end.set()
        super()._move(partitions)

    def _read(self, key: Partition, most: int, fetched: Fetched) -> None:
        super()._read(key, most - sum(map(len, fetched.messages.values())), fetched)


class SteppedRig(Rig):
    """A worker whose transactions are still open while it reads on."""

    def __init__(self, kafka: MemoryKafka, database: MemoryDatabase, **options: Any) -> None:
        super().__init__(kafka, database, **options)
        self.capacity = options["capacity"]
        self.decoded_ahead = 0
        self.thread = SteppedThread(self.landings)
        for user in (self.worker, self.ownership, self.worker._freshness):
            user._landings = self.thread  # type: ignore[attr-defined]
        self._definitions, self.worker._definitions = self.worker._definitions, self._decoding

    def _make(self) -> MemoryConsumer:
        self.consumers.append(SteppedConsumer(self.kafka, self.thread.may_end))
        return self.consumer

    def _decoding(self) -> Any:
        flight = self.worker._flight
        self.decoded_ahead += flight is not None and not flight.landed.done()
        return self._definitions()

    def turn(self, seconds: float) -> None:
        """What `run` does once."""
        try:
            self.worker.step()
        except EnvironmentFault:
            self.worker._leave()
        self.time += seconds

    def let_end(self) -> None:
        flight = self.worker._flight
        if flight is not None:
            self.thread.may_end.set()
            wait([flight.landed], LIMIT)

    def stop(self) -> None:
        stop = threading.Event()
        stop.set()
        self.worker.run(stop)

    def check_now(self) -> None:
        assert sum(owned.buffered for owned in self.ownership) <= self.capacity
        for consumer in self.consumers:
            for key, offset in consumer.committed.items():
                assert offset <= self.database.rows[key].next_offset, "Kafka was told what has not landed"


def coordinates(batches: Sequence[RawBatch], **_: Any) -> Decoded:
    """Decoding as far as the loop is concerned: all are events, of which only the place is kept."""
    places = [(one.source, one.partition, message.offset()) for one in batches for message in one.messages]
    columns = zip(*places, strict=True) if places else ([], [], [])
    names = ("source", "source_partition", "source_offset")
    return Decoded(batches, pa.table(dict(zip(names, map(list, columns), strict=True))))


@pytest.mark.parametrize("seed", range(60))
def test_random_faults_in_open_transactions_lose_and_double_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers that read ahead; whatever happens may happen while a transaction is open."""
    rng = random.Random(seed)
    monkeypatch.setattr(worker, "decode_batches", coordinates)
    random.seed(seed)  # for the jitter of the back-off
    kafka, database = MemoryKafka(), MemoryDatabase()
    partitions = [(TOPIC, number) for number in range(3)]
    ends = dict.fromkeys(partitions, 100)
    left_out: set[tuple[str, int, int]] = set()
    for key in partitions:
        kafka.produce(key, messages(0, ends[key]))

    def started() -> SteppedRig:
        return SteppedRig(
            kafka, database, batch_size=rng.choice([10, 25]), capacity=rng.choice([25, 40, 200])
        )

    rigs = [started(), started()]
    ahead = 0
    for _ in range(150):
        number = rng.randrange(2)
        rig, key, action = rigs[number], rng.choice(partitions), rng.random()
        if action < 0.04:
            cut = rng.randint(0, 3)
            for one, share in zip(rigs, (partitions[:cut], partitions[cut:]), strict=True):
                if one.consumers:
                    one.consumer.rebalance(share)
        elif action < 0.10:
            rig.landings.faults += outage(rng.randint(1, 3))
        elif action < 0.16:
            rig.landings.loses_answer_after = rng.random() < 0.5
        elif action < 0.19:
            rig.landings.faults.append(TimedOut("slow"))
        elif action < 0.22:
            rig.landings.claim_faults += outage(1)
        elif action < 0.25 and rig.consumers:
            rig.consumer.fails_next = True
        elif action < 0.28 and key in database.rows:
            left_out |= skip(
                database, key, min(ends[key], database.rows[key].next_offset + rng.randint(0, 15))
            )
        elif action < 0.30:
            ahead += rig.decoded_ahead
            rig.stop()
            assert all(consumer.is_closed for consumer in rig.consumers)
            rigs[number] = started()
        elif action < 0.6:
            count = rng.randint(1, 40)
            kafka.produce(key, messages(ends[key], count))
            ends[key] += count
        rigs[number].turn(rng.choice([0.01, 0.01, 0.5, 6.0]))
        if rng.random() < 0.3:
            rigs[number].let_end()
        for one in rigs:
            one.check_now()
    for rig in rigs:
        rig.landings.faults, rig.landings.claim_faults, rig.landings.loses_answer_after = [], [], None
        ahead += rig.decoded_ahead
        rig.turn(0.0)
        rig.consumer.fails_next = False
    assert ahead > 0, "nothing was decoded while a transaction was open"
    rigs[0].consumer.rebalance(partitions)
    rigs[1].consumer.rebalance([])
    for _ in range(300):
        for rig in rigs:
            rig.turn(2.0)
            rig.check_now()
        if all(database.rows[key].next_offset == end for key, end in ends.items()):
            break
    for key in partitions:
        kafka.logs[key] = [m for m in kafka.logs[key] if (*key, m.offset()) not in left_out]
    check(rigs[0], *ends.items())
    for rig in rigs:
        rig.stop()


def skip(database: MemoryDatabase, key: Partition, target: int) -> set[tuple[str, int, int]]:
    """What `analytics offsets skip-to` does; returns what will never land."""
    row = database.rows[key]
    database.rows[key] = Claim(target, row.epoch + 1)
    database.ledger.append(Span(*key, row.next_offset, target, 0, row.epoch + 1))
    return {(*key, offset) for offset in range(row.next_offset, target)}
