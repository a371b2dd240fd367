"""The Kafka producer without a Kafka: what it says when nothing goes out."""

import time

import pytest

from b25_client import BufferFull, Closed, NotDelivered, Result, Status
from b25_client.kafka import KafkaProducer

NOWHERE = "127.0.0.1:1"
QUIET = {"log_level": 0, "queue.buffering.max.messages": 1}


def test_a_full_queue_makes_the_sender_wait_and_then_tells() -> None:
    results: list[Result] = []
    producer = KafkaProducer(NOWHERE, "t", on_result=results.append, max_block=0.05, options=QUIET)
    sent = producer.send("first", key="k")
    began = time.monotonic()
    with pytest.raises(BufferFull):
        producer.send("second")
    assert time.monotonic() - began >= 0.05
    assert producer.report().sent == 1
    with pytest.raises(NotDelivered) as failure:
        producer.close(0.1)
    assert failure.value.left == 1
    assert [(result.id, result.status, result.reason) for result in results] == [
        (sent, Status.UNDELIVERED, "closed")
    ]
    assert producer.report().waiting == 0
    with pytest.raises(Closed):
        producer.send("third")
    producer.close()


def test_a_name_that_the_service_would_not_keep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^client_id: "):
        KafkaProducer(NOWHERE, "t", client_id="two words")
