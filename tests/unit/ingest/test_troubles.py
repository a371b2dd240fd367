"""An outage of Kafka is a few lines, not a thousand."""

from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from analytics_pipeline.ingest import kafka
from analytics_pipeline.ingest.kafka import KafkaConsumer
from analytics_pipeline.ingest.troubles import AGAIN, Troubles
from analytics_pipeline.settings import Kafka
from tests.waiting import wait_for

AWAY, TIMEOUT = KafkaError(KafkaError._ALL_BROKERS_DOWN), KafkaError(KafkaError._TIMED_OUT)


def test_a_kind_is_logged_once_in_a_while_and_says_how_many_were_left_out() -> None:
    now = 0.0
    troubles = Troubles(lambda: now)
    with capture_logs() as logged:
        for number in range(300):
            now = number / 10
            troubles(AWAY)
        troubles(TIMEOUT)
    assert [(line["code"], line["left_out"]) for line in logged] == [
        ("_ALL_BROKERS_DOWN", 0),
        ("_ALL_BROKERS_DOWN", AGAIN * 10 - 1),
        ("_ALL_BROKERS_DOWN", AGAIN * 10 - 1),
        ("_TIMED_OUT", 0),
    ]


def test_all_consumers_of_a_process_are_told_as_one() -> None:
    consumers = [KafkaConsumer(Kafka(brokers=["127.0.0.1:1"], group_id="g"), queued_messages=1) for _ in "ab"]
    kafka.troubles._logged.clear()
    try:
        with capture_logs() as logged:
            for consumer in consumers:
                consumer.subscribe(["t"], lambda _keys: {}, lambda _keys: None)

            def count() -> int:
                for consumer in consumers:
                    consumer.fetch(1, 0.05)
                return sum(kafka.troubles._left_out.values())

            wait_for(lambda: count() >= 4, message="errors that are left out")
        codes = [line["code"] for line in logged if line["event"] == "Kafka is in trouble"]
        assert codes
        assert len(codes) == len(set(codes))
    finally:
        for consumer in consumers:
            consumer.close()
