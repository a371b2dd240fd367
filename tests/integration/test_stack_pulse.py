"""The numbers of the status line are those of the ledger and of Kafka."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
from confluent_kafka import Producer
from pydantic import SecretStr

from analytics_pipeline.ingest.topics import admin, create_topics
from analytics_pipeline.local_stack.pulse import Pulse
from analytics_pipeline.settings import Settings
from tests.waiting import wait_for

BATCH = """
INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored, duplicate, dead,
    catalog_version, committed_at) VALUES (%s, %s, 0, %s, %s, 10, 7, 2, 1, 'v', %s)
"""


def settings_for(kafka: str, database: str, topics: list[str]) -> Settings:
    settings = Settings.model_validate(
        {"kafka": {"brokers": [kafka], "topics": topics, "topic": {"partitions": 2}}}
    )
    settings.database = settings.database.model_copy(update={"url": SecretStr(database)})
    return settings


def test_totals_lag_and_freshness(database: str, kafka: str, topic: Callable[..., str]) -> None:
    name = topic(partitions=1)
    settings = settings_for(kafka, database, [name])
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(15):
        producer.produce(name, b"{}")
    assert producer.flush(20) == 0
    now = datetime.now(UTC)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ingest_offsets (source, partition, next_offset, caught_up_at) VALUES (%s, 0, 10, %s)",
            (name, now - timedelta(seconds=5)),
        )
        connection.execute(BATCH, (1, name, 0, 10, now - timedelta(hours=1)))
        pulse, client = Pulse(settings), admin(settings.kafka)
        pulse.read(connection, client)  # learns which partitions there are
        connection.execute(BATCH, (2, name, 10, 20, now))
        connection.execute("INSERT INTO http_inbox (payload) VALUES ('{}'), ('{}')")
        sample = pulse.read(connection, client)
        # a broker that other tests keep busy answers later than a status line waits for it
        lag = sample.lag or wait_for(lambda: pulse.read(connection, client).lag, timeout=60)
    assert (sample.stored, sample.duplicate, sample.dead) == (14, 4, 2)
    assert sample.rate == 1.0
    assert lag == 5 + 2
    assert sample.fresh is not None
    assert 5 <= sample.fresh < 60


def test_after_an_older_ledger_was_restored_the_totals_are_its_own(
    database: str, kafka: str, topic: Callable[..., str]
) -> None:
    name = topic(partitions=1)
    pulse, now = Pulse(settings_for(kafka, database, [name])), datetime.now(UTC)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(BATCH, (1, name, 0, 10, now - timedelta(hours=2)))
        connection.execute(BATCH, (2, name, 10, 20, now - timedelta(hours=1)))
        assert pulse.read(connection, None).stored == 14
        connection.execute("DELETE FROM ingest_batches WHERE batch_id = 2")  # as in the backup
        assert pulse.read(connection, None).stored == 7
        connection.execute(BATCH, (2, name, 10, 20, now))  # it is read again, under the same id
        sample = pulse.read(connection, None)
    assert (sample.stored, sample.duplicate, sample.dead) == (14, 4, 2)


def test_topics_are_created_once_and_existing_ones_left_alone(
    kafka: str, database: str, topic: Callable[..., str]
) -> None:
    existing = topic(partitions=3)
    settings = settings_for(kafka, database, [existing, f"{existing}.new"])
    assert create_topics(settings.kafka) == 3 + 2
    assert create_topics(settings.kafka) == 3 + 2
