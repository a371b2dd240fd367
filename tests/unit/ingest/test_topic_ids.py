"""A topic that was deleted and made anew: its offsets exist, and stand for other messages."""

from datetime import datetime

import pytest

from analytics_pipeline.ingest.consumer import Unanswered
from analytics_pipeline.ingest.memory import MemoryKafka
from analytics_pipeline.ingest.watermarks import Note
from analytics_pipeline.storage.standings import StopReason
from analytics_pipeline.telemetry import INGEST_STOPPED
from tests.unit.ingest.fakes import MemoryDatabase, outage
from tests.unit.ingest.test_worker import P0, P1, START, TOPIC, Rig, check, lags, messages


class Ids:
    """What Kafka says now, and what it said last."""

    def __init__(self) -> None:
        self.now: str | None = "first"
        self.heard: str | None = "first"

    def ask(self, topic: str) -> str | None:
        assert topic == TOPIC
        if self.now == "nobody answers":
            raise Unanswered(self.now)
        return self.now

    def latest(self, topic: str) -> str | None:
        assert topic == TOPIC
        return self.heard


@pytest.fixture
def ids() -> Ids:
    return Ids()


@pytest.fixture
def rig(ids: Ids) -> Rig:
    kafka = MemoryKafka()
    kafka.produce(P0, messages(0, 50))
    kafka.produce(P1, messages(0, 30))
    made = Rig(kafka, MemoryDatabase())
    made.ownership._topic_ids = ids
    made.step(5, seconds=1)
    return made


def stopped(rig: Rig) -> dict[object, str | None]:
    return {key: owned.stopped and owned.stopped.text for key, owned in rig.ownership._owned.items()}


def test_a_topic_made_anew_under_a_reader_stops_its_partitions(rig: Rig, ids: Ids) -> None:
    ids.now = ids.heard = "second"
    rig.step(2, seconds=1)
    rig.kafka.produce(P0, messages(50, 100))
    rig.step(5, seconds=1)
    check(rig, (P0, 50), (P1, 30))
    for key, why in stopped(rig).items():
        assert why is not None
        assert f"analytics offsets seek t {key[1]} 0" in why


def test_a_topic_made_anew_while_nobody_read_stops_the_next_owner(rig: Rig, ids: Ids) -> None:
    ids.now = "second"
    rig.kafka.produce(P0, messages(50, 100))
    rig.consumer.rebalance([P0, P1])
    rig.step(5, seconds=1)
    check(rig, (P0, 50), (P1, 30))
    assert all(why is not None for why in stopped(rig).values())


@pytest.mark.parametrize("now", ["first", "nobody answers"])
def test_an_outdated_answer_stops_nothing(rig: Rig, ids: Ids, now: str) -> None:
    ids.heard, ids.now = "older", now
    rig.kafka.produce(P0, messages(50, 10))
    rig.step(5, seconds=1)
    check(rig, (P0, 60), (P1, 30))
    assert set(stopped(rig).values()) == {None}


def test_a_kafka_without_ids_is_read(rig: Rig, ids: Ids) -> None:
    ids.now = ids.heard = None
    rig.consumer.rebalance([P0, P1])
    rig.kafka.produce(P0, messages(50, 10))
    rig.step(5, seconds=1)
    check(rig, (P0, 60), (P1, 30))


def count(reason: StopReason) -> float:
    return INGEST_STOPPED.labels(TOPIC, reason.value)._value.get()


def test_a_stop_is_written_down_and_counts_with_all_that_the_topic_holds_until_somebody_decides(
    rig: Rig, ids: Ids
) -> None:
    before = count(StopReason.TOPIC_RECREATED)
    rig.step(2, seconds=1)
    assert rig.database.stops == {P0: None, P1: None}
    ids.now = ids.heard = "second"
    rig.notes = {P0: Note(START, 70), P1: Note(START, 20)}
    rig.step(3, seconds=1)
    for key, stop in rig.database.stops.items():
        assert stop is not None
        assert (stop.reason, stop.goes_on_at) == (StopReason.TOPIC_RECREATED, 0)
        assert f"analytics offsets seek t {key[1]} 0" in stop.text
    assert count(StopReason.TOPIC_RECREATED) == before + 2
    assert lags() == {P0: 70, P1: 20}, "not what lies behind the old offsets, 50 and 30"
    rig.database.topic_ids.clear()
    for key in (P0, P1):
        rig.landings.decide(key)
    rig.step(3, seconds=1)
    assert rig.database.stops == {P0: None, P1: None}
    assert count(StopReason.TOPIC_RECREATED) == before


def test_a_stop_is_written_down_once_postgres_answers(rig: Rig, ids: Ids) -> None:
    rig.step(2, seconds=1)
    rig.landings.note_faults += outage(2)
    ids.now = ids.heard = "second"
    rig.step(2, seconds=1)
    assert rig.database.stops == {P0: None, P1: None}
    rig.step(3, seconds=1)
    assert None not in rig.database.stops.values()


def test_that_kafka_is_silent_is_written_down_when_it_begins_and_when_it_ends(rig: Rig) -> None:
    since: datetime | None = None
    rig.worker._freshness._silent_since = lambda: since
    rig.step(3, seconds=1)
    assert rig.database.silences == []
    since = START
    rig.step(3, seconds=1)
    since = None
    rig.step(3, seconds=1)
    assert rig.database.silences == [START, None]
