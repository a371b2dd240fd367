"""SIGKILL of retention at every step and between two, each resumed by the next run: nothing lost, rollups unchanged."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.failpoints import RunPoint
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import retention, rollups
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.patience import Held
from tests.integration.retention_runs import Runs, check_nothing_lost, wait_until_gone
from tests.integration.rollup_actors import NOW, TODAY, Actors, sent
from tests.integration.rollup_truth import check_settled, check_truth, remember
from tests.waiting import wait_for

DAYS = [TODAY - timedelta(days=number) for number in (6, 5, 4)]
"""Those that go."""
HOURS = [day + timedelta(hours=7) for day in DAYS]
STEPS = [
    RunPoint.FLOOR_RAISED,
    RunPoint.PARTITION_PLANNED,
    RunPoint.DELTAS_TAKEN,
    RunPoint.LEVELS_WRITTEN,
    RunPoint.REST_MERGED,
    RunPoint.PARTITION_MERGED,
    RunPoint.HOURS_FREEZING,
    RunPoint.DAY_FROZEN,
    RunPoint.PARTITION_FROZEN,
    RunPoint.PARTITION_DETACHING,
    RunPoint.TABLE_DETACHED,
    RunPoint.PARTITION_DETACHED,
    RunPoint.ARCHIVE_BEGUN,
    RunPoint.ARCHIVE_PART_WRITTEN,
    RunPoint.ARCHIVE_WRITTEN,
    RunPoint.PARTITION_ARCHIVED,
    RunPoint.ARCHIVE_READ,
    RunPoint.PARTITION_VERIFIED,
    RunPoint.TABLE_DROPPED,
    RunPoint.PARTITION_DROPPED,
]
"""In the order in which a run passes them, so that each run continues where the one before was killed."""


@pytest.fixture
def db(database: str, tmp_path: Path) -> Iterator[Connection]:
    """Three days that go, each with settled and pending deltas, and one that stays; what lands is remembered."""
    with Actors(database) as actors, connect(database, name="test", autocommit=True) as connection:
        ensure_range(connection, DAYS[0], NOW)
        remember(connection)
        for number, hour in enumerate([*HOURS, TODAY - timedelta(days=1)]):
            actors.land("setup", sent(hour, number, 40))
            rollups.merge_hour(connection, hour, run_id="setup")
            actors.land("setup", sent(hour, 100 + number, 10))
        retention.write_policies(connection, Retention(raw_events="3d", archive_uri=f"file://{tmp_path}"))
        connection.execute("UPDATE retention_state SET raw_floor = '1970-01-01+00'")
        yield connection


@pytest.fixture
def runs(database: str, tmp_path: Path) -> Iterator[Runs]:
    made = Runs(database, f"file://{tmp_path}", NOW)
    yield made
    made.close()


def states(db: Connection) -> list[str]:
    """Of the removals, oldest day first."""
    rows = db.execute("SELECT state FROM retention_removals WHERE parent = 'events' ORDER BY lower_bound")
    return [state for (state,) in rows]


def test_every_step_is_killed_and_resumed(db, database, runs, tmp_path):
    for step in STEPS:
        assert runs.killed_at(step), f"no run comes to {step}"
        wait_until_gone(db)
        check_truth(db)
        check_nothing_lost(db, tmp_path)
    assert states(db) == ["dropped"] * 2, (
        "what was detached goes on from there: the first day, then the second"
    )
    runs.start()
    assert runs.end() == 0
    assert states(db) == ["dropped"] * 3
    check_truth(db)
    check_nothing_lost(db, tmp_path)
    gone = db.execute(
        "SELECT id, timestamp FROM landed WHERE timestamp < %s ORDER BY 2, 1", (DAYS[-1] + timedelta(1),)
    )
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        files = f"'{tmp_path}/events/*/*.parquet'"
        assert duck.execute(f"SELECT id, timestamp FROM {files} ORDER BY 2, 1").fetchall() == gone.fetchall()
    assert not list(tmp_path.rglob("*.writing"))
    check_settled(db, database)


@pytest.mark.slow
def test_a_run_that_is_killed_while_a_reader_delays_its_detach_is_continued(db, database, runs, tmp_path):
    """Its server process does not notice, and works on alone: until it has ended, no other run begins."""
    with connect(database, name="reader") as reader:
        reader.execute("SELECT count(*) FROM events")
        child = runs.start()
        pending = "SELECT count(*) FROM time_partitions WHERE is_detaching"
        wait_for(lambda: db.execute(pending).fetchone() == (1,), 20, "the detach waits for the reader")
        runs.kill(child)
        with pytest.raises(Held, match="another run"):
            retention.remove_expired(db, now=NOW, run_id="next")
        check_nothing_lost(db, tmp_path)
    wait_until_gone(db)
    assert states(db) == ["detaching"]
    runs.start()
    assert runs.end() == 0
    assert states(db) == ["dropped"] * 3
    check_truth(db)
    check_nothing_lost(db, tmp_path)
