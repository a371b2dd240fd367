"""The Kafka and the Postgres of the chaos tests, real, durable, and made to be killed."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.kafka import Kafka
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.service import Say, Service
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from tests.waiting import wait_for

_RESTART = 60.0


class Server:
    """One server process."""

    def __init__(self, service: Service, folder: Path) -> None:
        service.prepare(print)
        self._child, self._command = Child(service, folder), list(service.command)
        self.start()
        service.once_ready()

    @property
    def pid(self) -> int:
        assert self._child.pid is not None
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def start(self) -> None:
        self._child.start()
        self._child.wait_until_ready()

    def crash(self, number: signal.Signals) -> None:
        """Send a signal that ends it at once, and wait for that."""
        os.kill(self.pid, number)
        wait_for(lambda: not self._child.is_running, _RESTART, "the server ends")
        self._child.end_session()

    def stop(self) -> None:
        self._child.stop()

    def restart(self, file_size: int | None) -> None:
        """In order; `file_size`: the largest file it may write, in bytes."""
        self._child.stop()
        command = self._command
        if file_size is not None:
            command = ["/bin/bash", "-c", f'ulimit -S -f {file_size // 1024}; exec "$0" "$@"', *command]
        self._child.service = dataclasses.replace(self._child.service, command=command)
        self.start()


class KafkaServer(Server):
    def __init__(self, folder: Path) -> None:
        kafka = Kafka(folder / "kafka", port=free_port(), controller_port=free_port(), heap="384m")
        self.address = kafka.address
        super().__init__(_with_short_sessions(kafka), folder)


class PostgresServer(Server):
    """With the product's schema; partitions from 2 days ago to 2 days ahead."""

    def __init__(self, folder: Path, *, is_durable: bool = True) -> None:
        self.settings = Postgres(folder / "postgres", port=free_port(), is_durable=is_durable)
        super().__init__(self.settings.service(), folder)
        with psycopg.connect(self.database) as connection:
            migrate(connection)
            connection.commit()
            ensure_partitions(connection, now=datetime.now(UTC), keep=timedelta(days=2), ahead_days=2)

    @property
    def database(self) -> str:
        """Connection string of the product's role."""
        return self.settings.conninfo()


@contextmanager
def stopping(server: Server) -> Iterator[None]:
    try:
        yield
    finally:
        server.stop()


def _with_short_sessions(kafka: Kafka) -> Service:
    """A broker refuses session timeouts below 6 s by default: dozens of kills would be mostly waiting."""
    service = kafka.service()

    def prepare(say: Say) -> None:
        service.prepare(say)
        with (kafka.folder / "server.properties").open("a") as file:
            file.write("group.min.session.timeout.ms=1000\n")

    return dataclasses.replace(service, prepare=prepare)
