"""One run of the production consumer: the process itself, over a topic that is full before it starts."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.settings import environment
from benchmarks.books import Refused

_PROGRESS = "SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches"
_SPAN = """
SELECT extract(epoch FROM min(committed_at - make_interval(secs => seconds)))::float8,
    extract(epoch FROM max(committed_at))::float8, count(DISTINCT batch_id)
FROM ingest_batches
"""
_SECOND_HALF = """
WITH run AS (
    SELECT committed_at, read, sum(read) OVER (ORDER BY committed_at, batch_id, partition) AS landed,
        sum(read) OVER () AS total
    FROM ingest_batches
), half AS (SELECT min(committed_at) AS at FROM run WHERE landed >= total / 2)
SELECT (coalesce(sum(read) FILTER (WHERE committed_at > half.at), 0)
    / nullif(extract(epoch FROM max(committed_at) - half.at), 0))::float8
FROM run, half GROUP BY half.at
"""
_POLL = 0.2
_STUCK_AFTER = 60.0
_STOP_LIMIT = 30.0


class Consumed(NamedTuple):
    """Wall-clock seconds: the start of the process, of the first transaction, and the last commit."""

    started: float
    began: float
    ended: float
    batches: int
    second_half: float | None
    """Events/s after half had landed: without the start of the process and the first rebalance."""


@contextmanager
def process(
    folder: Path, conninfo: str, kafka: str, topic: str, *, workers: int, batch_size: int
) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m analytics_pipeline.ingest`, as `make up` has it but for workers and batch size; stopped afterwards."""
    folder.mkdir(parents=True)
    parts = conninfo_to_dict(conninfo)
    database = {
        "host": parts["host"],
        "port": int(str(parts["port"])),
        "database": parts["dbname"],
        "user": parts["user"],
        "password": parts.get("password", ""),
        "ssl_mode": "disable",
    }
    config = {
        "database": database,
        "kafka": {"brokers": [kafka], "topics": [topic], "group_id": f"bench-{folder.name}"},
        "analytics": {"ingestion": {"workers": workers, "batch_size": batch_size}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics").mkdir()
    variables = {name: value for name, value in environment().items() if not name.startswith("B25_")}
    variables |= {
        "B25_CONFIG": str(folder / "config.yaml"),
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "PYTHONUNBUFFERED": "1",
    }
    with (folder / "ingest.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "analytics_pipeline.ingest"], env=variables, stdout=log, stderr=log
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def wait_until_landed(conninfo: str, running: subprocess.Popen[bytes], messages: int, log: Path) -> Consumed:
    """Wait until so many messages are in the ledger.

    Raises:
        Refused: the process ended, or nothing moved for a minute.
    """
    started, last, moved = time.time(), -1, time.monotonic()
    with psycopg.connect(conninfo, autocommit=True) as opened:
        while True:
            row = opened.execute(_PROGRESS).fetchone()
            assert row is not None
            if row[0] >= messages:
                break
            if row[0] != last:
                last, moved = row[0], time.monotonic()
            if running.poll() is not None or time.monotonic() - moved > _STUCK_AFTER:
                words = (log.read_text().strip().splitlines() or ["no output"])[-1]
                raise Refused(f"landing ended or stood still at {row[0]} of {messages} messages: {words}")
            time.sleep(_POLL)
        span, half = opened.execute(_SPAN).fetchone(), opened.execute(_SECOND_HALF).fetchone()
    assert span is not None
    assert half is not None
    return Consumed(started, *span, *half)
