"""What the landing loop relies on and Kafka's client does not promise by itself."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.kafka import KafkaConsumer
from analytics_pipeline.ingest.topic_ids import TopicIds
from analytics_pipeline.ingest.watermarks import Watermarks
from analytics_pipeline.settings import Kafka
from analytics_pipeline.telemetry import INGEST_KAFKA_SILENT
from tests.integration.ingest_process import produce
from tests.waiting import wait_for

Topics = Callable[..., str]


class Member:
    """A member of the group that reads everything from the start, and remembers what it saw."""

    def __init__(self, settings: Kafka, topic: str) -> None:
        self.owned: list[Partition] = []
        self.seen: set[Partition] = set()
        self.consumer = KafkaConsumer(settings, queued_messages=100)
        self.consumer.subscribe([topic], self._assigned, lambda _partitions: None)

    def _assigned(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        self.owned = list(partitions)
        return dict.fromkeys(partitions, 0)

    def fetch(self) -> None:
        self.seen |= self.consumer.fetch(100, 0.1).messages.keys()


@pytest.mark.slow
def test_a_pause_does_not_outlive_a_rebalance(kafka: str, topic: Topics) -> None:
    name = topic(partitions=2)
    settings = Kafka(brokers=[kafka], topics=[name], group_id=name)
    for partition in (0, 1):
        produce(kafka, name, [b"{}"], partition=partition)
    first = Member(settings, name)

    def owns(member: Member, count: int) -> bool:
        member.fetch()
        return len(member.owned) == count

    wait_for(lambda: owns(first, 2), 30)
    first.consumer.pause(first.owned)
    first.seen.clear()
    second = Member(settings, name)
    try:
        wait_for(lambda: all([owns(second, 1), owns(first, 1)]), 30)

        def both_read() -> bool:
            first.fetch()
            second.fetch()
            return bool(first.seen and second.seen)

        wait_for(both_read, 10, "both members read")
    finally:
        first.consumer.close()
        second.consumer.close()


def test_a_partition_that_kafka_is_silent_about_keeps_no_watermark_from_others(
    kafka: str, topic: Topics
) -> None:
    name = topic(partitions=2)
    produce(kafka, name, [b"{}"] * 3, partition=1)
    missing, there = (name, 7), (name, 1)
    watermarks = Watermarks(Kafka(brokers=[kafka], topics=[name]), lambda: [missing, there])
    watermarks._ask()
    assert watermarks.latest(missing) is None
    note = watermarks.latest(there)
    assert note is not None
    assert note.high == 3


@pytest.mark.slow
def test_a_lasting_silence_is_told_once_and_so_is_its_end(kafka: str, topic: Topics) -> None:
    name = topic(partitions=1)
    now, owned = [0.0], [(name, 7)]
    watermarks = Watermarks(Kafka(brokers=[kafka], topics=[name]), lambda: owned, lambda: now[0])

    def lines(seconds: float) -> list[str]:
        now[0] = seconds
        with capture_logs() as told:
            watermarks._ask()
        return [f"{line['log_level']}: {line['event']}" for line in told if line["log_level"] != "debug"]

    assert lines(0) == lines(9) == []
    assert lines(10) == ["warning: Kafka does not tell how far it is: lag and freshness stand still"]
    assert lines(11) == []
    owned[:] = [(name, 0)]
    assert lines(12) == ["info: Kafka tells how far it is again"]
    assert lines(13) == []


@pytest.mark.slow
def test_a_kafka_is_silent_that_answers_nothing_at_all(
    kafka: str, topic: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics_pipeline.ingest.topic_ids._TIMEOUT", 0.5)
    at = datetime(2026, 1, 31, tzinfo=UTC)
    times = [at + timedelta(seconds=10 * n) for n in range(9)]
    away = TopicIds(Kafka(brokers=["127.0.0.1:1"], topics=["a", "b"]), lambda: times.pop(0))
    away._ask_all()
    assert away.silent_since == at
    away._ask_all()
    assert away.silent_since == at
    assert INGEST_KAFKA_SILENT._value.get() == 30
    there = TopicIds(Kafka(brokers=[kafka], topics=["test.no-such-topic"]))
    there._silent_since = at
    there._ask_all()
    assert there.silent_since is None, "that there is no such topic is an answer"
    assert INGEST_KAFKA_SILENT._value.get() == 0
