"""The landing loop against Kafka and a database in memory: nothing lost, nothing doubled, whatever fails."""

import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import wait
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage
from analytics_pipeline.ingest.consumer import Bounds, Partition, PositionLost
from analytics_pipeline.ingest.freshness import Freshness
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.memory import MemoryConsumer, MemoryKafka
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.ingest.watermarks import Note
from analytics_pipeline.ingest.worker import Pace, Worker
from analytics_pipeline.storage.landing import TimedOut
from analytics_pipeline.storage.offsets import Claim
from analytics_pipeline.telemetry import INGEST_LAG
from tests.unit.ingest.fakes import MemoryDatabase, MemoryLandings, outage

START = datetime(2024, 5, 15, 12, tzinfo=UTC)
TOPIC = "t"
P0, P1 = (TOPIC, 0), (TOPIC, 1)


class Rig:
    """A worker with hand-turned clock."""

    def __init__(self, kafka: MemoryKafka, database: MemoryDatabase, **options: Any) -> None:
        self.kafka, self.database = kafka, database
        self.time = 1000.0
        self.consumers: list[MemoryConsumer] = []
        self.landings = MemoryLandings(database)
        thread = LandingThread(self.landings)
        self.notes: dict[Partition, Note] = {}
        self.ownership = Ownership(
            thread,
            is_from_start=options.pop("is_from_start", True),
            make_limit=options.pop("make_limit", lambda: DeadLetterLimit(0.5, 1000)),
            patience=10,
            clock=lambda: self.time,
        )
        self.worker = Worker(
            make_consumer=self._make,
            topics=[TOPIC],
            landings=thread,
            ownership=self.ownership,
            freshness=Freshness(thread, self.ownership, self),
            definitions=lambda: NO_DEFINITIONS,
            limits=Limits(),
            pace=Pace(**{"batch_size": 100, "batch_timeout": 0.0, "capacity": 1000, **options}),
            now=lambda: START + timedelta(seconds=self.time - 1000),
            clock=lambda: self.time,
        )

    def latest(self, partition: Partition) -> Note | None:
        return self.notes.get(partition)

    @property
    def consumer(self) -> MemoryConsumer:
        return self.consumers[-1]

    def _make(self) -> MemoryConsumer:
        self.consumers.append(MemoryConsumer(self.kafka))
        return self.consumer

    def step(self, times: int = 1, seconds: float = 0.01) -> None:
        for _ in range(times):
            self.worker.step()
            if self.worker._flight is not None:
                wait([self.worker._flight.landed])
            self.time += seconds


def messages(
    first: int, count: int, content: Callable[[int], bytes | None] | None = None
) -> list[PlainMessage]:
    def event(number: int) -> bytes:
        return json.dumps({"event_type": "a", "user_id": str(number)}).encode()

    millis = int(START.timestamp() * 1000)
    return [PlainMessage((content or event)(n), n, millis) for n in range(first, first + count)]


@pytest.fixture
def rig() -> Rig:
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 50))
    kafka.produce(P1, messages(0, 30))
    return Rig(kafka, MemoryDatabase())


def check(rig: Rig, *expected: tuple[Partition, int]) -> None:
    """Everything up to these offsets has landed once, and the ledger has no gap."""
    wanted = sorted(
        (*key, message.offset())
        for key, end in expected
        for message in rig.kafka.logs[key]
        if message.offset() < end
    )
    assert sorted(rig.database.stored + rig.database.dead) == wanted
    for key, end in expected:
        spans = [span for span in rig.database.ledger if span.key == key]
        assert all(a.next_offset == b.first_offset for a, b in pairwise(spans))
        assert (spans[-1].next_offset if spans else end) == end


def test_everything_lands_and_the_group_is_told(rig: Rig) -> None:
    rig.step(3)
    check(rig, (P0, 50), (P1, 30))
    assert rig.consumer.committed == {P0: 50, P1: 30}


def test_a_small_partition_does_not_wait_behind_a_large_one(rig: Rig) -> None:
    rig.kafka.produce(P0, messages(50, 850))
    rig.step(1)
    check(rig, (P0, 70), (P1, 30))


def test_a_batch_is_never_larger_than_asked(rig: Rig) -> None:
    rig.kafka.produce(P0, messages(50, 1000))
    rig.step(30)
    check(rig, (P0, 1050), (P1, 30))
    assert max(rig.database.batch_sizes) <= 100


