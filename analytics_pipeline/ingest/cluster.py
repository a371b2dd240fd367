"""What a Kafka cluster is and how its topics are kept: for looking at an installation, never on the way of messages.

Belongs here: describing brokers and topics. Does not belong here: judging that (`doctor`), creating topics (`topics`).
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.consumer import Partition
from analytics_pipeline.ingest.topics import admin
from analytics_pipeline.settings import Kafka

_TIMEOUT = 4.0
_PROTOCOL = "inter.broker.protocol.version"
_SINCE_4 = "group.coordinator.rebalance.protocols"


class Cluster(NamedTuple):
    """How many brokers there are, and as far as they tell which version of Kafka they are."""

    brokers: int
    version: str | None


class Topic(NamedTuple):
    """One topic.

    Attributes:
        partitions: how many.
        replication: copies of each; of the partition that has fewest.
        under_replicated: partitions of which a copy is behind.
        leaderless: partitions that cannot be read now.
        retention: how long messages are kept; None for ever.
        retention_bytes: how many bytes of a partition are kept; None for all.
        is_compacted: whether an older message with the same key is removed.
        has_id: whether Kafka tells this topic from another one of its name.
    """

    partitions: int
    replication: int
    under_replicated: int
    leaderless: int
    retention: timedelta | None
    retention_bytes: int | None
    is_compacted: bool
    has_id: bool


def cluster(kafka: Kafka) -> Cluster:
    """The brokers.

    Raises:
        EnvironmentFault: none of them answers.
    """
    client = admin(kafka)
    try:
        found = client.describe_cluster(request_timeout=_TIMEOUT).result(2 * _TIMEOUT)
    except (KafkaException, TimeoutError) as error:
        raise _fault(kafka, error) from error
    return Cluster(len(found.nodes), _version(client, found.nodes[0].id) if found.nodes else None)


def topics(kafka: Kafka, names: Sequence[str]) -> dict[str, Topic | None]:
    """Each of these topics; None for one that does not exist.

    Raises:
        EnvironmentFault: Kafka does not answer.
    """
    client = admin(kafka)
    try:
        known = client.list_topics(timeout=_TIMEOUT).topics
        there = [name for name in names if name in known]
        if not there:
            return dict.fromkeys(names)
        described = client.describe_topics(TopicCollection(there), request_timeout=_TIMEOUT)
        asked = client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in there])
        configs = {resource.name: _values(future) for resource, future in asked.items()}
        found = {name: _topic(described[name].result(2 * _TIMEOUT), configs[name]) for name in there}
    except (KafkaException, TimeoutError) as error:
        raise _fault(kafka, error) from error
    return {name: found.get(name) for name in names}


def newest(kafka: Kafka, partitions: Iterable[Partition]) -> datetime | None:
    """The latest timestamp of a message, by the clock of the broker or of the producer; None where none is told.

    Raises:
        EnvironmentFault: Kafka does not answer.
    """
    spec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(*key): spec for key in partitions}
    if not wanted:
        return None
    client = admin(kafka)  # without it, nobody answers
    try:
        asked = client.list_offsets(wanted, request_timeout=_TIMEOUT)
        times = [int(future.result(2 * _TIMEOUT).timestamp) for future in asked.values()]
    except (KafkaException, TimeoutError) as error:
        raise _fault(kafka, error) from error
    latest = max(times, default=-1)
    return datetime.fromtimestamp(latest / 1000, UTC) if 0 < latest < 4_102_444_800_000 else None


def _version(client: AdminClient, broker: int) -> str | None:
    """No request tells it in words; the settings of a broker do, up to 3.x by name and since 4.0 by what there is."""
    try:
        [asked] = client.describe_configs([ConfigResource(ResourceType.BROKER, str(broker))]).values()
        known = _values(asked)
    except (KafkaException, TimeoutError):  # not everybody may read them
        return None
    if _PROTOCOL in known:
        return known[_PROTOCOL].partition("-")[0]
    return "4.0 or newer" if _SINCE_4 in known else None


def _values(asked: "Future[Any]") -> dict[str, str]:
    return {name: str(entry.value) for name, entry in asked.result(2 * _TIMEOUT).items()}


def _topic(described: Any, config: dict[str, str]) -> Topic:
    partitions = described.partitions
    kept, size = int(config.get("retention.ms", -1)), int(config.get("retention.bytes", -1))
    return Topic(
        partitions=len(partitions),
        replication=min((len(one.replicas) for one in partitions), default=0),
        under_replicated=sum(len(one.isr) < len(one.replicas) for one in partitions),
        leaderless=sum(one.leader is None for one in partitions),
        retention=timedelta(milliseconds=kept) if 0 <= kept < 86_400_000 * 365_000 else None,
        retention_bytes=size if size >= 0 else None,
        is_compacted="compact" in config.get("cleanup.policy", "delete"),
        has_id=any(
            (described.topic_id.get_most_significant_bits(), described.topic_id.get_least_significant_bits())
        ),
    )


def _fault(kafka: Kafka, error: Exception) -> EnvironmentFault:
    code = error.args[0].name() if isinstance(error, KafkaException) else "timed out"
    return EnvironmentFault(
        f"Kafka at {', '.join(kafka.brokers)} did not answer ({code}): check kafka.brokers and kafka.options"
    )
