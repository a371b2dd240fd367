"""A real landing process, as the tests start, kill and stop it; and a producer."""

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml
from confluent_kafka import Producer
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.settings import environment
from tests.integration.landing_rig import rows, value
from tests.waiting import wait_for


def write_config(
    folder: Path,
    database: str,
    kafka: str | None,
    topics: list[str],
    *,
    auto_offset_reset: str = "earliest",
    **ingestion: object,
) -> Path:
    parts = conninfo_to_dict(database)
    config = {
        "database": {
            "host": parts["host"],
            "port": int(parts["port"]),
            "database": parts["dbname"],
            "user": parts["user"],
            "password": parts.get("password", ""),
            "ssl_mode": "disable",
        },
        "kafka": {
            "enabled": kafka is not None,
            "brokers": [kafka or "127.0.0.1:1"],
            "topics": topics or ["none"],
            "group_id": f"group-{folder.name}",
            "auto_offset_reset": auto_offset_reset,
            "session_timeout": "6s",
            "options": {"topic.metadata.refresh.interval.ms": 1000},  # new partitions are seen at once
        },
        "analytics": {
            "ingestion": {"batch_timeout": "50ms", **ingestion},
            "retention": {"raw_events": "2d"},
        },
        "logging": {"level": "info"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


class Ingest:
    """One process; its log is in `folder`."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._log = (config.parent / "ingest.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "analytics_pipeline.ingest"],
            env={**environment(), "B25_CONFIG": str(self._config)},
            stderr=self._log,
            stdout=self._log,
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, and its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def log(self) -> str:
        return (self._config.parent / "ingest.log").read_text()


@contextmanager
def ingest(config: Path) -> Iterator[Ingest]:
    made = Ingest(config)
    made.start()
    try:
        yield made
    finally:
        made.close()


def produce(
    kafka: str,
    topic: str,
    values: Iterable[bytes | None],
    partition: int | None = None,
    max_message: int = 1_000_000,
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.max.bytes": max_message,
        }
    )
    for content in values:
        where: Mapping[str, int] = {} if partition is None else {"partition": partition}
        producer.produce(topic, content, on_delivery=_check, **where)
        producer.poll(0)
    assert producer.flush(30) == 0


def _check(error: object, _message: object) -> None:
    assert error is None, error


def wait_until_landed(database: str, topic: str, messages: int, timeout: float = 60) -> None:
    def landed() -> bool:
        read = value(database, "SELECT coalesce(sum(read), 0) FROM ingest_batches WHERE source = %s", topic)
        return int(read) >= messages

    wait_for(landed, timeout, f"{messages} messages of {topic} landed")


def wait_until_caught_up(database: str, topic: str, ends: int, timeout: float = 60) -> None:
    """Until the sum of the offsets of all partitions has reached the sum of their ends."""
    wait_for(
        lambda: (
            (
                rows(database, "SELECT sum(next_offset) FROM ingest_offsets WHERE source = %s", topic)[0][0]
                or 0
            )
            >= ends
        ),
        timeout,
        f"{topic} caught up",
    )
