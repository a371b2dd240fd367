"""A real client whose partition is trimmed while messages from before the cut are still in memory."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.ingest.freshness import Freshness
from analytics_pipeline.ingest.kafka import KafkaConsumer
from analytics_pipeline.ingest.landing_thread import LandingThread
from analytics_pipeline.ingest.ownership import Ownership
from analytics_pipeline.ingest.watermarks import Watermarks
from analytics_pipeline.ingest.worker import Pace, Worker
from analytics_pipeline.settings import Kafka
from analytics_pipeline.storage.landing import TimedOut
from tests.integration.ingest_process import produce
from tests.unit.ingest.fakes import MemoryDatabase, MemoryLandings
from tests.waiting import wait_for

CAPACITY, SENT, LATER = 100, 300, 20


@pytest.mark.slow
def test_what_was_read_before_lands_then_the_partition_stops(kafka: str, topic: Callable[..., str]) -> None:
    name = topic(partitions=1)
    settings = Kafka(brokers=[kafka], topics=[name], group_id=name)
    produce(kafka, name, [b'{"event_type":"a"}'] * SENT)
    database = MemoryDatabase()
    landings = MemoryLandings(database)
    landings.faults = [TimedOut("slow")]  # half of it lands next, and half waits for company
    thread = LandingThread(landings)
    clock = Clock()
    ownership = Ownership(
        thread, is_from_start=True, make_limit=lambda: DeadLetterLimit(0.5, 1000), patience=10, clock=clock
    )
    worker = Worker(
        make_consumer=lambda: KafkaConsumer(settings, queued_messages=CAPACITY),
        topics=[name],
        landings=thread,
        ownership=ownership,
        freshness=Freshness(thread, ownership, Watermarks(settings, lambda: []), clock=clock),
        definitions=lambda: NO_DEFINITIONS,
        limits=Limits(),
        pace=Pace(batch_size=60, batch_timeout=300.0, capacity=CAPACITY),
        clock=clock,
    )
    key, admin = (name, 0), AdminClient({"bootstrap.servers": kafka})

    def after_step(condition: Callable[[], object]) -> Callable[[], object]:
        def ask() -> object:
            worker.step()
            return condition()

        return ask

    try:
        wait_for(after_step(lambda: not landings.faults), 30, "the first batch failed")
        assert 0 < next(iter(ownership)).position < SENT
        assert database.ledger == []
        [deleted] = admin.delete_records([TopicPartition(name, 0, SENT)]).values()
        deleted.result(20)
        produce(kafka, name, [b'{"event_type":"a"}'] * LATER)
        wait_for(after_step(lambda: next(iter(ownership)).is_cut_off), 30, "Kafka said that it cannot go on")
        [owned] = ownership
        assert owned.buffered > 0
        held = owned.position
        clock.ahead = 300.0
        wait_for(after_step(lambda: ownership.get(key) is None), 30, "it stopped")
        read = sorted(offset for _, _, offset in database.stored)
        assert read == list(range(held)), "what was in memory was thrown away"
        stopped = ownership._owned[key]
        assert stopped.stopped is not None
        assert f"skip-to {name} 0 {SENT}" in stopped.stopped.text
        assert stopped.next_offset == database.rows[key].next_offset == held
    finally:
        worker._leave()
        thread.close()


class Clock:
    """Monotonic seconds, and how far a test has turned it on."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead
