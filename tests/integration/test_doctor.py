"""`analytics doctor` on real servers: each check fires where something is wrong, and says nothing where all is well."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis as Client

from analytics_pipeline.doctor import examine as running
from analytics_pipeline.doctor import kafka as kafka_checks
from analytics_pipeline.doctor import machine, postgres, redis
from analytics_pipeline.doctor.findings import Level, Verdict
from analytics_pipeline.doctor.installation import Installation
from analytics_pipeline.ingest.consumer import Bounds
from analytics_pipeline.ingest.stops import limit_passed, made_anew
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.api_keys import create_key, new_key
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from analytics_pipeline.storage.landing import Lander
from tests.integration.ingest_process import produce
from tests.integration.landing_rig import claim, event, execute, land, message

NOTHING: list[tuple[Level, str]] = []


def installation(**sections: Any) -> Installation:
    """Of what is not given, nothing is there."""
    found = Settings.model_validate({"kafka": {"enabled": False}, "redis": {"enabled": False}, **sections})
    return Installation(found, found, frozenset(), False, None)


def bad(verdicts: Iterator[Verdict]) -> list[tuple[Level, str]]:
    """What is not well; each says what to do."""
    found = [one for one in verdicts if one.level is not Level.OK]
    assert all(one.advice for one in found)
    return [(one.level, f"{one.sentence} → {one.advice}") for one in found]


def only(verdicts: Iterator[Verdict]) -> tuple[Level, str]:
    [found] = bad(verdicts)
    return found


@pytest.fixture
def stored(database: str) -> Installation:
    return installation(database={"url": database})


@contextmanager
def role(postgres_server: str, database: str, *statements: str) -> Iterator[str]:
    """A role of its own; statements name it as {} and run in the test's database, as superuser."""
    name = sql.Identifier("doctor_role")
    in_database = make_conninfo(postgres_server, dbname=conninfo_to_dict(database)["dbname"])
    with psycopg.connect(in_database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(name))
        try:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(name))
            yield make_conninfo(database, user="doctor_role", password="x")
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_server_without_fsync_and_one_that_refuses(stored: Installation, database: str) -> None:
    # the servers of the tests are not durable
    found = bad(postgres.reachable(stored))
    assert [level for level, _ in found] == [Level.PROBLEM, Level.REMARK]
    assert "fsync is off" in found[0][1]
    assert "synchronous_commit is off" in found[1][1]
    wrong = installation(
        database={"url": make_conninfo(database, password="wrong")}, redis={"enabled": False}
    )
    findings = {one.check: one for one in running.examine(wrong)}
    assert findings["postgres"].level is Level.PROBLEM
    assert "password authentication failed" in findings["postgres"].sentence
    assert "database.user, database.password or database.password_file" in findings["postgres"].advice
    assert findings["schema"].sentence == "not looked at, because Postgres cannot be asked"


