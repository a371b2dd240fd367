"""Recomputing in Dagster: a preview writes and materializes nothing, a wrong name is one sentence."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from analytics_pipeline.defs.partitions import day_key, hour_key
from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.settings import settings
from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.backfill import plan
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.metric_versions import register as register_metrics
from analytics_pipeline.storage.recompute import RecomputeResult, recompute_hour
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


@pytest.mark.slow
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
        assert {record.data["level"] for record in seen.metadata["different series"].records} == {level}
    [seen] = observed(instance, "1d")
    assert seen.partition == day_key(DAY)
    assert {record.data["level"] for record in seen.metadata["different series"].records} == {"1d"}
    rows = [record.data for record in observed(instance, "1h")[0].metadata["different series"].records]
    [total] = [row for row in rows if (row["metric"], row["dimensions"]) == ("events.count", "{}")]
    assert (total["before"], total["after"], total["difference"]) == ("61", "60", -1.0)


@pytest.mark.slow
def test_applying_it_is_one_more_step_and_may_be_of_some_metrics(db, instance):
    register_metrics(db, BUILT_IN.metrics)
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), metrics=["events.count"])
    assert done.success
    assert [materialized(instance, level) for level in (*HOUR_LEVELS, "1d")] == [1, 1, 1, 1, 1]
    register = db.execute(
        "SELECT interval, count(*) FROM metric_buckets WHERE event_count > 0 GROUP BY interval"
    )
    buckets = dict(register.fetchall())
    for level in HOUR_LEVELS:
        [record] = instance.fetch_materializations(dg.AssetKey(f"metric_rollups_{level}"), limit=10).records
        numbers = {key: each.value for key, each in record.asset_materialization.metadata.items()}
        assert (numbers["events"], numbers["buckets"]) == (60, buckets[level])
        assert numbers["rows"] == numbers["dagster/row_count"] > 0
        assert numbers["seconds"] > 0
        assert numbers["differences"] == len(numbers["different series"].records) > 0
    counts = {row[0]: row[5] for row in live(db) if row[1] == "1d" and row[3] == ""}
    assert counts["events.count"] == 60
    placed = db.execute("SELECT count(*) FROM events WHERE event_type = 'order.placed'").fetchone()
    assert placed is not None
    assert counts["trading.orders_placed"] == placed[0] + 1


@pytest.mark.slow
def test_a_day_is_previewed_whole(db, instance):
    before = live(db)
    done = run(instance, "recompute_days", ("1d",), day_key(DAY), dry_run=True)
    assert done.success
    assert live(db) == before
    assert materialized(instance, "1d") == 0
    [seen] = observed(instance, "1d")
    assert (seen.partition, seen.metadata["hours"].value) == (day_key(DAY), 24)
    rows = [record.data for record in seen.metadata["different series"].records]
    assert seen.metadata["differences"].value == len(rows) > 0
    [total] = [row for row in rows if (row["metric"], row["dimensions"]) == ("events.count", "{}")]
    assert (total["level"], total["before"], total["after"]) == ("1d", "61", "60")


def backfill_job() -> dg.JobDefinition:
    from analytics_pipeline.definitions import definitions

    return definitions.resolve_job_def("backfill")


def told(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Hours that a run reported at 1h, in their order."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    found = [record.asset_materialization for record in records if record.asset_materialization]
    return [str(each.partition) for each in found if each.asset_key == dg.AssetKey("metric_rollups_1h")]


@pytest.mark.slow
def test_the_retry_of_an_interrupted_backfill_goes_on_where_it_was(db, instance, monkeypatch):
    keys = [hour_key(HOUR + timedelta(hours=number)) for number in range(4)]
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    job = dg.reconstructable(backfill_job)
    land(
        db, batch(5, seed=2, start=HOUR + timedelta(hours=2)), 2
    )  # hours in which there is nothing are passed
    recomputed = recompute_hour

    def until_the_third(conninfo: str, hour: datetime, **options: Any) -> RecomputeResult:
        if hour == HOUR + timedelta(hours=2):
            raise InvariantBroken("the third hour")
        return recomputed(conninfo, hour, **options)

    with monkeypatch.context() as patched:
        patched.setattr("analytics_pipeline.storage.backfill.recompute_hour", until_the_third)
        with dg.execute_job(job, instance=instance, tags=tags, raise_on_error=False) as first:
            assert not first.success
    assert told(instance, first.run_id) == keys[:2]

    again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
    with dg.execute_job(job, instance=instance, tags=tags, reexecution_options=again) as second:
        assert second.success
    assert told(instance, second.run_id) == keys[2:]
    assert db.execute("SELECT count(*) FROM backfill_progress").fetchone() == (0,)
    with dg.execute_job(job, instance=instance, tags=tags) as third:
        assert told(instance, third.run_id) == keys  # a run of its own does all of it


@pytest.mark.slow
def test_what_another_backfill_has_done_is_done_again_and_its_progress_stays(db, instance):
    others = HOUR + timedelta(hours=5)
    planned = plan(db, [HOUR])
    for hour in (HOUR, others):
        db.execute(
            "INSERT INTO backfill_progress (metric_set, hour, run_id) VALUES (%s, %s, 'cli')",
            (planned.metric_set, hour),
        )
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR))
    assert told(instance, done.run_id) == [hour_key(HOUR)]
    assert db.execute("SELECT hour FROM backfill_progress").fetchall() == [(others,)]


def test_partitions_from_before_raw_events_are_refused_in_one_sentence(db, instance):
    db.execute("UPDATE retention_state SET raw_floor = %s", (HOUR + timedelta(hours=1),))
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR))
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description == (
        f"raw events from before {HOUR + timedelta(hours=1):%Y-%m-%dT%H:%MZ} are gone (retention), so nothing before "
        "can be recomputed: begin there"
    )
    assert not [event for event in done.all_events if event.is_step_up_for_retry]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partition", "sentence"),
    [
        ("2001-01-01-00:00", "there is no partition 2001-01-01-00:00: choose from 2026-01-01-00:00 to "),
        ("9001-01-01-00:00", "there is no partition 9001-01-01-00:00: choose from 2026-01-01-00:00 to "),
        (
            None,
            "no partition is chosen, so there is nothing to recompute: choose some from 2026-01-01-00:00 to ",
        ),
    ],
)
def test_a_partition_that_there_is_not_is_refused_in_one_sentence(db, instance, partition, sentence):
    tags = {"dagster/asset_partition_range_start": partition, "dagster/asset_partition_range_end": partition}
    done = backfill_job().execute_in_process(
        instance=instance, tags=tags if partition else {}, raise_on_error=False
    )
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description.startswith(sentence)


def test_a_wrong_metric_fails_the_run_in_one_sentence_and_is_not_retried(db, instance):
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), metrics=["trading.volume"])
    assert not done.success
    assert not [event for event in done.all_events if event.is_step_up_for_retry]
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description == (
        "there is no metric 'trading.volume'; did you mean trading.total_volume?"
    )


def test_a_metric_that_answers_for_nothing_yet_can_only_be_previewed(db, instance):
    before = live(db)
    asked = {"metrics": ["events.count"]}
    done = run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), **asked)
    assert not done.success
    assert not [event for event in done.all_events if event.is_step_up_for_retry]
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description == (
        "no ingest process has started with the present definition of events.count, so nobody would see what is "
        "computed: `analytics restart ingest` first (a dry run needs none)"
    )
    assert live(db) == before
    assert [materialized(instance, level) for level in (*HOUR_LEVELS, "1d")] == [0, 0, 0, 0, 0]
    assert run(instance, "recompute_hours", HOUR_LEVELS, hour_key(HOUR), dry_run=True, **asked).success
