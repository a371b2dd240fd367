"""Recomputing in Dagster: a preview writes and materializes nothing, a wrong name is one sentence."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from analytics_pipeline.defs.partitions import day_key, hour_key
from analytics_pipeline.settings import settings
from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.connection import Connection, connect
from tests.integration.rollup_data import land, live
from tests.unit.rollups.events import batch

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
HOUR = DAY + timedelta(hours=10)
HOUR_LEVELS = ("1m", "5m", "15m", "1h")


@pytest.fixture
def db(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """60 events of one hour, in totals that count one too many."""
    monkeypatch.setenv("B25_DATABASE__URL", database)
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(tmp_path_factory.getbasetemp() / "dagster"))
    settings.cache_clear()
    with connect(database, name="test", autocommit=True) as connection:
        land(connection, batch(60, seed=1, start=HOUR), 1)
        rollups.merge_hour(connection, HOUR, run_id="run")
        connection.execute("INSERT INTO ingest_offsets VALUES ('t', 0, 0, 1, now())")
        connection.execute("UPDATE metric_aggregations SET count = count + 1 WHERE dimension_set = ''")
        yield connection


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run(
    instance: dg.DagsterInstance, op: str, levels: tuple[str, ...], partition: str, **config: Any
) -> dg.ExecuteInProcessResult:
    from analytics_pipeline.definitions import definitions

    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(f"metric_rollups_{level}") for level in levels],
        partition_key=partition,
        run_config={"ops": {op: {"config": config}}},
        raise_on_error=False,
    )


def observed(instance: dg.DagsterInstance, level: str) -> list[dg.AssetObservation]:
    key = dg.AssetKey(f"metric_rollups_{level}")
    records = instance.fetch_observations(key, limit=10).records
    return [record.asset_observation for record in records if record.asset_observation]


def materialized(instance: dg.DagsterInstance, level: str) -> int:
    return len(instance.fetch_materializations(dg.AssetKey(f"metric_rollups_{level}"), limit=10).records)


def test_a_preview_of_an_hour_shows_the_differences_and_writes_nothing(db, instance):
    before = live(db)
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), dry_run=True)
    assert done.success
    assert live(db) == before
    assert [materialized(instance, level) for level in (*HOUR_LEVELS, "1d")] == [0, 0, 0, 0, 0]
    for level in HOUR_LEVELS:
        [seen] = observed(instance, level)
        assert seen.partition == hour_key(HOUR)
        assert seen.metadata["differences"].value > 0
    rows = [record.data for record in observed(instance, "1h")[0].metadata["different series"].records]
    [total] = [row for row in rows if (row["metric"], row["dimensions"]) == ("events.count", "{}")]
    assert (total["before"], total["after"], total["difference"]) == ("61", "60", -1.0)


def test_applying_it_is_one_more_step_and_may_be_of_some_metrics(db, instance):
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), metrics=["events.count"])
    assert done.success
    assert [materialized(instance, level) for level in (*HOUR_LEVELS, "1d")] == [1, 1, 1, 1, 1]
    counts = {row[0]: row[5] for row in live(db) if row[1] == "1d" and row[3] == ""}
    assert counts["events.count"] == 60
    placed = db.execute("SELECT count(*) FROM events WHERE event_type = 'order.placed'").fetchone()
    assert placed is not None
    assert counts["trading.orders_placed"] == placed[0] + 1


def test_a_day_is_previewed_whole(db, instance):
    before = live(db)
    done = run(instance, "recompute_days", ("1d",), day_key(DAY), dry_run=True)
    assert done.success
    assert live(db) == before
    assert materialized(instance, "1d") == 0
    [seen] = observed(instance, "1d")
    assert (seen.partition, seen.metadata["hours"].value) == (day_key(DAY), 24)
    assert seen.metadata["differences"].value > 0


def test_a_wrong_metric_fails_the_run_in_one_sentence_and_is_not_retried(db, instance):
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), metrics=["trading.volume"])
    assert not done.success
    assert not [event for event in done.all_events if event.is_step_up_for_retry]
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description == (
        "there is no metric 'trading.volume'; did you mean trading.total_volume?"
    )