def test_rows_wait_for_company_but_not_longer_than_the_timeout() -> None:
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 5))
    rig = Rig(kafka, MemoryDatabase(), batch_timeout=1.0)
    rig.step(5, seconds=0.1)
    assert rig.database.ledger == []
    kafka.produce(P0, messages(5, 5))
    rig.step(6, seconds=0.1)
    assert rig.database.batch_sizes == [10]
    kafka.produce(P0, messages(10, 100))
    rig.step(1, seconds=0.1)
    assert rig.database.batch_sizes == [10, 100], "a full batch does not wait"


def test_an_outage_loses_nothing_and_the_loop_keeps_polling(rig: Rig) -> None:
    rig.landings.faults = outage(4)
    rig.step(1)
    assert rig.consumer.paused == {P0, P1}
    rig.kafka.produce(P0, messages(50, 10))
    rig.step(400, seconds=0.1)
    check(rig, (P0, 60), (P1, 30))
    assert rig.consumer.paused == set()


def test_memory_stays_bounded_in_an_outage(rig: Rig) -> None:
    rig.kafka.produce(P0, messages(50, 10_000))
    rig.landings.faults = outage(30)
    for _ in range(50):
        rig.step(1)
        assert sum(owned.buffered for owned in rig.ownership) <= 1000 + 100
    rig.step(2000, seconds=0.1)
    check(rig, (P0, 10_050), (P1, 30))


def test_a_timeout_halves_the_batch_and_success_grows_it_again(rig: Rig) -> None:
    rig.kafka.produce(P0, messages(50, 300))
    rig.landings.faults = [TimedOut("slow"), TimedOut("slow")]
    rig.step(40, seconds=1)
    check(rig, (P0, 350), (P1, 30))
    assert rig.database.batch_sizes[0] <= 25
    assert max(rig.database.batch_sizes) > 50


@pytest.mark.parametrize("was_done", [True, False])
def test_a_commit_without_an_answer_is_resolved(rig: Rig, was_done: bool) -> None:
    rig.landings.loses_answer_after = was_done
    rig.step(20, seconds=1)
    check(rig, (P0, 50), (P1, 30))
    assert rig.consumer.committed == {P0: 50, P1: 30}


def test_a_partition_that_is_taken_away_is_dropped_and_the_others_go_on(rig: Rig) -> None:
    rig.landings.faults = outage(1)
    rig.step(1)
    rig.database.rows[P0] = rig.database.rows[P0]._replace(epoch=9)
    rig.step(10, seconds=0.1)
    check(rig, (P1, 30))
    assert rig.worker.partitions == [P1]


def test_a_partition_that_kafka_leaves_with_us_is_claimed_again(rig: Rig) -> None:
    rig.landings.faults = outage(1)
    rig.step(1)
    rig.database.rows[P0] = rig.database.rows[P0]._replace(epoch=9)
    rig.step(200, seconds=0.1)
    check(rig, (P0, 50), (P1, 30))
    assert rig.database.rows[P0].epoch == 10


def test_only_the_offset_moved_means_drop_and_seek(rig: Rig) -> None:
    rig.landings.faults = outage(1)
    rig.step(1)
    rig.database.rows[P0] = rig.database.rows[P0]._replace(next_offset=20)
    rig.step(20, seconds=0.1)
    assert sorted(offset for _, number, offset in rig.database.stored if number == 0) == list(range(20, 50))
    assert rig.database.dead == []


def test_a_rebalance_drops_the_memory_and_the_next_owner_reads_it_again(rig: Rig) -> None:
    rig.landings.faults = outage(1)
    rig.step(1)
    other = Rig(rig.kafka, rig.database)
    rig.consumer.rebalance([P1])
    rig.step(1)
    other.step(1)
    other.consumer.rebalance([P0])
    other.step(5)
    rig.step(300, seconds=0.1)
    check(rig, (P0, 50), (P1, 30))
    assert rig.worker.partitions == [P1]


def test_a_claim_that_fails_is_tried_again_and_nothing_is_read_before(rig: Rig) -> None:
    rig.landings.claim_faults = outage(3)
    rig.step(1)
    assert rig.consumer.positions == {}, "never the group's offsets, never a guess"
    rig.step(100, seconds=0.1)
    check(rig, (P0, 50), (P1, 30))


def test_a_partition_that_kafka_is_silent_about_keeps_no_other_from_being_claimed(rig: Rig) -> None:
    rig.kafka.silent.add(P0)
    rig.step(3)
    assert list(rig.consumer.positions) == [P1]
    check(rig, (P1, 30))
    rig.step(20, seconds=1)
    rig.kafka.silent.clear()
    rig.step(10, seconds=1)
    check(rig, (P0, 50), (P1, 30))


