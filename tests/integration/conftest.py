"""The embedded services, started when a test first asks for one, and stopped when the session ends.

Each test has a database of its own, a copy of one that was migrated once, and topics of its own.
"""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.kafka import Kafka
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres, system_programs
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.settings import settings
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from analytics_pipeline.storage.retention import write_policies
from tests.integration.databases import fresh_database

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    """A folder with a short path, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="b25-test-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def running(service: Service, folder: Path) -> Iterator[Child]:
    service.prepare(print)
    child = Child(service, folder)
    child.start()
    try:
        child.wait_until_ready()
        service.once_ready()
        yield child
    finally:
        child.stop()


@pytest.fixture(scope="session")
def postgres(state_folder: Path, request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """The server itself; the product's role exists, and `template1` is as PostgreSQL made it."""
    wanted = request.config.getoption("--postgres-programs")
    programs = None
    if wanted == "system":
        programs = system_programs()
        if programs is None:
            pytest.skip("no PostgreSQL of the system on this machine")
    elif wanted != "embedded":
        programs = Path(wanted)
    server = Postgres(
        state_folder / "postgres",
        port=free_port(),
        database="template_analytics",
        programs=programs,
        is_durable=False,
    )
    for _ in running(server.service(), state_folder):
        _let_connect_cheaply(server)
        yield server


def _let_connect_cheaply(server: Postgres) -> None:
    """One round of hashing a password instead of 4,096: tests connect thousands of times."""
    with psycopg.connect(server.superuser_conninfo(), autocommit=True) as connection:
        with contextlib.suppress(psycopg.errors.UndefinedObject):  # before PostgreSQL 16
            connection.execute("SET scram_iterations = 1")
        for conninfo in (server.conninfo(), server.superuser_conninfo()):
            known = conninfo_to_dict(conninfo)
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(str(known["user"])), sql.Literal(known["password"])
                )
            )


@pytest.fixture(scope="session")
def postgres_server(postgres: Postgres) -> str:
    """Connection string of the maintenance database, as superuser."""
    return postgres.superuser_conninfo()


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """Name of a migrated database, partitions 2 days back to 2 days ahead; nobody stays connected."""
    with psycopg.connect(postgres.conninfo()) as connection:
        migrate(connection)
        connection.commit()
        ensure_partitions(connection, now=datetime.now(UTC), keep=timedelta(days=2), ahead_days=2)
    return postgres.database


@pytest.fixture
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Connection string of this test's own database, as the product's role, which owns it."""
    yield from fresh_database(postgres, template_database)


@pytest.fixture(scope="session")
def kafka(state_folder: Path) -> Iterator[str]:
    """Bootstrap address of an Apache Kafka."""
    server = Kafka(state_folder / "kafka", port=free_port(), controller_port=free_port(), heap="384m")
    for _ in running(server.service(), state_folder):
        yield server.address


@pytest.fixture
def topic(kafka: str) -> Iterator[Callable[..., str]]:
    """Makes fresh topics: `topic(partitions=1)` returns the name; removed afterwards."""
    admin = AdminClient({"bootstrap.servers": kafka})
    made: list[str] = []

    def create(partitions: int = 1, **options: str) -> str:
        name = f"test.topic.{next(_numbers)}"
        [future] = admin.create_topics([NewTopic(name, partitions, 1, config=options)]).values()
        future.result(timeout=20)
        made.append(name)
        return name

    yield create
    if made:
        for future in admin.delete_topics(made).values():
            future.result(timeout=20)


@pytest.fixture(scope="session")
def redis_server(state_folder: Path) -> Iterator[Redis]:
    """An embedded Redis: `.host`, `.port`, `.password` (it asks for it)."""
    server = Redis(state_folder / "redis", port=free_port())
    for _ in running(server.service(), state_folder):
        yield server


@pytest.fixture
def now() -> datetime:
    """The present, the same throughout a test."""
    return datetime.now(UTC)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """A connection to the test's database, and nothing else."""
    with connect(database, name="test", autocommit=True) as opened:
        yield opened


@pytest.fixture
def lander(database: str) -> Iterator[Lander]:
    """What lands batches in the test's database."""
    made = Lander(database, name="landing-test")
    yield made
    made.close()


@pytest.fixture
def db(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """A connection to the test's database, which the settings of this process name too, with Dagster's own folder."""
    monkeypatch.setenv("B25_DATABASE__URL", database)
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(tmp_path_factory.getbasetemp() / "dagster"))
    settings.cache_clear()
    with connect(database, name="test", autocommit=True) as connection:
        write_policies(connection, settings().analytics.retention)
        yield connection
