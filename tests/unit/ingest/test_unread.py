"""What is said of messages that landing has not read."""

from collections.abc import Iterable, Mapping

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.consumer import Bounds, Partition
from analytics_pipeline.ingest.unread import Unread
from analytics_pipeline.settings import Kafka
from analytics_pipeline.storage.fates import NO_TOPIC, Fate, Verdict

KAFKA = Kafka(topics=["order.events", "market.data"])


def waiting(offset: int, topic: str = "order.events", partition: int = 0) -> list[Fate]:
    return [Fate(Verdict.WAITING, "landing stands at offset 5", topic, partition, offset)]


class Broker:
    def __init__(self, held: Mapping[Partition, Bounds] | None) -> None:
        self.held, self.asked = held, 0

    def __call__(self, wanted: Iterable[Partition]) -> Mapping[Partition, Bounds]:
        self.asked += 1
        if self.held is None:
            raise EnvironmentFault("away")
        return {key: self.held[key] for key in wanted if key in self.held}


def test_all_messages_are_one_question() -> None:
    broker = Broker({("order.events", 0): Bounds(0, 8), ("market.data", 1): Bounds(3, 6)})
    answers = [waiting(7), waiting(8), waiting(6, "market.data", 1), waiting(5, "order.events", 9)]
    stored = [Fate(Verdict.STORED, "", "order.events", 0, 1)]
    found = Unread(KAFKA, broker).judge([*answers, stored])
    assert broker.asked == 1
    assert found[0] == answers[0]
    assert found[4] == stored
    assert [(one.verdict, one.detail) for [one] in found[1:4]] == [
        (Verdict.UNKNOWN, "the partition ends at offset 8 and holds no such message"),
        (Verdict.UNKNOWN, "the partition ends at offset 6 and holds no such message"),
        (Verdict.UNKNOWN, "Kafka has no such partition"),
    ]


def test_without_kafka_nothing_new_is_said_and_it_is_not_asked_again() -> None:
    broker = Broker(None)
    unread = Unread(KAFKA, broker)
    for _ in range(2):
        assert unread.judge([waiting(99)]) == [waiting(99)]
    assert broker.asked == 1
    assert Unread(KAFKA.model_copy(update={"enabled": False}), broker).judge([waiting(99)]) == [waiting(99)]
    assert broker.asked == 1


def test_kafka_is_not_asked_about_topics_that_are_not_read() -> None:
    broker = Broker({})
    [[retired], [wrong]] = Unread(KAFKA, broker).judge(
        [waiting(9, "old.events"), [Fate(Verdict.UNKNOWN, NO_TOPIC, "orders.event", 3, 15863)]]
    )
    assert [retired] == waiting(9, "old.events")
    assert wrong.detail == "no topic of this name is read (kafka.topics); did you mean order.events?"
    assert broker.asked == 0
