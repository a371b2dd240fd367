"""Delivery: hands messages to Kafka, waits where Kafka is slow or away, and says what went wrong.

Belongs here: the producer and its errors. What is sent, and when, comes from the caller.
"""

from collections import Counter
from datetime import timedelta
from threading import Event

import structlog
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Report

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.ingest.topics import create_when_reachable
from analytics_pipeline.settings import Kafka
from analytics_pipeline.simulator.envelope import TOPICS, Message

log = structlog.get_logger()

MAX_QUEUED = 50_000
AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
}
"""Errors that mean: Kafka cannot be reached now."""
_HEADERS: list[tuple[str, str | bytes | None]] = [("source", b"simulator")]
"""The producer's name, by which `analytics sources` and `analytics dead-letters` know it."""


class Delivery:
    """A producer for the simulator's topics; `stop` ends every wait. One thread may use it."""

    def __init__(self, kafka: Kafka, stop: Event) -> None:
        """Connect in the background.

        Raises:
            ConfigurationError: Kafka is switched off, or nobody would read what is sent.
        """
        if not kafka.enabled:
            raise ConfigurationError(
                "kafka.enabled: it is false, so the simulator has nowhere to send events"
            )
        unread = [topic for topic in TOPICS if topic not in kafka.topics]
        if unread:
            raise ConfigurationError(
                f"kafka.topics: the simulator sends to {', '.join(unread)}, which this list does not have"
            )
        self._kafka = kafka
        self._stop = stop
        self.sent: Counter[str] = Counter()
        """Messages handed over, per topic."""
        self.failed = 0
        """Messages that Kafka did not take."""
        self._is_away = False
        common = {
            "bootstrap.servers": ",".join(kafka.brokers),
            "client.id": "analytics-simulator",
            # It repeats itself while Kafka is away; the callbacks below say it once.
            "log_level": 0,
            **kafka.options,
        }
        self._producer = Producer(
            {
                "linger.ms": 20,
                "compression.type": "lz4",
                "enable.idempotence": True,
                "queue.buffering.max.messages": MAX_QUEUED,
                "reconnect.backoff.max.ms": 2000,
                **common,
                "error_cb": self._on_error,
            }
        )

    def wait_until_ready(self) -> bool:
        """Wait until Kafka answers and has the topics; False when stopped before."""
        create_when_reachable(self._kafka.model_copy(update={"topics": list(TOPICS)}), self._stop)
        return not self._stop.is_set()

    def send(self, message: Message, *, at_event_time: bool = False) -> None:
        """Queue one message; blocks while the queue is full, and gives up only when stopped.

        The Kafka message's own timestamp is now, or with `at_event_time` the event's.
        """
        timestamp = message.time // 1000 if at_event_time else 0
        while True:
            try:
                self._producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    on_delivery=self._on_report,
                    timestamp=timestamp,
                    headers=_HEADERS,
                )
            except BufferError:
                self._producer.poll(0.1)
                if self._stop.is_set():
                    return
            else:
                self.sent[message.topic] += 1
                return

    def poll(self) -> None:
        """Take Kafka's answers; call it every now and then."""
        self._producer.poll(0)

    def close(self, timeout: timedelta = timedelta(seconds=10)) -> int:
        """Send what is queued; the number of messages that Kafka did not take, in all."""
        left: int = self._producer.flush(timeout.total_seconds())
        if left or self.failed:
            log.error("events_not_delivered", queued=left, failed=self.failed, brokers=self._kafka.brokers)
        return left + self.failed

    def _on_error(self, error: KafkaError) -> None:
        if error.code() not in AWAY:
            log.warning("kafka_error", code=error.name(), error=error.str(), fatal=error.fatal())
        elif not self._is_away:
            self._is_away = True
            log.warning("kafka_unavailable", brokers=self._kafka.brokers, error=error.str())

    def _on_report(self, error: KafkaError | None, report: Report) -> None:
        if error is None:
            if self._is_away:
                self._is_away = False
                log.info("kafka_available")
            return
        if not self.failed:
            log.warning("event_not_delivered", topic=report.topic(), error=error.str())
        self.failed += 1
