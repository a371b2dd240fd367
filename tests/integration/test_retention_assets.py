"""The retention job as Dagster runs it: what it would do, and what it did."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.settings import settings
from analytics_pipeline.storage.audit import verify
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.metric_versions import register
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.retired_metrics import declare
from tests.integration.landed import Event, land

DAY = timedelta(days=1)
DRY = {"config": {"dry_run": True}}


@pytest.fixture
def db(
    database: str,
    now: datetime,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Connection]:
    """Two batches of a year ago, each with an event of that time, and one of today."""
    monkeypatch.setenv("B25_DATABASE__URL", database)
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(tmp_path_factory.getbasetemp() / "dagster"))
    monkeypatch.setenv("B25_ANALYTICS__RETENTION__ARCHIVE_URI", f"file://{tmp_path}/archive")
    settings.cache_clear()
    with connect(database, name="test", autocommit=True) as connection:
        long_ago = now - 370 * DAY
        ensure_range(connection, long_ago, long_ago)
        for _ in range(2):
            land(connection, [Event("page.view", long_ago)])
        connection.execute("UPDATE ingest_batches SET committed_at = %s", (long_ago,))
        land(connection, [Event("page.view", now)])
        yield connection
    settings.cache_clear()


@pytest.fixture
def run(db: Connection) -> Iterator[object]:
    from analytics_pipeline.definitions import definitions

    with dg.DagsterInstance.ephemeral() as instance:

        def execute(asset: str, **config: object) -> dict[str, object]:
            job = definitions.resolve_job_def("maintenance")
            done = job.execute_in_process(
                instance=instance,
                run_config={"ops": {asset: config}} if config else {},
                asset_selection=[dg.AssetKey(asset)],
            )
            assert done.success
            made, seen = done.get_asset_materialization_events(), done.get_asset_observation_events()
            assert (len(made), len(seen)) == ((0, 1) if config == DRY else (1, 0))
            found = made[0].materialization if made else seen[0].asset_observation_data.asset_observation
            return {key: value.value for key, value in found.metadata.items()}

        yield execute


def state(db: Connection) -> list[object]:
    return [
        db.execute("SELECT parent, partition FROM time_partitions ORDER BY 1, 2").fetchall(),
        db.execute("SELECT batch_id FROM ingest_batches ORDER BY 1").fetchall(),
        db.execute("SELECT raw_floor FROM retention_state").fetchall(),
        db.execute("SELECT * FROM retention_policies ORDER BY 1").fetchall(),
        db.execute("SELECT count(*) FROM retention_removals").fetchall(),
    ]


@pytest.mark.slow
def test_a_dry_run_lists_what_the_next_run_does_and_changes_nothing(db, run, tmp_path):
    before = state(db)
    told = run("expired_partitions", **DRY)
    rows = run("expired_rows", **DRY)
    assert state(db) == before
    assert not (tmp_path / "archive").exists()
    assert told["would be dropped"] > 0
    assert told["dropped"] == 0
    assert rows["dry run"] is True
    done = run("expired_partitions")
    assert done["dropped"] == told["would be dropped"]
    assert [path.name for path in (tmp_path / "archive").rglob("*.parquet")] == ["part-0.parquet"]
    assert run("expired_rows", **DRY)["ledger lines"] == 2
    assert run("expired_rows")["ledger lines"] == 2
    assert db.execute("SELECT count(*) FROM ingest_batches").fetchone() == (1,)
    assert not [check.name for check in verify(db) if check.broken]


def test_a_dry_run_of_both_tells_of_both_in_their_order(db):
    from analytics_pipeline.definitions import definitions

    names = ["expired_partitions", "expired_rows"]
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def("maintenance").execute_in_process(
            instance=instance,
            run_config={"ops": dict.fromkeys(names, DRY)},
            asset_selection=[dg.AssetKey(name) for name in names],
        )
    assert done.success
    assert not done.get_asset_materialization_events()
    told = [event.asset_key for event in done.get_asset_observation_events()]
    assert told == [dg.AssetKey(name) for name in names]


def test_cleanup_enabled_keeps_rows_too(db, run, monkeypatch):
    run("expired_partitions")
    monkeypatch.setenv("B25_ANALYTICS__RETENTION__CLEANUP_ENABLED", "false")
    settings.cache_clear()
    assert "skipped" in run("expired_rows")
    assert db.execute("SELECT count(*) FROM ingest_batches").fetchone() == (3,)


def test_a_metric_that_nobody_declares_any_more_ends(db, run):
    gone, *left = BUILT_IN.metrics
    register(db, BUILT_IN.metrics)
    declare(db, BUILT_IN.by_id)
    db.execute("UPDATE metric_declarations SET declared_at = declared_at - interval '2 days'")
    declare(db, [metric.metric_id for metric in left])
    assert run("retired_metrics")["retired"] == 0
    db.execute("UPDATE metric_declarations SET undeclared_since = undeclared_since - interval '1 day'")
    assert run("retired_metrics")["retired"] == 1
    ended = db.execute("SELECT metric_name FROM metric_versions WHERE retired_at IS NOT NULL").fetchall()
    assert ended == [(gone.name,)]
