"""How far Kafka had come, and when: what `caught_up_at` and lag are made of.

A note (time, high watermark) is taken four times a second, the time before the question. When landing reaches the
noted watermark, everything that Kafka held at the noted time has landed.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import structlog
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.topics import admin, is_offset, learn_leaders
from analytics_pipeline.settings import Kafka

_log = structlog.get_logger(__name__)

_MOST_NOTES = 256
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_INTERVAL = 0.25
_TIMEOUT = 5.0
_SILENCE = 10.0
"""Seconds without a watermark from when on it is told; a broker that restarts takes less."""


class Note(NamedTuple):
    """At `at`, the partition ended before `high`."""

    at: datetime
    high: int


class Notes:
    """The notes of one partition that landing has not reached yet; pure."""

    def __init__(self) -> None:
        self._waiting: deque[Note] = deque()
        self.high = 0

    def add(self, note: Note, *, next_offset: int) -> None:
        """Remember; a repeated note is ignored, and a long backlog is thinned out.

        So is one that lies below an earlier watermark and below what has landed: it is of a topic that was made anew,
        of which nothing has landed. A log that lost its end (another leader was chosen without it) goes on otherwise.
        """
        if self._waiting and note.at <= self._waiting[-1].at:
            return
        if note.high < min(self.high, next_offset):
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
    """Asks Kafka about the partitions that this process owns, in a thread of its own.

    A partition that gets no answer may only have another leader: see `topics.learn_leaders`.
    """

    def __init__(
        self,
        settings: Kafka,
        owned: Callable[[], Iterable[Partition]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = admin(settings)
        self._owned = owned
        self._clock = clock
        self._latest: dict[Partition, Note] = {}
        self._silent: dict[Partition, float] = {}
        """Since when Kafka has not told the end of these."""
        self._is_told = False

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
        """Until stopped, take notes, every `_INTERVAL` seconds."""
        while not stop.wait(_INTERVAL):
            self._ask()

    def _ask(self) -> None:
        owned = {TopicPartition(*key): _LATEST for key in self._owned()}
        now = datetime.now(UTC)
        # Without a partition librdkafka refuses the question.
        answers = self._client.list_offsets(owned, request_timeout=_TIMEOUT) if owned else {}
        errors: dict[Partition, KafkaException] = {}
        for partition, answer in answers.items():
            key = (partition.topic, partition.partition)
            try:
                offset = answer.result().offset
                if is_offset(offset):
                    self._latest[key] = Note(now, offset)
            except KafkaException as error:  # such as a partition without a leader: the others have one
                errors[key] = error
                _log.debug(
                    "Kafka did not tell a watermark",
                    topic=key[0],
                    partition=key[1],
                    error=error.args[0].name(),
                )
        if errors:
            learn_leaders(self._client, errors.values(), timeout=_TIMEOUT)
        self._tell_of_silence({key: error.args[0].name() for key, error in errors.items()})

    def _tell_of_silence(self, errors: Mapping[Partition, str]) -> None:
        """One line when Kafka has told nothing of a partition for a while, and one when it tells all again."""
        now = self._clock()
        self._silent = {key: self._silent.get(key, now) for key in errors}
        lasting = [key for key, since in self._silent.items() if now - since >= _SILENCE]
        if lasting and not self._is_told:
            self._is_told = True
            _log.warning(
                "Kafka does not tell how far it is: lag and freshness stand still",
                partitions=[f"{topic}/{number}" for topic, number in lasting],
                errors=sorted({errors[key] for key in lasting}),
                seconds=_SILENCE,
            )
        elif self._is_told and not self._silent:
            self._is_told = False
            _log.info("Kafka tells how far it is again")
