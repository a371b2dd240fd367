"""Topics of Kafka: creating those the settings name, and counting partitions.

Belongs here: administration through the Kafka protocol. Does not belong here: consuming.
"""

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Kafka

_TIMEOUT = 20.0


def admin(kafka: Kafka) -> AdminClient:
    """A client with the user's own options (SASL, TLS)."""
    return AdminClient({**kafka.options, "bootstrap.servers": ",".join(kafka.brokers), "log_level": 0})


def create_topics(kafka: Kafka) -> int:
    """Create the topics that are missing (unless `kafka.create_topics` is off); return the number of partitions.

    Raises:
        EnvironmentFault: Kafka cannot be reached or refuses.
    """
    client = admin(kafka)
    try:
        existing = client.list_topics(timeout=_TIMEOUT).topics
        missing = [name for name in kafka.topics if name not in existing]
        if missing and kafka.create_topics:
            wanted = [
                NewTopic(name, kafka.topic.partitions, kafka.topic.replication_factor) for name in missing
            ]
            for future in client.create_topics(wanted).values():
                _ignore_existing(future)
            missing = []
            existing = client.list_topics(timeout=_TIMEOUT).topics
    except KafkaException as error:
        raise EnvironmentFault(
            f"Kafka at {', '.join(kafka.brokers)} did not answer ({error.args[0].name()}): check kafka.brokers"
        ) from error
    if missing:
        raise EnvironmentFault(
            f"the topics {', '.join(missing)} do not exist: create them, or set kafka.create_topics: true"
        )
    return sum(len(existing[name].partitions) for name in kafka.topics if name in existing)


def _ignore_existing(future: "object") -> None:
    try:
        future.result(timeout=_TIMEOUT)  # type: ignore[attr-defined]
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