def test_a_row_that_cannot_be_claimed_keeps_no_other_from_being_claimed(rig: Rig) -> None:
    claim = rig.landings.claim

    def refuse(partition: Partition, *where: Any) -> Claim:
        if partition == P0:
            raise outage(1)[0]
        return claim(partition, *where)

    rig.landings.claim = refuse  # type: ignore[method-assign]
    rig.step(10, seconds=1)
    check(rig, (P1, 30))


def test_messages_are_fetched_between_questions_that_kafka_does_not_answer() -> None:
    kafka = MemoryKafka()
    for number in range(6):
        kafka.produce((TOPIC, number), messages(0, 10))
    rig = Rig(kafka, MemoryDatabase())
    asked: list[Partition] = []
    bounds = MemoryConsumer.bounds

    def slowly(consumer: MemoryConsumer, key: Partition) -> Bounds:
        if key in kafka.silent:
            asked.append(key)
            rig.time += 5.0
        return bounds(consumer, key)

    kafka.silent |= {(TOPIC, number) for number in range(4)}
    rig.step(1)
    rig.consumer.bounds = partial(slowly, rig.consumer)  # type: ignore[method-assign]
    rig.consumer.rebalance([(TOPIC, number) for number in range(6)])
    rounds, began = [], rig.time
    for _ in range(1000):
        before = len(asked)
        rig.step(1, seconds=0.1)
        rounds.append(len(asked) - before)
    assert max(rounds) == 1
    assert set(asked) == kafka.silent
    assert 5.0 * len(asked) < (rig.time - began) / 2, "it waits for answers most of its time"
    check(rig, ((TOPIC, 4), 10), ((TOPIC, 5), 10))


def test_a_broken_invariant_inside_a_callback_ends_the_loop(rig: Rig) -> None:
    rig.landings.claim_faults = [InvariantBroken("no")]
    with pytest.raises(InvariantBroken):
        rig.step(1)
    assert rig.consumer.positions == {}, "nothing is read after that, from nowhere"


def test_after_an_exception_of_the_client_reading_starts_at_what_landed(rig: Rig) -> None:
    rig.landings.faults = outage(1)
    rig.step(1)
    stop = threading.Event()
    rig.consumer.fails_next = True
    landing = threading.Thread(target=rig.worker.run, args=(stop,))
    stop.set()
    landing.start()
    landing.join(10)
    again = Rig(rig.kafka, rig.database)
    again.step(5)
    check(again, (P0, 50), (P1, 30))


def test_a_lost_position_makes_a_new_member() -> None:
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 10))
    rig = Rig(kafka, MemoryDatabase())
    rig.step(1)
    rig.consumer.fails_next = True
    kafka.produce(P0, messages(10, 10))
    stop = threading.Event()

    def landed_all() -> bool:
        return len(rig.database.stored) == 20

    landing = threading.Thread(target=rig.worker.run, args=(stop,))
    landing.start()
    for _ in range(2000):
        if landed_all():
            break
        stop.wait(0.005)
    stop.set()
    landing.join(10)
    check(rig, (P0, 20))
    assert len(rig.consumers) == 2
    assert rig.consumers[0].is_closed


def test_a_stop_lands_what_is_in_memory(rig: Rig) -> None:
    slow = Rig(rig.kafka, rig.database, batch_timeout=60.0)
    slow.step(1)
    assert rig.database.ledger == []
    stop = threading.Event()
    stop.set()
    slow.worker.run(stop)
    check(slow, (P0, 50), (P1, 30))
    assert slow.consumer.is_closed
    assert rig.database.is_closed


def test_a_stop_in_an_outage_gives_up_and_loses_nothing(rig: Rig) -> None:
    rig.landings.faults = outage(100)
    rig.step(1)
    stop = threading.Event()
    stop.set()
    rig.worker.run(stop)
    again = Rig(rig.kafka, rig.database)
    again.step(5)
    check(again, (P0, 50), (P1, 30))


def test_offsets_without_messages_are_skipped_over() -> None:
    """Compacted gaps, and control records at the end."""
    kafka = MemoryKafka()
    kafka.produce(P0, [m for m in messages(0, 20) if m.offset() % 3 == 0])
    kafka.end(P0, 25)
    rig = Rig(kafka, MemoryDatabase())
    rig.step(3)
    assert rig.database.rows[P0].next_offset == 25
    check(rig, (P0, 25))
    kafka.end(P0, 27)
    rig.step(3)
    assert rig.database.rows[P0].next_offset == 27


