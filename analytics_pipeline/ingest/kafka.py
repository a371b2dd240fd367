"""Kafka by confluent-kafka.

Belongs here: options of the client, its error codes, and its callbacks. Does not belong here: policy (`worker`).

The group's own offsets are never read: every assignment gets its offsets from `ingest_offsets`.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import methodcaller
from typing import Any

import confluent_kafka
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from analytics_pipeline.ingest.consumer import (
    Bounds,
    Fetched,
    OnAssign,
    OnRevoke,
    Partition,
    PositionLost,
    Unanswered,
)
from analytics_pipeline.ingest.troubles import Troubles
from analytics_pipeline.settings import Kafka

_log = structlog.get_logger(__name__)

troubles = Troubles()
"""Of all clients of this process, which lose the same brokers at the same time."""
_topic_of = methodcaller("topic")
_partition_of = methodcaller("partition")
_QUEUE_KILOBYTES = 16 * 1024
_TIMEOUT = 5.0
_LONGEST_CLOSE = 5.0
_MILLISECONDS = 1000


def client_options(settings: Kafka, *, queued_messages: int) -> dict[str, Any]:
    """Options of librdkafka: the user's, under those that landing depends on."""
    return {
        # A full local queue is looked at again soon, not after a second.
        "fetch.queue.backoff.ms": 20,
        "fetch.error.backoff.ms": 200,
        "topic.metadata.refresh.interval.ms": 10_000,
        "queued.max.messages.kbytes": _QUEUE_KILOBYTES,
        "queued.min.messages": max(1, queued_messages),
        **settings.options,
        "bootstrap.servers": ",".join(settings.brokers),
        "group.id": settings.group_id,
        "client.id": "analytics-ingest",
        "session.timeout.ms": int(settings.session_timeout.total_seconds() * _MILLISECONDS),
        "partition.assignment.strategy": "range,roundrobin",  # eager: nothing is owned while partitions move
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        "allow.auto.create.topics": False,
    }


class KafkaConsumer:
    """A member of the group; see `consumer.Consumer` for the promises."""

    def __init__(self, settings: Kafka, *, queued_messages: int) -> None:
        options = client_options(settings, queued_messages=queued_messages)
        self._client = confluent_kafka.Consumer({**options, "error_cb": troubles, "log_level": 3})
        self._on_assign: OnAssign = lambda _partitions: {}
        self._on_revoke: OnRevoke = lambda _partitions: None

    def subscribe(self, topics: Sequence[str], on_assign: OnAssign, on_revoke: OnRevoke) -> None:
        """Join the group."""
        self._on_assign, self._on_revoke = on_assign, on_revoke
        self._client.subscribe(
            list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def fetch(self, most: int, timeout: float) -> Fetched:
        """Messages by partition; ends and errors apart."""
        fetched = Fetched()
        with _position_is_lost():
            messages = self._client.consume(most, timeout)
        good = []
        for message in messages:
            trouble = message.error()
            if trouble is None:
                good.append(message)
            else:
                self._take_error(fetched, message, trouble)
        # They come in long runs of one partition.
        start = 0
        for key, run in groupby(zip(map(_topic_of, good), map(_partition_of, good), strict=True)):
            end = start + sum(1 for _ in run)
            fetched.messages.setdefault(key, []).extend(good[start:end])  # type: ignore[arg-type]
            start = end
        return fetched

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these partitions."""
        with _position_is_lost():
            _assign(self._client, positions)

    def seek(self, partition: Partition, offset: int) -> None:
        """Go on elsewhere."""
        with _position_is_lost():
            self._client.seek(TopicPartition(*partition, offset))

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Stop bringing messages."""
        with _position_is_lost():
            self._client.pause([TopicPartition(*key) for key in partitions])

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Bring messages again."""
        with _position_is_lost():
            self._client.resume([TopicPartition(*key) for key in partitions])

    def commit(self, positions: Mapping[Partition, int]) -> None:
        """Tell the group; a failure only shows in lag tools."""
        if not positions:
            return
        try:
            self._client.commit(
                offsets=[TopicPartition(*key, offset) for key, offset in positions.items()], asynchronous=True
            )
        except KafkaException as error:
            _log.debug("the group offset was not committed", code=_code(error))

    def bounds(self, partition: Partition) -> Bounds:
        """Low and high watermark, from the broker."""
        try:
            found = self._client.get_watermark_offsets(TopicPartition(*partition), timeout=_TIMEOUT)
        except KafkaException as error:
            raise Unanswered(
                f"Kafka did not tell the offsets of {partition[0]}/{partition[1]} ({_code(error)})"
            ) from error
        if found is None:
            raise Unanswered(f"Kafka did not tell the offsets of {partition[0]}/{partition[1]} in time")
        return Bounds(*found)

    def partitions(self, topic: str) -> Sequence[int]:
        """Of the broker's metadata."""
        try:
            found = self._client.list_topics(topic, timeout=_TIMEOUT).topics[topic]
        except KafkaException as error:
            raise Unanswered(f"Kafka did not tell the partitions of {topic} ({_code(error)})") from error
        if found.error is not None:
            raise Unanswered(f"Kafka did not tell the partitions of {topic} ({found.error.name()})")
        return sorted(found.partitions)

    def close(self) -> None:
        """Leave the group; after some seconds without Kafka, go without a word: the group notices."""
        # Now and then the client waits for a coordinator that is away, for longer than anybody waits for a stop.
        closing = threading.Thread(target=self._close, name="kafka-close", daemon=True)
        closing.start()
        closing.join(_LONGEST_CLOSE)
        if closing.is_alive():
            self._on_assign, self._on_revoke = lambda _partitions: {}, lambda _partitions: None
            _log.warning("the group was left without a word", seconds=_LONGEST_CLOSE)

    def _close(self) -> None:
        try:
            self._client.close()
        except (KafkaException, RuntimeError) as error:
            _log.warning("Kafka's client was not closed in order", code=_code(error))

    def _take_error(self, fetched: Fetched, message: Any, error: KafkaError) -> None:
        key = (message.topic(), message.partition())
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            fetched.ends[key] = message.offset()
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            fetched.unreadable.add(key)
        elif error.fatal():
            raise PositionLost(f"Kafka's client gave up ({error.name()})")
        else:
            _log.warning("Kafka reported an error", topic=key[0], partition=key[1], code=error.name())

    def _assigned(self, client: Any, partitions: list[TopicPartition]) -> None:
        # An exception here would make the client start from the group's offsets.
        _assign(client, self._on_assign([(p.topic, p.partition) for p in partitions]))

    def _revoked(self, client: Any, partitions: list[TopicPartition]) -> None:
        self._on_revoke([(p.topic, p.partition) for p in partitions])
        client.unassign()


def _assign(client: Any, positions: Mapping[Partition, int]) -> None:
    """Read from these offsets; the client remembers a pause over revocation and assignment, so it is taken back."""
    found = [TopicPartition(*key, offset) for key, offset in positions.items()]
    client.assign(found)
    if found:
        client.resume(found)


@contextmanager
def _position_is_lost() -> Iterator[None]:
    """After any exception of the client, nobody knows what it will bring next."""
    try:
        yield
    except (KafkaException, RuntimeError) as error:
        raise PositionLost(f"Kafka could not be read ({_code(error)})") from error


def _code(error: BaseException) -> str:
    cause = error.args[0] if error.args else error
    return str(cause.name()) if isinstance(cause, KafkaError) else type(error).__name__
