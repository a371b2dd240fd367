"""Behind a backlog the next batch is read while one lands; whatever becomes of that one, nothing is lost or doubled."""

import json
import threading
from collections.abc import Sequence

import pytest

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.ingest.consumer import Fetched, PositionLost
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.memory import MemoryKafka
from analytics_pipeline.storage.landing import CommitUnknown, Deltas, Landed, TimedOut
from analytics_pipeline.storage.offsets import Claim, Span
from tests.unit.ingest.fakes import MemoryDatabase, MemoryLandings, outage
from tests.unit.ingest.test_worker import P0, P1, Rig, check, messages

LIMIT = 5.0
BACKLOG = 450


class SlowLandings(MemoryLandings):
    """Whose transactions end when they may."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.may_end = threading.Event()
        self.was_awaited = True

    def land(self, spans: Sequence[Span], decoded: Decoded, deltas: Deltas | None = None) -> Landed:
        self.was_awaited &= self.may_end.wait(LIMIT)
        return super().land(spans, decoded, deltas)


class SlowRig(Rig):
    """Both partitions have a backlog; batches of 100."""

    def __init__(self, **options: object) -> None:
        kafka = MemoryKafka()
        for key in (P0, P1):
            kafka.produce(key, messages(0, BACKLOG))
        super().__init__(kafka, MemoryDatabase(), **options)
        self.landings = SlowLandings(self.database)
        thread = LandingThread(self.landings)
        for user in (self.worker, self.ownership, self.worker._freshness):
            user._landings = thread  # type: ignore[attr-defined]

    def go_on(self, times: int = 20) -> None:
        self.landings.may_end.set()
        self.step(times)


@pytest.fixture
def rig() -> SlowRig:
    rig = SlowRig()
    rig.worker.step()  # leaves one batch landing
    assert rig.worker._flight is not None
    assert rig.database.ledger == []
    return rig


def test_a_batch_is_decoded_while_another_lands(rig: SlowRig, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = rig.worker._definitions

    def decoding() -> object:
        rig.landings.may_end.set()
        return definitions()

    monkeypatch.setattr(rig.worker, "_definitions", decoding)
    rig.worker.step()
    assert rig.landings.was_awaited, "the first batch landed before the second was decoded"
    rig.step(20)
    check(rig, (P0, BACKLOG), (P1, BACKLOG))
    assert rig.consumer.committed == {P0: BACKLOG, P1: BACKLOG}
    assert max(rig.database.batch_sizes) <= 100


def large(_number: int) -> bytes:
    return json.dumps({"event_type": "a", "user_id": "b" * 100, "properties": {"c": "d" * 800}}).encode()


SIZE = len(large(0))


def test_memory_and_batches_are_bounded_in_bytes() -> None:
    """A slow database and large messages: reading waits although there is room for many more rows."""
    rig = SlowRig(capacity=1000, capacity_bytes=50 * SIZE, batch_bytes=12 * SIZE)
    rig.kafka.logs = {P0: messages(0, BACKLOG, large)}
    rig.kafka.high = {P0: BACKLOG}
    rig.worker.step()
    fetched: list[int] = []
    fetch = rig.consumer.fetch

    def counted(most: int, timeout: float) -> Fetched:
        found = fetch(most, timeout)
        fetched.append(sum(map(len, found.messages.values())))
        return found

    rig.consumer.fetch = counted  # type: ignore[method-assign]
    buffered = []
    rig.landings.may_end.set()
    for _ in range(200):
        rig.step(1)
        buffered.append(sum(owned.buffered_bytes for owned in rig.ownership))
    check(rig, (P0, BACKLOG))
    assert max(rig.database.batch_sizes) == 12
    assert max(fetched) == 12
    assert max(buffered[10:]) <= 62 * SIZE, "a fetch more than fits"


def test_a_message_larger_than_a_batch_or_memory_lands_alone() -> None:
    rig = SlowRig(capacity_bytes=SIZE // 2, batch_bytes=SIZE // 4)
    rig.kafka.logs = {P0: messages(0, 5, large)}
    rig.kafka.high = {P0: 5}
    rig.go_on(50)
    check(rig, (P0, 5))
    assert set(rig.database.batch_sizes) == {1}


def test_after_a_timeout_no_more_is_fetched_than_lands_at_once(rig: SlowRig) -> None:
    rig.landings.faults = [TimedOut("slow")] * 3
    asked = []
    fetch = rig.consumer.fetch

    def counted(most: int, timeout: float) -> Fetched:
        asked.append(most)
        return fetch(most, timeout)

    rig.consumer.fetch = counted  # type: ignore[method-assign]
    rig.landings.may_end.set()
    rig.step(60, seconds=0.1)
    assert min(asked) <= 25
    rig.step(400, seconds=0.1)
    check(rig, (P0, BACKLOG), (P1, BACKLOG))


@pytest.mark.parametrize("fault", [EnvironmentFault("away"), TimedOut("slow"), CommitUnknown("lost")])
def test_what_was_read_ahead_is_read_anew_after_a_failure(rig: SlowRig, fault: Exception) -> None:
    rig.landings.faults = [fault, *outage(2)]
    rig.landings.may_end.set()
    rig.step(2)
    assert rig.database.ledger == []
    rig.step(400, seconds=0.1)
    check(rig, (P0, BACKLOG), (P1, BACKLOG))


def test_an_answer_lost_after_the_commit_doubles_nothing(rig: SlowRig) -> None:
    rig.landings.loses_answer_after = True
    rig.landings.may_end.set()
    rig.step(400, seconds=0.1)
    check(rig, (P0, BACKLOG), (P1, BACKLOG))


def test_a_partition_that_another_has_claimed_is_given_up_with_what_was_read_ahead(rig: SlowRig) -> None:
    row = rig.database.rows[P0]
    rig.database.rows[P0] = Claim(row.next_offset, row.epoch + 1)
    rig.go_on()
    check(rig, (P1, BACKLOG))
    assert rig.worker.partitions == [P1]


def test_a_batch_that_passes_the_limit_takes_the_one_behind_it_along() -> None:
    rig = SlowRig(make_limit=lambda: DeadLetterLimit(1.0, 40))
    rig.kafka.logs[P0] = messages(0, BACKLOG, lambda _number: b"no JSON")
    rig.go_on()
    check(rig, (P0, 50), (P1, BACKLOG))
    stopped = rig.ownership._owned[P0]
    assert stopped.stopped is not None
    assert stopped.next_offset == 50


def test_nobody_may_claim_a_partition_before_its_batch_has_ended(rig: SlowRig) -> None:
    revoking = threading.Thread(target=rig.worker._revoked, args=([P0, P1],))
    revoking.start()
    assert rig.worker.partitions == [P0, P1]
    rig.landings.may_end.set()
    revoking.join(LIMIT)
    assert rig.worker.partitions == []
    check(rig, (P0, 50), (P1, 50))


def test_a_new_consumer_goes_on_behind_the_batch_that_was_landing(rig: SlowRig) -> None:
    rig.landings.may_end.set()
    rig.worker._leave()
    check(rig, (P0, 50), (P1, 50))
    rig.step(20)
    check(rig, (P0, BACKLOG), (P1, BACKLOG))
    assert len(rig.consumers) == 2


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_stop_lands_what_is_in_memory(
    rig: SlowRig, monkeypatch: pytest.MonkeyPatch, *, is_lost: bool
) -> None:
    def lost() -> None:
        stop.set()
        raise PositionLost("the group has moved on")

    stop = threading.Event()
    rig.landings.may_end.set()
    if is_lost:
        monkeypatch.setattr(rig.worker, "step", lost)
    else:
        stop.set()
    held = {owned.key: owned.position for owned in rig.ownership}
    rig.worker.run(stop)
    check(rig, *([(P0, 50), (P1, 50)] if is_lost else held.items()))
    assert rig.database.is_closed


def test_books_that_do_not_balance_are_not_forgotten_when_the_group_is_left(rig: SlowRig) -> None:
    rig.landings.faults = [InvariantBroken("read 1, stored 2")]
    rig.landings.may_end.set()
    with pytest.raises(InvariantBroken):
        rig.worker._leave()
