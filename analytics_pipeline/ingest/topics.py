"""Topics of Kafka: creating those the settings name, counting partitions, and which offsets they hold.

Belongs here: administration through the Kafka protocol, for ingest, the simulator, the local stack and operators.
Does not belong here: consuming.
"""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.ingest.consumer import Bounds, Partition
from analytics_pipeline.settings import Kafka

_log = structlog.get_logger(__name__)

_TIMEOUT = 20.0
_SHORT = 2.0
_PATIENT = 5.0
_INTERVAL = 0.05


def admin(kafka: Kafka) -> AdminClient:
    """A client with the user's own options (SASL, TLS)."""
    return AdminClient({**kafka.options, "bootstrap.servers": ",".join(kafka.brokers), "log_level": 0})


def create_topics(kafka: Kafka, *, timeout: float = _TIMEOUT) -> int:
    """Create the topics that are missing (unless `kafka.create_topics` is off); return the number of partitions.

    `timeout` is in seconds, for each question to Kafka.

    Raises:
        EnvironmentFault: Kafka cannot be reached or refuses.
    """
    client = admin(kafka)
    try:
        existing = client.list_topics(timeout=timeout).topics
        missing = [name for name in kafka.topics if name not in existing]
        if missing and kafka.create_topics:
            wanted = [
                NewTopic(name, kafka.topic.partitions, kafka.topic.replication_factor) for name in missing
            ]
            for future in client.create_topics(wanted).values():
                _ignore_existing(future)
            missing = []
            existing = _known(client, kafka.topics, timeout)
    except KafkaException as error:
        raise EnvironmentFault(
            f"Kafka at {', '.join(kafka.brokers)} did not answer ({error.args[0].name()}): check kafka.brokers"
        ) from error
    if missing:
        raise EnvironmentFault(
            f"the topics {', '.join(missing)} do not exist: create them, or set kafka.create_topics: true"
        )
    return sum(len(existing[name].partitions) for name in kafka.topics if name in existing)


def create_when_reachable(kafka: Kafka, stop: threading.Event) -> None:
    """Create missing topics as soon as Kafka answers; returns when all are there, or stopped."""
    backoff = Backoff()
    while not stop.is_set():
        try:
            create_topics(kafka, timeout=_SHORT)
        except EnvironmentFault as error:
            _log.warning("waiting for topics", reason=str(error))
            stop.wait(backoff.next())
        else:
            return


def bounds(
    kafka: Kafka, partitions: Iterable[Partition], *, timeout: float = _PATIENT
) -> dict[Partition, Bounds]:
    """The offsets that partitions hold; those that Kafka doesn't have are left out.

    Raises:
        EnvironmentFault: Kafka cannot be reached.
    """
    wanted = list(partitions)
    if not wanted:
        return {}
    client = admin(kafka)
    try:
        known = client.list_topics(timeout=timeout).topics
        there = [key for key in wanted if key[0] in known and key[1] in known[key[0]].partitions]
        ends = []
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call]
            asked = client.list_offsets({TopicPartition(*key): spec for key in there}) if there else {}
            ends.append({(one.topic, one.partition): future.result(timeout) for one, future in asked.items()})
    except (KafkaException, TimeoutError) as error:
        code = error.args[0].name() if isinstance(error, KafkaException) else "timed out"
        raise EnvironmentFault(
            f"Kafka at {', '.join(kafka.brokers)} did not answer ({code}): check kafka.brokers"
        ) from error
    return {key: Bounds(ends[0][key].offset, ends[1][key].offset) for key in there}


def ends(
    client: AdminClient, partitions: Iterable[Partition], *, timeout: float
) -> dict[Partition, int] | None:
    """Behind the last message of each of these partitions, asked once; None if Kafka does not say in time."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(*key): latest for key in partitions}
    if not wanted:
        return {}
    try:
        asked = client.list_offsets(wanted, request_timeout=timeout)
        found = {(at.topic, at.partition): int(one.result(timeout + 1.0).offset) for at, one in asked.items()}
    except KafkaException as error:
        learn_leaders(client, [error], timeout=timeout)
        return None
    except TimeoutError:
        return None
    return found if all(map(is_offset, found.values())) else None


def is_offset(offset: int) -> bool:
    """Whether Kafka said one: a connection that is lost meanwhile is answered with -1001, which is none."""
    return offset >= 0


def learn_leaders(client: AdminClient, errors: Iterable[KafkaException], *, timeout: float) -> None:
    """Let a client that a broker refused (`errors`) ask who leads; what only this side says changes nothing.

    Once a broker was killed, its partitions have a newer leader epoch than the client remembers, and each question is
    answered with FENCED_LEADER_EPOCH. Questions for offsets alone go on with the older one until the client looks by
    itself, after five minutes (`topic.metadata.refresh.interval.ms`); listing all topics makes it look.
    """
    if any(error.args[0].code() > 0 for error in errors):
        with suppress(KafkaException):
            client.list_topics(timeout=timeout)


def _known(client: AdminClient, topics: list[str], timeout: float) -> dict[str, Any]:
    """The brokers' topics, once these have partitions: a new topic is known a moment after it was made."""
    limit = time.monotonic() + _TIMEOUT
    while True:
        existing: dict[str, Any] = client.list_topics(timeout=timeout).topics
        are_there = all(name in existing and existing[name].partitions for name in topics)
        if are_there or time.monotonic() > limit:
            return existing
        time.sleep(_INTERVAL)


def _ignore_existing(future: "object") -> None:
    try:
        future.result(timeout=_TIMEOUT)  # type: ignore[attr-defined]
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
