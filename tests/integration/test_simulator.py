"""The simulator against a real Kafka: what it says it sent is there, in order per key, with the right times."""

import json
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.producers import producer_of
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.settings import Settings, environment
from analytics_pipeline.simulator.delivery import Delivery
from analytics_pipeline.simulator.envelope import TOPICS
from analytics_pipeline.simulator.envelope import Message as SimulatedMessage
from analytics_pipeline.simulator.run import produce_history, run
from tests.waiting import wait_for

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)


def settings_for(kafka: str, **simulator: object) -> Settings:
    return Settings.model_validate({"kafka": {"brokers": [kafka]}, "simulator": simulator})


class Reader:
    """Reads what was added to the simulator's topics since it was made."""

    def __init__(self, kafka: str) -> None:
        Delivery(settings_for(kafka).kafka, Event()).wait_until_ready()
        self._consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": "test-simulator", "enable.auto.commit": False}
        )
        known = self._consumer.list_topics(timeout=10).topics
        self._partitions = [
            TopicPartition(topic, number) for topic in TOPICS for number in known[topic].partitions
        ]
        self._from = wait_for(self._ends_of_new_topics, message="new topics have leaders")

    def _ends_of_new_topics(self) -> list[int]:
        try:
            return self._ends()
        except KafkaException:
            return []

    def _ends(self) -> list[int]:
        return [self._consumer.get_watermark_offsets(one, timeout=10)[1] for one in self._partitions]

    def count(self) -> int:
        return sum(self._ends()) - sum(self._from)

    def read(self) -> list[Message]:
        """Everything there is now."""
        expected = self.count()
        self._consumer.assign(
            [
                TopicPartition(one.topic, one.partition, offset)
                for one, offset in zip(self._partitions, self._from, strict=True)
            ]
        )
        found: list[Message] = []
        while len(found) < expected:
            batch = self._consumer.consume(expected - len(found), timeout=5)
            assert batch, f"{expected} messages expected, {len(found)} found"
            found += batch
        return found

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def reader(kafka: str):
    made = Reader(kafka)
    yield made
    made.close()


@pytest.mark.slow
def test_history_is_sent_once_per_now_with_the_times_of_its_events(kafka: str, reader: Reader) -> None:
    settings = settings_for(kafka, history_events=4_000, duplicate_ratio=0, broken_ratio=0)
    counts = produce_history(settings, NOW)
    first = reader.read()
    assert counts == Counter(message.topic() for message in first)
    assert sum(counts.values()) == 4_000
    oldest = NOW - timedelta(hours=24)
    for message in first:
        event = json.loads(message.value())
        moment = datetime.fromisoformat(event["timestamp"])
        assert oldest <= moment <= NOW
        assert message.timestamp()[1] == int(moment.timestamp() * 1000)
        assert producer_of(message.headers()) == "simulator"
    produce_history(settings, NOW)
    ids = Counter(json.loads(message.value())["id"] for message in reader.read())
    assert set(ids.values()) == {2}


@pytest.mark.slow
def test_it_sends_at_its_rate_until_its_time_is_over(kafka: str, reader: Reader) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    assert run(settings_for(kafka), rate=500, duration=timedelta(seconds=2), stop=Event()) == 0
    assert reader.count() == 1_000
    partitions = defaultdict(set)
    for message in reader.read():
        partitions[message.topic(), message.key()].add(message.partition())
        assert message.timestamp()[1] >= before.timestamp() * 1000
    assert {len(found) for found in partitions.values()} == {1}


@pytest.mark.slow
def test_history_comes_first_when_asked_for(kafka: str, reader: Reader) -> None:
    settings = settings_for(kafka, history_events=2_000)
    assert run(settings, rate=100, duration=timedelta(seconds=1), history=True, stop=Event()) == 0
    assert reader.count() == 2_100


@pytest.mark.slow
def test_sigterm_sends_what_is_queued_and_exits_0(kafka: str, reader: Reader) -> None:
    program = (
        "import sys; from analytics_pipeline.settings import load_settings;"
        "from analytics_pipeline.simulator.run import run; sys.exit(run(load_settings(), rate=2000))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment() | {"KAFKA_BROKERS": kafka},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: reader.count() > 1_000, timeout=30, message="the simulator sends")
        child.send_signal(signal.SIGTERM)
        output, _ = child.communicate(timeout=15)
    finally:
        child.kill()
    assert child.returncode == 0
    assert "seed=" in output
    assert f"sent={reader.count()}" in output


@pytest.mark.slow
def test_it_waits_for_kafka_and_can_be_stopped_while_it_waits() -> None:
    stop = Event()
    answers: list[int] = []
    settings = settings_for(f"127.0.0.1:{free_port()}")
    thread = Thread(target=lambda: answers.append(run(settings, stop=stop)))
    thread.start()
    stop.set()
    thread.join(timeout=20)
    assert answers == [0]


def test_a_full_queue_holds_the_sender_until_it_is_stopped() -> None:
    stop, began = Event(), Event()
    kafka = Settings.model_validate(
        {
            "kafka": {
                "brokers": [f"127.0.0.1:{free_port()}"],
                "options": {"queue.buffering.max.messages": 10, "log_level": 0},
            }
        }
    ).kafka
    delivery = Delivery(kafka, stop)
    message = SimulatedMessage("market.data", b"BTCUSDT", b"{}", 0)

    def send() -> None:
        for _ in range(11):
            delivery.send(message)
            began.set()

    thread = Thread(target=send)
    thread.start()
    assert began.wait(10)
    wait_for(lambda: delivery.sent.total() == 10, message="the queue is full")
    thread.join(timeout=0.3)
    assert thread.is_alive()
    stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert delivery.close(timedelta(0)) == 10


def test_without_kafka_it_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.enabled"):
        run(Settings.model_validate({"kafka": {"enabled": False}}), stop=Event())


def test_topics_that_nobody_reads_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"market\.data, user\.actions"):
        run(Settings.model_validate({"kafka": {"topics": ["trading.events", "order.events"]}}), stop=Event())
