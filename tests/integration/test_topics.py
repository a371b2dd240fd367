"""Topics are made when they are missing and allowed to be, and never changed."""

from threading import Event, Thread

import pytest
from confluent_kafka.admin import AdminClient

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.topics import create_topics, create_when_reachable
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.settings import Kafka
from tests.waiting import wait_for


def settings(kafka: str, *topics: str, **values: object) -> Kafka:
    return Kafka.model_validate({"brokers": [kafka], "topics": list(topics), **values})


def partitions(kafka: str, topic: str) -> int:
    return len(
        AdminClient({"bootstrap.servers": kafka}).list_topics(topic, timeout=10).topics[topic].partitions
    )


def delete(kafka: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(timeout=20)


def test_missing_topics_are_made_and_existing_ones_left_alone(kafka: str, topic: object) -> None:
    existing = topic(1)  # type: ignore[operator]
    wanted = settings(kafka, existing, "test.made", topic={"partitions": 3})
    assert create_topics(wanted) == 4
    assert create_topics(wanted) == 4
    assert partitions(kafka, existing) == 1
    delete(kafka, "test.made")


def test_a_missing_topic_that_may_not_be_made_is_named(kafka: str) -> None:
    with pytest.raises(EnvironmentFault, match=r"test\.never"):
        create_topics(settings(kafka, "test.never", create_topics=False))


@pytest.mark.slow
def test_waiting_for_kafka_ends_when_stopped() -> None:
    stop = Event()
    waiting = Thread(
        target=create_when_reachable, args=(settings(f"127.0.0.1:{free_port()}", "test.topic"), stop)
    )
    waiting.start()
    stop.set()
    waiting.join(timeout=15)
    assert not waiting.is_alive()


def test_topics_appear_as_soon_as_kafka_answers(kafka: str) -> None:
    stop = Event()
    waiting = Thread(target=create_when_reachable, args=(settings(kafka, "test.later"), stop))
    waiting.start()
    wait_for(lambda: not waiting.is_alive(), timeout=20, message="the topic is made")
    assert partitions(kafka, "test.later") == 4
    delete(kafka, "test.later")
