"""A client that never finishes closing holds nobody up, and what it says later reaches nobody."""

import threading

import pytest

from analytics_pipeline.ingest import kafka
from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.kafka import KafkaConsumer
from analytics_pipeline.settings import Kafka


class Hanging:
    """A client that waits for a coordinator which is away."""

    def __init__(self) -> None:
        self.is_back, self.is_closed = threading.Event(), threading.Event()

    def close(self) -> None:
        self.is_back.wait(10)
        self.is_closed.set()

    def unassign(self) -> None: ...


def test_a_close_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_LONGEST_CLOSE", 0.05)
    consumer = KafkaConsumer(Kafka(brokers=["127.0.0.1:1"], group_id="g"), queued_messages=1)
    client, real, revoked = Hanging(), consumer._client, list[Partition]()
    consumer._client = client
    consumer._on_revoke = revoked.extend
    consumer.close()
    assert not client.is_closed.is_set()
    consumer._revoked(client, [kafka.TopicPartition("t", 0)])
    assert revoked == [], "another consumer may own it by now"
    client.is_back.set()
    assert client.is_closed.wait(10)
    real.close()
