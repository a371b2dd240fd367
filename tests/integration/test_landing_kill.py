"""SIGKILL of the landing process in the middle of its work, at random moments: nothing lost, nothing doubled."""

import itertools
import json
import random
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.integration.ingest_process import Ingest, wait_until_caught_up, write_config
from tests.integration.landing_rig import check_books, rows, value
from tests.waiting import wait_for

KILLS = 5
PAUSE = 0.03
"""Seconds between hundreds of messages: the load lasts as long as the killing."""


@pytest.mark.timeout(300)
def test_sigkill_at_random_moments(
    database: str, kafka: str, topic: Callable[..., str], tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    name = topic(partitions=4)
    config = write_config(
        tmp_path, database, kafka, [name], batch_size=rng.choice([300, 1000, 3000]), batch_timeout="20ms"
    )
    sent: list[tuple[str, bytes]] = []
    broken: list[bytes] = []
    is_over = threading.Event()

    def load() -> None:
        producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
        for number in itertools.count():
            if number % 100 == 0:
                producer.poll(0)
                if is_over.wait(PAUSE):
                    break
            if rng.random() < 0.01:
                content = b"broken %d" % number
                broken.append(content)
            elif sent and rng.random() < 0.02:
                content = rng.choice(sent)[1]  # a duplicate
            else:
                identity = str(uuid.UUID(int=rng.getrandbits(128), version=4))
                body = {"event_type": "a", "id": identity, "timestamp": datetime.now(UTC).isoformat()}
                content = json.dumps({**body, "properties": {"n": number}}).encode()
                sent.append((identity, content))
            producer.produce(name, content, partition=rng.randrange(4))
        assert producer.flush(60) == 0

    process = Ingest(config)
    producing = threading.Thread(target=load)
    in_the_middle = 0
    try:
        process.start()
        producing.start()
        for _ in range(KILLS):
            before = landed(database)
            wait_for(lambda before=before: landed(database) > before, 60, "landing goes on")
            # A random moment of its work, not a wait for something: any moment is a good one.
            threading.Event().wait(rng.random() * 0.5)
            in_the_middle += is_landing(database)
            process.kill()
            process.start()
        before = landed(database)
        wait_for(lambda: landed(database) > before, 60, "the last one lands")
        is_over.set()
        producing.join(120)
        assert not producing.is_alive()
        ends = sum(end_of(kafka, name, number) for number in range(4))
        wait_until_caught_up(database, name, ends, timeout=120)
        assert process.stop() == 0
    finally:
        is_over.set()
        producing.join(60)
        process.close()
    print(f"{in_the_middle} of {KILLS} kills hit an open transaction")
    stored = [row[0] for row in rows(database, "SELECT id::text FROM events")]
    assert sorted(stored) == sorted(identity for identity, _ in sent), f"seed {seed}"
    dead = [bytes(row[0]) for row in rows(database, "SELECT value FROM dead_letter_events")]
    assert sorted(dead) == sorted(broken), f"seed {seed}"
    assert value(database, "SELECT max(epoch) FROM ingest_offsets") > KILLS // 2
    check_books(database)


def landed(database: str) -> int:
    return int(value(database, "SELECT coalesce(sum(read), 0) FROM ingest_batches"))


def is_landing(database: str) -> bool:
    return bool(
        value(
            database,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'analytics-landing-%'"
            " AND datname = current_database() AND xact_start IS NOT NULL",
        )
    )


def end_of(kafka: str, topic: str, partition: int) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "ends"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1])
    finally:
        consumer.close()
