"""A topic that was deleted and made anew: its offsets exist, and stand for other messages."""

import pytest

from analytics_pipeline.ingest.consumer import Unanswered
from analytics_pipeline.ingest.memory import MemoryKafka
from tests.unit.ingest.fakes import MemoryDatabase
from tests.unit.ingest.test_worker import P0, P1, TOPIC, Rig, check, messages


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
    return {key: owned.stopped for key, owned in rig.ownership._owned.items()}


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
