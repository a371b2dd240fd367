"""The landing process on a real Kafka and a real Postgres."""

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.posted import decode_posted
from analytics_pipeline.storage import inbox
from tests.integration.ingest_process import (
    ingest,
    produce,
    wait_until_caught_up,
    wait_until_landed,
    write_config,
)
from tests.integration.landing_rig import check_books, event, execute, rows, value
from tests.waiting import wait_for

Topics = Callable[..., str]


def encoded(*numbers: int) -> list[bytes]:
    return [json.dumps(event(number)).encode() for number in numbers]


def ids(database: str) -> list[str]:
    return sorted(row[0] for row in rows(database, "SELECT id::text FROM events"))


def expected_ids(*numbers: int) -> list[str]:
    return sorted(event(number)["id"] for number in numbers)


def post(database: str, *numbers: int) -> None:
    now = datetime.now(UTC)
    payloads = [decode_posted(content, now=now, limits=Limits()).payload for content in encoded(*numbers)]

    async def append() -> None:
        entry = inbox.Entry(b"\n".join(payloads), len(payloads))
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await inbox.append(connection, [entry], process_id=uuid.UUID(int=1), now=now)

    asyncio.run(append())


def test_messages_land_and_a_stop_leaves_nothing_in_memory(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=3)
    config, sent = write_config(tmp_path, database, kafka, [name], batch_timeout="20s"), encoded(*range(600))
    with ingest(config) as process:
        produce(kafka, name, sent[:500])
        wait_for(lambda: "partitions assigned" in process.log, 30)
        post(database, 1000)
        wait_until_landed(database, "http", 1)
        wait_until_landed(database, name, 0)
        assert process.stop() == 0
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_landed(database, name, 500)
        produce(kafka, name, sent[400:])
        wait_until_landed(database, name, 700)
        wait_for(
            lambda: (
                value(
                    database,
                    "SELECT count(*) FROM ingest_offsets WHERE caught_up_at > now() - interval '5 s'",
                )
                == 3
            ),
            15,
            "freshness is written",
        )
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(600), 1000)
    assert value(database, "SELECT sum(duplicate) FROM ingest_batches") == 100
    check_books(database)


@pytest.mark.slow
def test_transactions_leave_no_gap_in_the_books(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    """Aborted messages and control records take offsets and bring nothing."""
    name = topic(partitions=1)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": f"tx-{name}"})
    producer.init_transactions(20)
    for first, is_committed in ((0, True), (10, False), (20, True), (30, False)):
        producer.begin_transaction()
        for content in encoded(*range(first, first + 10)):
            producer.produce(name, content)
        producer.flush(20)
        (producer.commit_transaction if is_committed else producer.abort_transaction)(20)
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_caught_up(database, name, 44)
        wait_for(
            lambda: value(database, "SELECT caught_up_at FROM ingest_offsets"), 15, "freshness is written"
        )
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(10), *range(20, 30))
    assert rows(database, "SELECT sum(read), sum(skipped) FROM ingest_batches") == [(20, 24)]
    check_books(database)


@pytest.mark.slow
def test_without_kafka_posted_events_land(database: str, tmp_path: Path) -> None:
    with ingest(write_config(tmp_path, database, None, [])) as process:
        post(database, *range(20))
        wait_until_landed(database, "http", 20)
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(20))
    check_books(database)


@pytest.mark.slow
def test_kafka_away_does_not_keep_posted_events_from_landing(
    database: str, postgres_server: str, tmp_path: Path
) -> None:
    """Nor does it crash, nor does Postgres being away at the start and in between."""
    allow_connections(postgres_server, database, False)
    with ingest(write_config(tmp_path, database, "127.0.0.1:1", ["t"])) as process:
        wait_for(lambda: "waiting for Postgres" in process.log, 30)
        allow_connections(postgres_server, database, True)
        post(database, *range(5))
        wait_until_landed(database, "http", 5)
        allow_connections(postgres_server, database, False)
        wait_for(lambda: "the inbox waits" in process.log, 30)
        allow_connections(postgres_server, database, True)
        post(database, *range(5, 10))
        wait_until_landed(database, "http", 10)
        assert process.stop() == 0
    check_books(database)