def test_a_new_topic_is_read_from_its_end_when_asked_but_new_partitions_from_their_start() -> None:
    kafka, added = MemoryKafka(), (TOPIC, 2)
    kafka.produce(P0, messages(0, 10))
    kafka.produce(P1, messages(0, 20))
    rig = Rig(kafka, MemoryDatabase(), is_from_start=False)
    rig.step(2)
    assert {key: row.next_offset for key, row in rig.database.rows.items()} == {P0: 10, P1: 20}
    kafka.produce(added, messages(0, 5))
    rig.consumer.rebalance([P0, P1, added])
    rig.step(2)
    check(rig, (added, 5))


def test_a_new_topic_is_not_begun_before_all_of_its_ends_are_known() -> None:
    """What is claimed makes the topic known, and the rest of it would be read from its beginning."""
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 10))
    kafka.produce(P1, messages(0, 20))
    kafka.silent.add(P1)
    rig = Rig(kafka, MemoryDatabase(), is_from_start=False)
    rig.step(3, seconds=10)
    assert rig.database.rows == {}
    kafka.silent.clear()
    rig.step(3, seconds=30)
    assert {key: row.next_offset for key, row in rig.database.rows.items()} == {P0: 10, P1: 20}


@pytest.mark.parametrize(("low", "high"), [(5, 50), (0, 2)])
def test_a_partition_trimmed_or_made_anew_stops_and_only_that_one(low: int, high: int) -> None:
    kafka, database = MemoryKafka(), MemoryDatabase()
    kafka.produce(P0, messages(0, 3))
    kafka.produce(P1, messages(0, 3))
    Rig(kafka, database).step(3)
    kafka.logs[P0] = [m for m in messages(0, 50) if low <= m.offset() < high]
    kafka.low[P0], kafka.high[P0] = low, high
    kafka.produce(P1, messages(3, 7))
    rig = Rig(kafka, database)
    rig.step(5)
    assert database.rows[P0].next_offset == 3
    assert database.rows[P1].next_offset == 10
    assert list(rig.consumer.positions) == [P1]

    database.rows[P0] = database.rows[P0]._replace(next_offset=low, epoch=77)
    rig.step(10, seconds=1)
    assert database.rows[P0].next_offset == high, "somebody moved the offset: it goes on"


def test_a_partition_trimmed_while_it_is_read_stops(rig: Rig) -> None:
    rig.step(3)
    rig.kafka.low[P0] = rig.kafka.high[P0] = 1000
    rig.kafka.produce(P1, messages(30, 5))
    rig.step(5)
    check(rig, (P0, 50), (P1, 35))
    assert rig.consumer.paused == {P0}


def test_too_many_dead_letters_stop_the_partition_and_only_that_one() -> None:
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 500, lambda _number: b"broken"))
    kafka.produce(P1, messages(0, 500))
    rig = Rig(kafka, MemoryDatabase(), make_limit=lambda: DeadLetterLimit(0.5, 100))
    rig.step(50)
    assert 100 <= len(rig.database.dead) < 500
    assert len(rig.database.stored) == 500
    assert rig.ownership.get(P0) is None
    check(rig, (P0, rig.database.rows[P0].next_offset), (P1, 500))


def test_a_batch_in_flight_counts_once_for_a_partition_that_is_claimed_anew() -> None:
    """The claim recalls it from the ledger; then its landing is heard of."""
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 60, lambda _number: b"broken"))
    kafka.produce(P1, messages(0, 200))
    rig = Rig(kafka, MemoryDatabase(), make_limit=lambda: DeadLetterLimit(0.5, 80))
    rig.step()
    assert rig.worker._flight is not None
    rig.consumer.rebalance([P1])
    rig.consumer.rebalance([P0, P1])
    rig.step(20)
    assert len(rig.database.dead) == 60
    assert rig.ownership.get(P0) is not None, "60 dead letters are not 80"


def test_a_passed_dead_letter_limit_is_remembered_until_somebody_decides() -> None:
    """A new owner stops at once, without another batch of dead letters; after the decision it starts counting anew."""
    kafka, database = MemoryKafka(), MemoryDatabase()
    kafka.produce(P0, messages(0, 150, lambda _number: b"broken") + messages(150, 50))
    make_limit = {"make_limit": lambda: DeadLetterLimit(0.5, 100)}
    first = Rig(kafka, database, **make_limit)
    first.step(20)
    at = database.rows[P0].next_offset
    assert at == 100
    kafka.produce(P1, messages(0, 10))
    first.consumer.rebalance([P0, P1])
    for rig in (first, Rig(kafka, database, **make_limit)):
        rig.step(20)
        assert database.rows[P0].next_offset == at
        owned = next(owned for owned in rig.ownership._owned.values() if owned.key == P0)
        assert owned.stopped is not None
        assert "the last 100 messages all became dead letters" in owned.stopped.text
        assert "analytics offsets skip-to t 0 100" in owned.stopped.text
    rig.landings.decide(P0)
    rig.step(500, seconds=0.1)
    check(rig, (P0, 200), (P1, 10))