def test_a_server_that_is_old_a_standby_or_full(
    stored: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = postgres.server.Server(130_010, "13.10", True, True, 100, 95, True)
    monkeypatch.setattr(postgres.server, "server", lambda _opened: known)
    found = bad(postgres.reachable(stored))
    assert [level for level, _ in found] == [Level.PROBLEM, Level.PROBLEM, Level.REMARK]
    assert "13.10 is too old" in found[0][1]
    assert "standby" in found[1][1]
    assert "only 5 of 100 connections" in found[2][1]


def test_clocks_agree_with_themselves(stored: Installation, redis_server: Redis) -> None:
    assert bad(postgres.clock(stored)) == NOTHING
    assert bad(redis.clock(cached(redis_server))) == NOTHING


def test_a_clock_that_is_off(stored: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "analytics_pipeline.storage.server._CLOCK", "SELECT clock_timestamp() - interval '9 seconds'"
    )
    level, text = only(postgres.clock(stored))
    assert (level, "behind ours" in text) == (Level.PROBLEM, True)


def test_migrations_that_are_pending_or_unknown(stored: Installation, database: str) -> None:
    assert bad(postgres.schema(stored)) == NOTHING
    execute(
        database, "INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, '9999_later', 'x')"
    )
    level, text = only(postgres.schema(stored))
    assert (level, "newer than this program" in text) == (Level.PROBLEM, True)
    execute(database, "DELETE FROM schema_migrations WHERE version > 30")
    level, text = only(postgres.schema(stored))
    assert (level, "→ run `analytics migrate`" in text) == (Level.PROBLEM, True)
    # what needs the schema is left alone
    findings = {one.check: one for one in running.examine(stored)}
    assert findings["partitions ahead"].sentence == (
        "not looked at, because the schema is not that of this release"
    )


def test_days_without_a_partition(stored: Installation, database: str) -> None:
    assert (
        only(postgres.partitions(stored))[0] is Level.REMARK
    )  # the template has two days ahead, seven are wanted
    near = installation(database={"url": database}, analytics={"retention": {"partitions_ahead": 2}})
    assert bad(postgres.partitions(near)) == NOTHING
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    execute(database, f"DROP TABLE events_p{tomorrow:%Y%m%d}")
    level, text = only(postgres.partitions(near))
    assert level is Level.PROBLEM
    assert f"events of {tomorrow:%Y-%m-%d} have no partition" in text
    assert "analytics maintain" in text


def test_the_disk_of_a_database_is_seen_where_it_may_be(
    stored: Installation, postgres_server: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [unseen] = machine.disk_of_postgres(stored)
    assert "cannot be seen from here" in unseen.sentence
    seeing = installation(
        database={"url": make_conninfo(postgres_server, dbname=conninfo_to_dict(database)["dbname"])}
    )
    monkeypatch.setattr(machine, "_LEAST_FREE", 1 << 62)
    assert only(machine.disk_of_postgres(seeing))[0] is Level.PROBLEM
    assert only(machine.disk_here(stored))[0] is Level.PROBLEM


def test_our_own_role_may_do_too_much_or_too_little(
    stored: Installation, postgres_server: str, database: str
) -> None:
    assert bad(postgres.roles(stored)) == NOTHING
    superuser = make_conninfo(postgres_server, dbname=conninfo_to_dict(database)["dbname"])
    assert only(postgres.roles(installation(database={"url": superuser})))[0] is Level.REMARK
    reads = (
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}",
        "REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC",
    )
    name = conninfo_to_dict(database)["dbname"]
    with role(postgres_server, database, reads[0], reads[1].replace("{db}", str(name))) as poor:
        found = bad(postgres.roles(installation(database={"url": poor})))
    assert [level for level, _ in found] == [Level.PROBLEM] * 3
    assert "may not create partitions" in found[0][1]
    assert "GRANT CREATE ON SCHEMA public TO doctor_role" in found[1][1]


def test_a_role_that_reads_and_could_write(stored: Installation, postgres_server: str, database: str) -> None:
    with role(postgres_server, database, "GRANT SELECT, INSERT ON events TO {}"):
        found = bad(postgres.roles(stored))
    assert [level for level, _ in found] == [Level.REMARK] * 3
    assert "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON events FROM doctor_role" in found[0][1]
    assert "GRANT SELECT ON metrics_live, " in found[1][1]
    assert "SET statement_timeout" in found[2][1]
    good = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", "ALTER ROLE {} SET statement_timeout = '60s'"
    with role(postgres_server, database, *good):
        assert bad(postgres.roles(stored)) == NOTHING


def test_keys_that_nobody_has(stored: Installation, database: str) -> None:
    assert bad(postgres.keys(stored)) == NOTHING
    asking = installation(database={"url": database}, security={"api_key_enabled": True})
    level, text = only(postgres.keys(asking))
    assert (level, "analytics keys create" in text) == (Level.PROBLEM, True)
    with connect(database, name="test") as connection:
        create_key(connection, new_key("a", ["read"], now=datetime.now(UTC)))
        connection.commit()
    assert bad(postgres.keys(asking)) == NOTHING


def test_dagsters_storage_and_its_daemon(stored: Installation, database: str) -> None:
    level, text = only(postgres.dagster(stored))
    assert (level, "analytics migrate" in text) == (Level.PROBLEM, True)
    with connect(database, name="test") as connection:
        create_dagster_schema(connection, "dagster")
        connection.execute("CREATE TABLE dagster.runs ()")
        connection.execute("CREATE TABLE dagster.daemon_heartbeats (timestamp timestamp)")
        connection.commit()
    assert "has ever run" in only(postgres.dagster(stored))[1]
    execute(
        database,
        "INSERT INTO dagster.daemon_heartbeats VALUES (now() AT TIME ZONE 'UTC' - interval '1 hour')",
    )
    level, text = only(postgres.dagster(stored))
    assert (level, "for 60 minutes" in text) == (Level.REMARK, True)
    execute(database, "INSERT INTO dagster.daemon_heartbeats VALUES (now() AT TIME ZONE 'UTC')")
    assert bad(postgres.dagster(stored)) == NOTHING


def with_kafka(database: str, kafka: str, *topics: str, **ingestion: Any) -> Installation:
    return installation(
        database={"url": database},
        kafka={"brokers": [kafka], "topics": list(topics), "create_topics": False},
        analytics={"ingestion": {"workers": 1, **ingestion}},
    )


def test_brokers_and_topics(database: str, kafka: str, topic: Callable[..., str]) -> None:
    good, short = (
        topic(partitions=2),
        topic(**{"retention.ms": "3600000", "cleanup.policy": "compact,delete"}),
    )
    found = with_kafka(database, kafka, good)
    [reached] = kafka_checks.reachable(found)
    assert (reached.level, reached.sentence) == (Level.OK, "Kafka 4.0 or newer, 1 broker")
    assert bad(kafka_checks.topics(found)) == NOTHING
    told = bad(kafka_checks.topics(with_kafka(database, kafka, good, short, "test.nowhere", workers=9)))
    assert [level for level, _ in told] == [Level.PROBLEM, Level.PROBLEM, Level.REMARK, Level.REMARK]
    assert "test.nowhere: no such topics" in told[0][1]
    assert f"{short}: messages are deleted after 1.0 h" in told[1][1]
    assert f"{short}: compacted" in told[2][1]
    assert "3 partitions keep only as many of the 9 landing connections busy" in told[3][1]


def test_brokers_that_do_not_answer(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analytics_pipeline.ingest.cluster._TIMEOUT", 0.5)
    findings = {one.check: one for one in running.examine(with_kafka(database, "127.0.0.1:1", "a"))}
    assert findings["kafka"].level is Level.PROBLEM
    assert "Kafka at 127.0.0.1:1 did not answer" in findings["kafka"].sentence
    assert findings["kafka"].advice.startswith("check kafka.brokers")
    assert findings["topics"].sentence == "not looked at, because Kafka cannot be asked"


def test_a_producer_whose_clock_is_ahead(database: str, kafka: str, topic: Callable[..., str]) -> None:
    name = topic()
    found = with_kafka(database, kafka, name)
    assert [one.sentence for one in kafka_checks.clock(found)] == ["no message tells a time"]
    producer = Producer({"bootstrap.servers": kafka})
    for ahead, level in ((0, None), (60, Level.REMARK), (900, Level.PROBLEM)):
        at = datetime.now(UTC) + timedelta(seconds=ahead)
        producer.produce(name, b"{}", timestamp=int(at.timestamp() * 1000))
        assert producer.flush(20) == 0
        verdicts = bad(kafka_checks.clock(found))
        assert [one for one, _ in verdicts] == ([] if level is None else [level])


def test_lag_that_nobody_takes_up(database: str, kafka: str, topic: Callable[..., str]) -> None:
    name = topic()
    found = with_kafka(database, kafka, name)
    assert "no partition has ever been read" in only(kafka_checks.lag(found))[1]
    claim(database, (name, 0))
    assert only(kafka_checks.lag(found))[0] is Level.REMARK
    produce(kafka, name, [b"{}"] * 7)
    level, text = only(kafka_checks.lag(found))
    assert (level, "7 messages wait" in text) == (Level.PROBLEM, True)
    with psycopg.connect(database, application_name="analytics-landing-9") as owner:
        owner.execute(
            "UPDATE ingest_offsets SET owner = 'analytics-landing-9', caught_up_at = now() - interval '1 h'"
        )
        owner.commit()
        level, text = only(kafka_checks.lag(found))
        assert (level, f"landed: {name}/0" in text) == (Level.PROBLEM, True)
        owner.execute("UPDATE ingest_offsets SET caught_up_at = now()")
        owner.commit()
        assert bad(kafka_checks.lag(found)) == NOTHING


def test_partitions_that_wait_for_a_person(database: str, kafka: str, topic: Callable[..., str]) -> None:
    name = topic()
    found = with_kafka(database, kafka, name)
    produce(kafka, name, [json.dumps(event(n)).encode() for n in range(20)])
    owner = claim(database, (name, 0))
    assert bad(kafka_checks.stops(found)) == NOTHING
    with closing(Lander(database, name="landing-test")) as lander:
        _, owner = land(lander, owner, [message(n, b"broken") for n in range(6)], source=name)
        lander.note_stops({(name, 0): (owner, made_anew((name, 0), Bounds(0, 20)))})
        level, text = only(kafka_checks.stops(found))
        assert level is Level.PROBLEM
        assert f"{name}/0 stands still: the topic was deleted and recreated" in text
        why = "the last 6 messages all became dead letters"
        lander.note_stops({(name, 0): (owner, limit_passed((name, 0), 6, why))})
    level, text = only(kafka_checks.stops(found))
    assert f"{name}/0 stands still: {why}" in text
    assert f"analytics offsets skip-to {name} 0 6" in text
    admin = AdminClient({"bootstrap.servers": kafka})
    [deleted] = admin.delete_records([TopicPartition(name, 0, 10)]).values()
    deleted.result(20)
    level, text = only(kafka_checks.stops(found))
    assert "offsets 6 to 10 were deleted before they were read" in text
    assert f"analytics offsets skip-to {name} 0 10" in text


def cached(server: Redis, **changes: Any) -> Installation:
    place = {"host": server.host, "port": server.port, "password": server.password, **changes}
    return installation(redis=place)


def test_a_redis_that_is_too_old_is_told(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "_info", lambda *_: {"redis_version": "6.0.16"})
    [(level, sentence)] = bad(redis.reachable(cached(redis_server)))
    assert level is Level.PROBLEM
    assert "Redis 6.0.16 is too old" in sentence


def test_redis_its_policy_and_what_refuses(redis_server: Redis) -> None:
    found = cached(redis_server)
    assert bad(redis.reachable(found)) == NOTHING
    assert bad(redis.policy(found)) == NOTHING
    with Client(host=redis_server.host, port=redis_server.port, password=redis_server.password) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("save", "3600 1")
        try:
            told = bad(redis.policy(found))
        finally:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("save", "")
    assert [level for level, _ in told] == [Level.REMARK, Level.REMARK]
    assert "maxmemory-policy allkeys-lru" in told[0][1]
    findings = {one.check: one for one in running.examine(cached(redis_server, password="wrong"))}
    assert findings["redis"].level is Level.PROBLEM
    assert "refuses (AuthenticationError)" in findings["redis"].sentence
    assert findings["redis policy"].sentence == "not looked at, because Redis cannot be asked"
    away = {one.check: one for one in running.examine(installation(redis={"port": 1}))}
    assert "does not answer (ConnectionError)" in away["redis"].sentence


def test_everything_at_once_and_nothing_is_a_defect(
    database: str, kafka: str, redis_server: Redis, topic: Callable[..., str]
) -> None:
    found = installation(
        database={"url": database},
        kafka={"brokers": [kafka], "topics": [topic()]},
        redis={"host": redis_server.host, "port": redis_server.port, "password": redis_server.password},
    )
    findings = list(running.examine(found))
    assert {one.check for one in findings} == {check.name for check in running.CHECKS}
    assert [one for one in findings if "failed itself" in one.sentence or "no answer" in one.sentence] == []