def allow_connections(postgres_server: str, database: str, allowed: bool) -> None:
    """Make the database go away, for everybody, at once; or come back."""
    name = str(conninfo_to_dict(database)["dbname"])
    with psycopg.connect(postgres_server, autocommit=True) as opened:
        opened.execute(
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
                sql.Identifier(name), sql.Literal(allowed)
            )
        )
        if not allowed:
            opened.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


@pytest.mark.slow
def test_too_many_dead_letters_stop_one_partition(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=2)
    config = write_config(tmp_path, database, kafka, [name], batch_size=50, dead_letter_consecutive=200)
    produce(kafka, name, [b"broken"] * 1000, partition=0)
    produce(kafka, name, encoded(*range(1000)), partition=1)
    with ingest(config) as process:
        wait_until_landed(database, name, 1200)
        wait_for(lambda: "partition stopped" in process.log, 10)
        produce(kafka, name, encoded(*range(1000, 1100)), partition=1)
        wait_for(lambda: value(database, "SELECT count(*) FROM events") == 1100, 30)
        assert 200 <= value(database, "SELECT count(*) FROM dead_letter_events") < 1000
        assert process.stop() == 0
    check_books(database)


@pytest.mark.slow
def test_partitions_added_live_are_read_from_their_start(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=1)
    config = write_config(tmp_path, database, kafka, [name])
    with ingest(config) as process:
        produce(kafka, name, encoded(*range(50)))
        wait_until_landed(database, name, 50)
        admin = AdminClient({"bootstrap.servers": kafka})
        [made] = admin.create_partitions([NewPartitions(name, 3)]).values()
        made.result(20)
        produce(kafka, name, encoded(*range(50, 100)), partition=2)
        wait_until_landed(database, name, 100)
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(100))
    check_books(database)


@pytest.mark.slow
def test_of_a_new_topic_only_what_comes_later_is_read_when_asked(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    """By two processes with two workers each that begin at once; then partitions are added while none runs."""
    name = topic(partitions=4)
    folders = [
        tmp_path / number / "latest" for number in ("one", "two")
    ]  # a group is named after its last part
    configs = []
    for folder in folders:
        folder.mkdir(parents=True)
        configs.append(write_config(folder, database, kafka, [name], auto_offset_reset="latest"))
    for number in range(4):
        produce(kafka, name, encoded(number), partition=number)
    with ingest(configs[0]) as one, ingest(configs[1]) as two:
        wait_for(lambda: all("partitions assigned" in process.log for process in (one, two)), 30)
        claimed = "SELECT count(*) FROM ingest_offsets WHERE epoch > 0"
        wait_for(lambda: value(database, claimed) == 4, 30, "all is claimed")
        for number in range(4):
            produce(kafka, name, encoded(10 + number), partition=number)
        wait_until_landed(database, name, 4)
        assert (one.stop(), two.stop()) == (0, 0)
    assert ids(database) == expected_ids(*range(10, 14))
    admin = AdminClient({"bootstrap.servers": kafka})
    [made] = admin.create_partitions([NewPartitions(name, 6)]).values()
    made.result(20)
    for number in (4, 5):
        produce(kafka, name, encoded(10 + number), partition=number)
    with ingest(configs[0]) as process:
        wait_until_landed(database, name, 6)
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(10, 16))
    check_books(database)


@pytest.mark.slow
def test_a_missing_partition_waits_for_maintenance(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    """Maintenance is behind: nothing is lost, nothing becomes a dead letter."""
    name, yesterday = topic(), datetime.now(UTC) - timedelta(days=1)
    execute(database, f"DROP TABLE events_p{yesterday:%Y%m%d}")
    late = json.dumps(event(1, timestamp=yesterday.isoformat())).encode()
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        produce(kafka, name, [*encoded(0), late, *encoded(2)])
        wait_for(lambda: "analytics migrate" in process.log, 30)
        execute(database, "SELECT create_event_partition(%s::date)", yesterday.date())
        wait_until_landed(database, name, 3)
        assert process.stop() == 0
    assert ids(database) == expected_ids(0, 1, 2)
    check_books(database)
