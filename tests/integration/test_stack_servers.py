"""The embedded servers start, answer, refuse strangers, survive a restart and stop in order."""

from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from redis import Redis as Client
from redis.exceptions import AuthenticationError

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.kafka import Kafka
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres, system_programs
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.storage.migrations import available, migrate


def start(service: Service, folder: Path) -> Child:
    service.prepare(print)
    child = Child(service, folder)
    child.start()
    child.wait_until_ready()
    service.once_ready()
    return child


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedded", "system"])
def test_postgres_keeps_its_data_and_takes_the_schema(state_folder: Path, kind: str) -> None:
    programs = system_programs() if kind == "system" else None
    if kind == "system" and programs is None:
        pytest.skip("no PostgreSQL of the system on this machine")
    server = Postgres(state_folder / f"postgres-{kind}", port=free_port(), programs=programs)
    child = start(server.service(), state_folder)
    try:
        with psycopg.connect(server.conninfo()) as connection:
            assert migrate(connection) == available()
    finally:
        assert child.stop()
    child = start(server.service(), state_folder)
    try:
        with psycopg.connect(server.conninfo()) as connection:
            assert migrate(connection) == []
            user = connection.execute(
                "SELECT current_user, usesuper FROM pg_user WHERE usename = current_user"
            ).fetchone()
            assert user == ("analytics_user", False)
    finally:
        assert child.stop()


def test_postgres_refuses_a_connection_without_the_password(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(
            host="127.0.0.1", port=postgres.port, user="postgres", dbname="postgres", passfile="/dev/null"
        )


def test_databases_of_tests_are_their_own(database: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT to_regclass('events'), to_regclass('metric_aggregations')"
        ).fetchone()
    assert tables == ("events", "metric_aggregations")


@pytest.mark.slow
def test_redis_asks_for_its_password(redis_server: Redis) -> None:
    with Client(host="127.0.0.1", port=redis_server.port, password=redis_server.password) as client:
        assert client.ping()
    with Client(host="127.0.0.1", port=redis_server.port) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()


@pytest.mark.slow
def test_kafka_keeps_messages_over_a_restart(state_folder: Path) -> None:
    server = Kafka(state_folder / "kafka-restart", port=free_port(), controller_port=free_port(), heap="256m")
    child = start(server.service(), state_folder)
    try:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": server.address})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(timeout=20)
        producer = Producer({"bootstrap.servers": server.address})
        producer.produce("kept", b"hello", timestamp=1_000_000_000_000)  # of 2001: time must not trim it
        assert producer.flush(20) == 0
    finally:
        child.stop()  # now and then by force: see `stop_timeout` of the service
    child = start(server.service(), state_folder)
    try:
        consumer = Consumer(
            {"bootstrap.servers": server.address, "group.id": "reader", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["kept"])
        message = consumer.poll(30)
        consumer.close()
        assert message is not None
        assert message.value() == b"hello"
    finally:
        child.stop()
