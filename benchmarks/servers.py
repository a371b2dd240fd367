"""A Kafka and a Postgres of the benchmark's own, set as `make up` sets them, fsync on, in a folder that goes away.

Belongs here: starting, fresh databases, topics, sending. Does not belong here: what is measured.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.kafka import Kafka
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from analytics_pipeline.storage.retention import write_policies
from benchmarks.workload import Workload

_numbers = itertools.count(1)
_FLUSH_LIMIT = 120.0


class Servers:
    """Both servers, ready, or Postgres alone; a context that stops them and removes the folder."""

    def __init__(self, *, with_kafka: bool = True) -> None:
        self._with_kafka = with_kafka
        self._exits = ExitStack()

    def __enter__(self) -> "Servers":
        with ExitStack() as exits:
            self.folder = Path(tempfile.mkdtemp(prefix="b25-bench-", dir="/tmp"))
            exits.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.postgres = Postgres(self.folder / "postgres", port=free_port(), database="bench_template")
            self.kafka = Kafka(self.folder / "kafka", port=free_port(), controller_port=free_port())
            self.postgres_pid = exits.enter_context(_running(self.postgres.service(), self.folder))
            if self._with_kafka:
                self.kafka_pid = exits.enter_context(_running(self.kafka.service(), self.folder))
            self._migrate()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _migrate(self) -> None:
        retention = Retention()
        with psycopg.connect(self.postgres.conninfo()) as opened:
            migrate(opened)
            opened.commit()
            write_policies(opened, retention)
            opened.commit()
            ensure_partitions(
                opened,
                now=datetime.now(UTC),
                keep=retention.raw_events,
                ahead_days=retention.partitions_ahead,
            )

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database with all migrations and partitions, after a checkpoint; dropped afterwards."""
        name = f"bench_{next(_numbers)}"
        with psycopg.connect(self.postgres.superuser_conninfo(), autocommit=True) as opened:
            opened.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    *map(sql.Identifier, (name, self.postgres.database, self.postgres.user))
                )
            )
            try:
                self.checkpoint()
                yield make_conninfo(self.postgres.conninfo(), dbname=name)
            finally:
                opened.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def checkpoint(self) -> None:
        """Have all that was written on disk, so that it is not being written while something is measured."""
        with psycopg.connect(self.postgres.superuser_conninfo(), autocommit=True) as opened:
            opened.execute("CHECKPOINT")

    def durability(self) -> dict[str, str]:
        """What Postgres itself says of the settings that decide whether a commit is on disk."""
        names = ("fsync", "synchronous_commit", "full_page_writes", "server_version")
        with psycopg.connect(self.postgres.conninfo()) as opened:
            rows = {name: opened.execute(f"SHOW {name}").fetchone() for name in names}
        return {name: str(row[0]) for name, row in rows.items() if row}

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic."""
        admin = AdminClient({"bootstrap.servers": self.kafka.address})
        [future] = admin.create_topics([NewTopic(name, partitions, 1)]).values()
        future.result(timeout=20)

    def send(self, topic: str, work: Workload) -> None:
        """Produce every message to its partition with its Kafka time, evenly over the partitions.

        Raises:
            EnvironmentFault: Kafka did not take all.
        """
        producer = Producer(
            {
                "bootstrap.servers": self.kafka.address,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 500_000,
            }
        )
        sources = [iter(zip(*pair, strict=True)) for pair in zip(work.values, work.millis, strict=True)]
        for row in itertools.zip_longest(*sources):
            for number, message in enumerate(row):
                if message is None:
                    continue
                while True:
                    try:
                        producer.produce(topic, message[0], partition=number, timestamp=message[1])
                        break
                    except BufferError:
                        producer.poll(0.1)
            producer.poll(0)
        if left := producer.flush(_FLUSH_LIMIT):
            raise EnvironmentFault(f"Kafka did not take {left} messages of {topic}")


@contextmanager
def _running(service: Service, folder: Path) -> Iterator[int]:
    service.prepare(print)
    child = Child(service, folder)
    child.start()
    try:
        child.wait_until_ready()
        service.once_ready()
        assert child.pid is not None
        yield child.pid
    finally:
        child.stop()
