"""A whole stack for tests, driven as a person would: the command `analytics`, its addresses, HTTP, SQL, Kafka.

Belongs here: talking to it. Does not belong here: what should be true (the tests).
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
from confluent_kafka import Producer

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import environment
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
START_LIMIT = 240
PORTS = (
    *("SERVER__PORT", "METRICS__PORT", "HEALTH__PORT", "DAGSTER__PORT", "LOCAL_STACK__KAFKA_PORT"),
    *("LOCAL_STACK__KAFKA_CONTROLLER_PORT", "LOCAL_STACK__POSTGRES_PORT", "LOCAL_STACK__REDIS_PORT"),
)

_BOOKS = """
SELECT count(*) FILTER (WHERE read <> stored + duplicate + dead) AS unbalanced, sum(stored)::bigint, sum(dead)::bigint,
    (SELECT count(*) FROM events), (SELECT count(*) FROM dead_letter_events),
    (SELECT count(*) FROM (
        SELECT first_offset - lag(next_offset) OVER (PARTITION BY source, partition ORDER BY first_offset) AS gap
        FROM ingest_batches WHERE first_offset IS NOT NULL
    ) AS steps WHERE gap <> 0) AS gaps,
    (SELECT coalesce(sum(accepted), 0)::bigint FROM http_accepted),
    (SELECT coalesce(sum(events), 0)::bigint FROM http_inbox)
        + coalesce(sum(read) FILTER (WHERE source = 'http'), 0)::bigint
FROM ingest_batches
"""
_COUNTED = """
SELECT interval, sum(count)::bigint FROM metrics_live
WHERE metric_name = 'events.count' AND dimension_set = '' GROUP BY interval
"""
_MATERIALIZATIONS = """
query ($asset: AssetKeyInput!) { assetOrError(assetKey: $asset) { ... on Asset { assetMaterializations(limit: 1000) {
  partition metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }
"""


class Stack:
    """One stack in `folder`, with ports of its own, of the product as it stands in `checkout`: this one, usually."""

    def __init__(self, folder: Path, checkout: Path = ROOT, /, **variables: str) -> None:
        self.folder = folder
        self.checkout = checkout
        self.said = folder.with_name(f"{folder.name}-said")
        """What it printed in the foreground."""
        self.foreground: subprocess.Popen[bytes] | None = None
        self.variables = {
            **environment(),
            "PYTHONPATH": str(checkout),  # before what is installed
            **{f"B25_{port}": "0" for port in PORTS},
            "B25_LOCAL_STACK__STATE_FOLDER": str(folder),
            "B25_LOCAL_STACK__KAFKA_HEAP": "384m",
            **variables,
        }

    def run(self, *arguments: str, timeout: float = START_LIMIT) -> subprocess.CompletedProcess[str]:
        """`analytics …`, to its end."""
        return subprocess.run(
            self._command(*arguments),
            cwd=self.checkout,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def begin(self) -> None:
        """Start in the foreground, without a terminal, and wait until everything is ready."""
        self.said.parent.mkdir(parents=True, exist_ok=True)
        with self.said.open("wb") as file:
            running = self.foreground = subprocess.Popen(
                self._command("up", "--no-simulator"),
                cwd=self.checkout,
                env=self.variables,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(
            lambda: running.poll() is not None or "everything is ready" in self.said.read_text(),
            START_LIMIT,
            "everything is ready",
        )
        assert running.poll() is None, self.said.read_text()

    def up(self, *arguments: str) -> str:
        """Start in the background; returns what it printed."""
        done = self.run("up", "--detach", "--no-simulator", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def down(self) -> None:
        """Stop."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """`analytics status --json`."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def address(self, name: str) -> str:
        """One of the addresses."""
        return str(self.status()["addresses"][name])

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "analytics_pipeline", *arguments]


class Pipe:
    """Both ends of a running stack: produce and post on one side, SQL, API and Dagster on the other."""

    def __init__(self, stack: Stack) -> None:
        addresses = stack.status()["addresses"]
        self.kafka = str(addresses["kafka"])
        self.conninfo = str(addresses["postgres"])
        self.dagster = str(addresses["dagster"])
        self.metrics = str(addresses["metrics"])
        self.health = str(addresses["health"])
        self.api = httpx.Client(base_url=str(addresses["api"]), timeout=10.0)

    def produce(self, topic: str, events: Iterable[dict[str, Any]]) -> None:
        """Send, and wait until Kafka has all."""
        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True, "linger.ms": 5})
        for one in events:
            producer.produce(topic, json.dumps(one).encode())
        assert producer.flush(60) == 0

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(statement.encode(), parameters or None).fetchall()

    def count(self, event_type: str) -> int:
        """Rows of a type in `events`."""
        return int(self.sql("SELECT count(*) FROM events WHERE event_type = %s", event_type)[0][0])

    def points(self, metric: str, interval: str, **parameters: str) -> list[dict[str, Any]]:
        """`/api/v1/metrics` from two days ago until tomorrow."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        span = {
            "start_time": (today - timedelta(days=2)).isoformat(),
            "end_time": (today + timedelta(days=1)).isoformat(),
        }
        answer = self.api.get(
            "/api/v1/metrics", params={"metric_name": metric, "interval": interval, **span, **parameters}
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["result"]["data_points"]
        return found

    def total(self, metric: str, interval: str) -> float:
        """Sum of a metric's points."""
        return float(sum(point["value"] for point in self.points(metric, interval)))

    def materialized(self, asset: str) -> int:
        """Events that all materializations of a rollup asset together tell of."""
        body = {"query": _MATERIALIZATIONS, "variables": {"asset": {"path": [asset]}}}
        answer = httpx.post(f"{self.dagster}/graphql", json=body, timeout=20.0).json()
        found = answer["data"]["assetOrError"].get("assetMaterializations", [])
        entries = [entry for one in found for entry in one["metadataEntries"] if entry["label"] == "events"]
        return sum(entry["intValue"] for entry in entries)

    def check_books(self) -> None:
        """Nothing lost, nothing doubled, at every level."""
        [row] = self.sql(_BOOKS)
        unbalanced, stored, dead, events, letters, gaps, accepted, read_or_waiting = row
        assert (unbalanced, gaps) == (0, 0)
        assert stored == events
        assert dead == letters
        assert accepted == read_or_waiting
        assert dict(self.sql(_COUNTED)) == dict.fromkeys(LEVELS, events)


def event(event_type: str, at: datetime, **properties: object) -> dict[str, Any]:
    """One event of the contract."""
    return {
        "id": str(uuid.uuid4()),
        "event_type": event_type,
        "timestamp": at.isoformat(),
        "user_id": "somebody",
        "session_id": "session",
        "properties": properties,
    }