def test_freshness_follows_the_watermark_with_and_without_messages(rig: Rig) -> None:
    early, later = START, START + timedelta(seconds=3)
    rig.notes[P0] = Note(early, 50)
    rig.step(3, seconds=1)
    assert rig.database.caught_up == {P0: early}
    rig.notes[P0] = Note(later, 51)
    rig.step(3, seconds=1)
    assert rig.database.caught_up == {P0: early}, "the watermark is ahead of what has landed"
    rig.kafka.produce(P0, messages(50, 1))
    rig.step(3, seconds=1)
    assert rig.database.caught_up == {P0: later}


def lags() -> dict[Partition, float]:
    return {(TOPIC, n): INGEST_LAG.labels(TOPIC, str(n))._value.get() for n in (0, 1)}


def test_a_partition_that_was_taken_away_leaves_no_lag_behind(rig: Rig) -> None:
    rig.notes = {P0: Note(START, 57), P1: Note(START, 39)}
    rig.step(3)
    assert all(lags().values())
    rig.ownership.lose(P1)
    assert [bool(lag) for lag in lags().values()] == [True, False], "claimed by another process"
    rig.consumer.rebalance([])
    rig.step(1)
    assert not any(lags().values()), "revoked by Kafka"


def sometimes_broken(number: int) -> bytes:
    return b"broken" if number % 11 == 0 else b'{"event_type":"a"}'


@pytest.mark.parametrize("seed", range(12))
def test_random_faults_lose_and_double_nothing(seed: int) -> None:
    """Two workers, rebalances, outages, lost answers, timeouts: in the end every message has landed once."""
    rng = random.Random(seed)
    kafka, database = MemoryKafka(), MemoryDatabase()
    partitions = [(TOPIC, number) for number in range(3)]
    for key in partitions:
        kafka.produce(key, messages(0, 40))
    rigs = [Rig(kafka, database, capacity=rng.choice([20, 200])) for _ in range(2)]
    for rig in rigs:
        rig.step(1)
    ends = dict.fromkeys(partitions, 40)
    for _ in range(150):
        rig = rng.choice(rigs)
        action = rng.random()
        if action < 0.1:
            cut = rng.randint(0, 3)
            rigs[0].consumer.rebalance(partitions[:cut])
            rigs[1].consumer.rebalance(partitions[cut:])
        elif action < 0.2:
            rig.landings.faults += outage(rng.randint(1, 3))
        elif action < 0.3:
            rig.landings.loses_answer_after = rng.random() < 0.5
        elif action < 0.35:
            rig.landings.faults.append(TimedOut("slow"))
        elif action < 0.4:
            rig.landings.claim_faults += outage(1)
        elif action < 0.7:
            key = rng.choice(partitions)
            count = rng.randint(1, 30)
            kafka.produce(key, messages(ends[key], count, sometimes_broken))
            ends[key] += count
        rig.step(1, seconds=rng.choice([0.01, 0.5, 6.0]))
    for rig in rigs:
        rig.landings.faults, rig.landings.claim_faults, rig.landings.loses_answer_after = [], [], None
    rigs[0].consumer.rebalance(partitions)
    rigs[1].consumer.rebalance([])
    for _ in range(100):
        for rig in rigs:
            rig.step(1, seconds=2)
    check(rigs[0], *ends.items())


def test_the_fault_of_an_unknown_kind_ends_the_loop(rig: Rig) -> None:
    rig.landings.faults = [ValueError("a bug")]
    with pytest.raises(ValueError, match="a bug"):
        rig.step(1)
    assert issubclass(TimedOut, EnvironmentFault)


def test_a_stop_is_orderly_also_when_the_position_is_lost_meanwhile(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory then is read again by the next owner."""
    slow = Rig(rig.kafka, rig.database, batch_timeout=100)
    slow.step(2)
    rig.database.rows[P0] = Claim(0, 99)
    rig.database.rows[P1] = Claim(10, rig.database.rows[P1].epoch)

    def fail(*_: object) -> None:
        raise PositionLost("the client is broken")

    monkeypatch.setattr(slow.consumer, "seek", fail)
    stop = threading.Event()
    stop.set()
    slow.worker.run(stop)
    assert rig.database.stored == []
    assert slow.consumer.is_closed
