"""A Kafka that was killed and is back: questions for offsets are answered again at once, never with what is none."""

from concurrent.futures import Future
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from analytics_pipeline.ingest import watermarks
from analytics_pipeline.ingest.topics import ends
from analytics_pipeline.ingest.watermarks import Note, Watermarks
from analytics_pipeline.settings import Kafka

KEY = ("orders", 0)


class Offset:
    """What Kafka answers."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class Client:
    """Refuses with one error until it is made to look who leads; then answers."""

    def __init__(self, code: int = 0, offset: int = 7) -> None:
        self.code, self.offset, self.looks = code, offset, 0

    def list_offsets(
        self, wanted: dict[TopicPartition, object], **_: object
    ) -> dict[TopicPartition, "Future[Offset]"]:
        answer: Future[Offset] = Future()
        if self.code and not self.looks:
            answer.set_exception(KafkaException(KafkaError(self.code)))
        else:
            answer.set_result(Offset(self.offset))
        return dict.fromkeys(wanted, answer)

    def list_topics(self, *, timeout: float) -> None:
        assert timeout > 0
        self.looks += 1


def watching(client: Client, monkeypatch: pytest.MonkeyPatch) -> Watermarks:
    monkeypatch.setattr(watermarks, "admin", lambda *_: client)
    return Watermarks(Kafka(), lambda: [KEY])


def test_a_leader_of_another_epoch_is_learnt_at_once() -> None:
    client = Client(KafkaError.FENCED_LEADER_EPOCH)
    assert ends(client, [KEY], timeout=1.0) is None  # type: ignore[arg-type]
    assert ends(client, [KEY], timeout=1.0) == {KEY: 7}  # type: ignore[arg-type]
    assert client.looks == 1


def test_a_kafka_that_is_away_is_not_asked_twice() -> None:
    client = Client(KafkaError._TIMED_OUT)
    assert ends(client, [KEY], timeout=1.0) is None  # type: ignore[arg-type]
    assert client.looks == 0


def test_a_lost_connection_tells_no_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(offset=-1001)
    assert ends(client, [KEY], timeout=1.0) is None  # type: ignore[arg-type]
    watched = watching(client, monkeypatch)
    watched._ask()
    assert watched.latest(KEY) is None  # with it, landing would have reached the end of everything
    assert watched.readable_end(KEY) is None


def test_watermarks_go_on_after_a_leader_of_another_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(KafkaError.FENCED_LEADER_EPOCH)
    watched, began = watching(client, monkeypatch), datetime.now(UTC)
    watched._ask()
    assert watched.latest(KEY) is None
    watched._ask()
    note = watched.latest(KEY)
    assert isinstance(note, Note)
    assert (note.high, note.at >= began) == (7, True)
