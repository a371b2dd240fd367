"""How far Kafka had come, and when: what `caught_up_at` and lag are made of.

A note (time, high watermark) is taken about once a second, the time before the question. When landing reaches the
noted watermark, everything that Kafka held at the noted time has landed.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import structlog
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.topics import is_offset, learn_leaders
from analytics_pipeline.settings import Kafka

_log = structlog.get_logger(__name__)

_MOST_NOTES = 256
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_INTERVAL = 1.0
_TIMEOUT = 5.0


class Note(NamedTuple):
    """At `at`, the partition ended before `high`."""

    at: datetime
    high: int


class Notes:
    """The notes of one partition that landing has not reached yet; pure."""

    def __init__(self) -> None:
        self._waiting: deque[Note] = deque()
        self.high = 0

    def add(self, note: Note) -> None:
        """Remember; a repeated note is ignored, and a long backlog is thinned out."""
        if self._waiting and note.at <= self._waiting[-1].at:
            return
        self.high = note.high
        self._waiting.append(note)
        if len(self._waiting) > _MOST_NOTES:
            self._waiting = deque(list(self._waiting)[1::2])

    def reached(self, next_offset: int) -> datetime | None:
        """The latest noted time whose watermark `next_offset` has reached; the notes stay until `forget`."""
        found = [note.at for note in self._waiting if note.high <= next_offset]
        return found[-1] if found else None

    def forget(self, until: datetime) -> None:
        """Drop notes that were written down in the database."""
        while self._waiting and self._waiting[0].at <= until:
            self._waiting.popleft()


class WatermarkSource(Protocol):
    """Where notes come from."""

    def latest(self, partition: Partition) -> Note | None:
        """The newest note of a partition."""

    def readable_end(self, partition: Partition) -> int | None:
        """Up to where a consumer can read now, open transactions left out; None when Kafka doesn't say."""


class Watermarks:
    """Asks Kafka about the partitions that this process owns, in a thread of its own."""

    def __init__(self, settings: Kafka, owned: Callable[[], Iterable[Partition]]) -> None:
        self._client = AdminClient(
            {**settings.options, "bootstrap.servers": ",".join(settings.brokers), "log_level": 0}
        )
        self._owned = owned
        self._latest: dict[Partition, Note] = {}

    def latest(self, partition: Partition) -> Note | None:
        """The newest note of a partition."""
        return self._latest.get(partition)

    def readable_end(self, partition: Partition) -> int | None:
        """Asks Kafka at once: for the few partitions that seem to stand still."""
        wanted = {TopicPartition(*partition): _LATEST}
        try:
            [answer] = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT
            ).values()
            offset = int(answer.result(_TIMEOUT).offset)
        except (KafkaException, TimeoutError):
            return None
        return offset if is_offset(offset) else None

    def run(self, stop: threading.Event) -> None:
        """Until stopped, take notes once a second."""
        while not stop.wait(_INTERVAL):
            self._ask()

    def _ask(self) -> None:
        owned = {TopicPartition(*key): _LATEST for key in self._owned()}
        if not owned:
            return
        now, refused = datetime.now(UTC), None
        for partition, answer in self._client.list_offsets(owned, request_timeout=_TIMEOUT).items():
            key = (partition.topic, partition.partition)
            try:
                offset = answer.result().offset
                if is_offset(offset):
                    self._latest[key] = Note(now, offset)
            except KafkaException as error:  # such as a partition without a leader: the others have one
                refused = error
                _log.debug(
                    "Kafka did not tell a watermark",
                    topic=key[0],
                    partition=key[1],
                    error=error.args[0].name(),
                )
        if refused is not None:
            learn_leaders(self._client, refused, timeout=_TIMEOUT)
