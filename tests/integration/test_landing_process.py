"""The landing process on a real Kafka and a real Postgres."""

import asyncio
import json
import signal
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.posted import decode_posted
from analytics_pipeline.storage import inbox, offsets
from analytics_pipeline.storage.connection import connection
from tests.integration.ingest_process import (
    ingest,
    produce,
    wait_until_caught_up,
    wait_until_landed,
    write_config,
)
from tests.integration.landing_rig import check_books, event, execute, rows, value
from tests.unit.events.bad_inputs import AT, CASES, OK, TIME
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
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await inbox.append(connection, payloads, process_id=uuid.UUID(int=1), now=now)

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


def test_every_bad_input_between_good_messages(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name, now = topic(partitions=1, **{"max.message.bytes": "4000000"}), datetime.now(UTC)
    cases = [case for case in CASES if case not in TIME]
    sent: list[bytes | None] = []
    for number, case in enumerate(cases):
        fresh = case.value and case.value.replace(AT.encode(), now.isoformat().encode())
        sent += [*encoded(number), fresh]
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        produce(kafka, name, sent, max_message=4_000_000)
        wait_until_landed(database, name, len(sent))
        assert process.stop() == 0
    dead = dict(rows(database, "SELECT source_offset, reason FROM dead_letter_events"))
    stored = {row[0] for row in rows(database, "SELECT source_offset FROM events")}
    for number, case in enumerate(cases):
        assert 2 * number in stored, f"the neighbour of {case.name}"
        at = 2 * number + 1
        assert (at in stored, dead.get(at)) == (
            (True, None) if case.outcome == OK else (False, case.outcome)
        ), case
    kept = dict(rows(database, "SELECT source_offset, value FROM dead_letter_events"))
    assert all(kept[at] == sent[at] for at in kept)
    check_books(database)


def test_strange_kafka_messages(database: str, kafka: str, topic: Topics, tmp_path: Path) -> None:
    name = topic(partitions=1, **{"message.timestamp.after.max.ms": str(2**63 - 1)})
    [content] = encoded(0)
    no_time = b'{"event_type":"a"}'
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer(
            {"bootstrap.servers": kafka, "compression.type": codec, "message.max.bytes": 3_000_000}
        )
        producer.produce(name, no_time, key=None)
        producer.produce(name, no_time, key=b"k" * 900_000)
        producer.produce(name, b"broken", key=b"\x00\xff", headers=[("h", b"\x00")] * 1000)
        producer.produce(name, b"broken", headers=[("a", None), ("a", b""), ("é", b"x")])
        producer.produce(name, no_time, timestamp=2**60)
        producer.produce(name, content, timestamp=2**60)
        assert producer.flush(20) == 0
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        wait_until_landed(database, name, 30)
        assert process.stop() == 0
    assert rows(database, "SELECT reason, count(*) FROM dead_letter_events GROUP BY 1 ORDER BY 1") == [
        ("not_json", 10),
        ("too_far_in_future", 5),
    ]
    headers = rows(
        database,
        "SELECT convert_from(headers, 'UTF8'), key FROM dead_letter_events"
        " WHERE reason = 'not_json' ORDER BY id LIMIT 2",
    )
    assert json.loads(headers[0][0]) == [["h", "AA=="]] * 1000
    assert headers[0][1] == b"\x00\xff"
    assert json.loads(headers[1][0]) == [["a", None], ["a", ""], ["é", "eA=="]]
    assert rows(database, "SELECT sum(stored), sum(duplicate) FROM ingest_batches") == [(11, 4)]
    check_books(database)


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


def test_without_kafka_posted_events_land(database: str, tmp_path: Path) -> None:
    with ingest(write_config(tmp_path, database, None, [])) as process:
        post(database, *range(20))
        wait_until_landed(database, "http", 20)
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(20))
    check_books(database)


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


def test_postgres_away_in_the_middle_loses_nothing(
    database: str, kafka: str, topic: Topics, postgres_server: str, tmp_path: Path
) -> None:
    name = topic(partitions=2)
    with ingest(write_config(tmp_path, database, kafka, [name], batch_size=100)) as process:
        for start in range(0, 3000, 1000):
            produce(kafka, name, encoded(*range(start, start + 1000)))
            wait_until_landed(database, name, start + 300)
            allow_connections(postgres_server, database, False)
            allow_connections(postgres_server, database, True)
        wait_until_landed(database, name, 3000)
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(3000))
    check_books(database)


def test_a_definition_is_applied_without_a_restart(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic()
    [good, bad] = [
        json.dumps({"event_type": "mine", "properties": properties}).encode()
        for properties in ({"x": 1}, {"x": "1"})
    ]
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        produce(kafka, name, [good, bad])
        wait_until_landed(database, name, 2)
        schema = json.dumps({"properties": {"x": {"type": "integer"}}})
        with psycopg.connect(database) as opened:
            opened.execute(
                "INSERT INTO custom_event_definitions (name, schema, version) VALUES ('mine', %s, 4)",
                (schema,),
            )
            opened.execute("NOTIFY custom_events")
        wait_for(lambda: "definitions loaded" in process.log, 10)
        produce(kafka, name, [good, bad])
        wait_until_landed(database, name, 4)
        assert process.stop() == 0
    assert rows(database, "SELECT source_offset, definition_version FROM events ORDER BY 1") == [
        (0, None),
        (1, None),
        (2, 4),
    ]
    assert rows(database, "SELECT source_offset, reason FROM dead_letter_events") == [(3, "schema_violation")]
    check_books(database)


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


def test_trimmed_messages_stop_the_partition_until_somebody_decides(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=1)
    produce(kafka, name, encoded(*range(100)))
    config = write_config(tmp_path, database, kafka, [name])
    with ingest(config) as process:
        wait_until_landed(database, name, 100)
        assert process.stop() == 0
    produce(kafka, name, encoded(*range(100, 300)))
    admin = AdminClient({"bootstrap.servers": kafka})
    [deleted] = admin.delete_records([TopicPartition(name, 0, 250)]).values()
    deleted.result(20)
    with ingest(config) as process:
        wait_for(lambda: "partition stopped" in process.log, 30)
        assert "offsets 100 to 250 were deleted" in process.log
        assert process.is_running
        assert value(database, "SELECT count(*) FROM events") == 100
        assert f"analytics offsets skip-to {name} 0 250" in process.log
        with connection(database, name="test") as opened:
            offsets.skip_to(opened, database, (name, 0), 250, note="trimmed by retention")
        wait_for(lambda: value(database, "SELECT count(*) FROM events") == 150, 30)
        assert process.stop() == 0
    assert ids(database) == expected_ids(*range(100), *range(250, 300))
    assert rows(database, "SELECT skipped, note FROM ingest_batches WHERE note IS NOT NULL") == [
        (150, "trimmed by retention")
    ]
    check_books(database)


def test_a_stopped_owner_is_replaced_and_cannot_land_when_it_wakes_up(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic(partitions=2)
    config = write_config(tmp_path, database, kafka, [name], batch_size=200)
    with ingest(config) as first:
        produce(kafka, name, encoded(*range(2000)))
        wait_until_landed(database, name, 200)
        first.send(signal.SIGSTOP)
        produce(kafka, name, encoded(*range(2000, 3000)))
        with ingest(config) as second:
            wait_until_landed(database, name, 3000)
            first.send(signal.SIGCONT)
            produce(kafka, name, encoded(*range(3000, 4000)))
            wait_until_landed(database, name, 4000)
            assert first.stop() == 0
            assert second.stop() == 0
    assert ids(database) == expected_ids(*range(4000))
    check_books(database)


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
