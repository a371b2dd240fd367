"""What a recompute does when reading raw events goes wrong, against real Postgres."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from analytics_pipeline.errors import EnvironmentFault, InvariantBroken
from analytics_pipeline.rollups import minutes
from analytics_pipeline.storage import archived_events, recompute, rollups
from analytics_pipeline.storage.connection import Connection, connect
from tests.integration.rollup_data import land, live
from tests.unit.rollups.events import batch
from tests.waiting import wait_for

HOUR = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)
# More than two batches of ADBC and the buffers of a connection, so that the rest is still with Postgres when the first
# rows are there.
MANY = """
INSERT INTO events (event_type, properties, timestamp)
SELECT 'big', jsonb_build_object('text', repeat(md5(number::text), 32)), %s + number * interval '50 ms'
FROM generate_series(1, 60000) AS number
"""
READER = "application_name = 'analytics-recompute-events'"
OTHERS = "application_name LIKE 'analytics-recompute%'"
BACKENDS = "FROM pg_stat_activity WHERE datname = current_database() AND "
TABLES = ("metric_aggregations", "metric_states", "metric_buckets", "rollup_deltas", "pending_batches")


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with connect(database, name="test", autocommit=True) as opened:
        land(opened, batch(300, seed=1, start=HOUR), 1)
        rollups.merge_hour(opened, HOUR, run_id="run")
        land(opened, batch(20, seed=2, start=HOUR), 2)
        opened.execute(MANY, (HOUR,))
        yield opened


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archived_events, "CHUNK_ROWS", 500)


def state(connection: Connection) -> list[Any]:
    return [
        connection.execute(f"SELECT * FROM {table} ORDER BY {table}::text").fetchall() for table in TABLES
    ]  # type: ignore[arg-type]


def count(connection: Connection, which: str) -> int:
    row = connection.execute(f"SELECT count(*) {BACKENDS} {which}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [READER, OTHERS], ids=["its connection", "both connections"])
def test_ended_by_postgres_while_reading_it_is_a_fault_that_leaves_nothing(
    connection, database, monkeypatch, killed
):
    before, compute = state(connection), minutes.compute_deltas

    def end(*arguments: Any) -> pa.Table:
        connection.execute(f"SELECT pg_terminate_backend(pid) {BACKENDS} {killed}")
        wait_for(lambda: count(connection, killed) == 0)
        return compute(*arguments)

    monkeypatch.setattr(minutes, "compute_deltas", end)
    with pytest.raises(EnvironmentFault, match="while events were read"):
        recompute.recompute_hour(database, HOUR, run_id="backfill")
    monkeypatch.undo()
    assert_nothing_is_left(connection, before)
    assert recompute.recompute_hour(database, HOUR, run_id="backfill").events == 60_320


@pytest.mark.slow
def test_what_fails_while_it_reads_ends_the_reading(connection, database, monkeypatch):
    def fail(*_: Any) -> pa.Table:
        raise InvariantBroken("of a test")

    before = state(connection)
    monkeypatch.setattr(minutes, "compute_deltas", fail)
    with pytest.raises(InvariantBroken, match="of a test"):
        recompute.recompute_hour(database, HOUR, run_id="backfill")
    assert_nothing_is_left(connection, before)


def assert_nothing_is_left(connection: Connection, before: list[Any]) -> None:
    assert [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")] == []
    wait_for(lambda: count(connection, OTHERS) == 0)
    assert state(connection) == before
    served = live(connection)
    assert rollups.merge_hour(connection, HOUR, run_id="run") is not None, "the hour is still held"
    assert live(connection) == served
