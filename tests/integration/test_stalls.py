"""A fetch that is stuck, on a real Kafka and Postgres: a new consumer reads on, and nothing is lost or doubled."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer, TopicPartition

from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.freshness import Freshness
from analytics_pipeline.ingest.kafka import KafkaConsumer
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.ingest.watermarks import Watermarks
from analytics_pipeline.ingest.worker import Pace, Worker
from analytics_pipeline.settings import Kafka
from analytics_pipeline.storage.landing import Lander
from tests.integration.ingest_process import produce, wait_until_landed
from tests.integration.landing_rig import LIMITS, check_books, event, value
from tests.waiting import wait_for

STALL_AFTER = 1.5


class Rig:
    """A worker in threads of this process, so that its client can be hindered."""

    def __init__(self, database: str, kafka: str, topic: str) -> None:
        self.settings = Kafka(brokers=[kafka], topics=[topic], group_id=f"group-{topic}")
        self.consumers: list[KafkaConsumer] = []
        self.asked: list[tuple[Partition, int | None]] = []
        landings = LandingThread(Lander(database, name="landing-test"))
        self.ownership = Ownership(
            landings, is_from_start=True, make_limit=lambda: DeadLetterLimit(1.0, 10_000), patience=20
        )
        self.watermarks = Watermarks(self.settings, lambda: self.ownership.partitions)
        self.worker = Worker(
            make_consumer=self._make,
            topics=[topic],
            landings=landings,
            ownership=self.ownership,
            freshness=Freshness(landings, self.ownership, self, stall_after=STALL_AFTER),
            definitions=lambda: NO_DEFINITIONS,
            limits=LIMITS,
            pace=Pace(batch_size=1000, batch_timeout=0.05, capacity=5000),
        )
        self.latest = self.watermarks.latest

    def readable_end(self, partition: Partition) -> int | None:
        self.asked.append((partition, self.watermarks.readable_end(partition)))
        return self.asked[-1][1]

    def _make(self) -> KafkaConsumer:
        self.consumers.append(KafkaConsumer(self.settings, queued_messages=1000))
        return self.consumers[-1]

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=run, args=(stop,)) for run in (self.worker.run, self.watermarks.run)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)


@pytest.fixture
def rig(database: str, kafka: str, topic: Callable[..., str]) -> Rig:
    return Rig(database, kafka, topic(partitions=2))


def encoded(*numbers: int) -> list[bytes]:
    return [json.dumps(event(number)).encode() for number in numbers]


@pytest.mark.slow
def test_a_new_consumer_reads_on_where_the_old_one_was_stuck(rig: Rig, database: str, kafka: str) -> None:
    [name] = rig.settings.topics
    with rig.running():
        produce(kafka, name, encoded(*range(50)), partition=0)
        wait_until_landed(database, name, 50)
        rig.consumers[0]._client.pause([TopicPartition(name, 0)])  # behind everybody's back
        produce(kafka, name, encoded(*range(50, 80)), partition=0)
        produce(kafka, name, encoded(*range(100, 120)), partition=1)
        wait_until_landed(database, name, 100, 60)
    assert len(rig.consumers) == 2
    assert rig.asked[-1] == ((name, 0), 80)
    assert value(database, "SELECT count(*) FROM events") == 100
    assert value(database, "SELECT sum(duplicate) FROM ingest_batches") == 0
    check_books(database)


@pytest.mark.slow
def test_an_open_transaction_holds_back_and_is_no_stall(rig: Rig, database: str, kafka: str) -> None:
    [name] = rig.settings.topics
    transactional = Producer({"bootstrap.servers": kafka, "transactional.id": f"t-{name}"})
    transactional.init_transactions(20)
    with rig.running():
        produce(kafka, name, encoded(*range(10)), partition=0)
        wait_until_landed(database, name, 10)
        transactional.begin_transaction()
        transactional.produce(name, encoded(10)[0], partition=0)
        assert transactional.flush(20) == 0
        produce(kafka, name, encoded(*range(11, 20)), partition=0)
        wait_for(lambda: len(rig.asked) >= 2, 30, "the watchdog looked twice")
        assert {end for _, end in rig.asked} == {10}
        transactional.commit_transaction(20)
        wait_until_landed(database, name, 20)
    assert len(rig.consumers) == 1
    assert value(database, "SELECT count(*) FROM events") == 20
    check_books(database)
