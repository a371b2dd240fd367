"""Dagster says of each metric whether its numbers are those of its declaration: edits, backfills, previews."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from analytics_pipeline.defs.environment import URL_VARIABLE, dagster_environment
from analytics_pipeline.defs.metrics.specs import key_of
from analytics_pipeline.defs.partitions import day_key, hour_key
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.settings import project_file, settings
from analytics_pipeline.storage import backfill
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from analytics_pipeline.storage.metric_versions import register
from tests.integration.landed import land, order

HOUR = timedelta(hours=1)
NAME = "trading.total_volume"
LAST_RELEASE = [replace(each, value="quantity") if each.name == NAME else each for each in BUILT_IN.metrics]
HOUR_LEVELS = ("1m", "5m", "15m", "1h")


@pytest.fixture(autouse=True)
def few_raw_events(db: Connection) -> None:
    """Raw events of four hours, so that a backfill of all of them is short."""
    db.execute("UPDATE retention_state SET raw_floor = date_trunc('hour', now(), 'UTC') - interval '3 hours'")


@pytest.fixture
def definitions(db: Connection) -> dg.Definitions:
    from analytics_pipeline.definitions import definitions

    return definitions


@pytest.fixture
def instance(db: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """As in production: `dagster.yaml`, with its storage in Postgres."""
    create_dagster_schema(db, settings().dagster.schema_name)
    monkeypatch.setenv(URL_VARIABLE, dagster_environment(settings())[URL_VARIABLE])
    (tmp_path / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


@pytest.fixture
def tick(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Callable[[], list[Any]]:
    """Evaluates the sensor with its cursor, and stores what it tells, as the daemon does."""
    sensor = definitions.get_repository_def().get_sensor_def("metrics_in_service")
    cursor: list[str | None] = [None]

    def evaluate() -> list[Any]:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor[0], resources=definitions.resources
        )
        result = sensor.evaluate_tick(context)
        cursor[0] = result.cursor or cursor[0]
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
        return list(result.asset_events)

    return evaluate


def stale(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *keys: tuple[dg.AssetKey, str | None]
) -> dict[str, tuple[StaleStatus, list[str]]]:
    """What the UI shows of assets that are not fresh, of all metrics or of some partitions."""
    graph = definitions.get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    asked = keys or tuple((key_of(name), None) for name in BUILT_IN.by_name)
    found = {
        key.to_user_string(): (
            resolver.get_status(key, partition),
            [cause.reason for cause in resolver.get_stale_causes(key, partition)],
        )
        for key, partition in asked
    }
    return {name: each for name, each in found.items() if each[0] is not StaleStatus.FRESH}


def materialize(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *names: str, **config: object
) -> dg.ExecuteInProcessResult:
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[key_of(name) for name in names],
        run_config={"ops": {"backfill_metrics": {"config": config}}},
        raise_on_error=False,
    )


def volume(db: Connection) -> tuple[object, ...] | None:
    return db.execute(
        "SELECT sum(sum) FROM metrics_live WHERE metric_name = %s AND interval = '1h' AND dimension_set = ''",
        (NAME,),
    ).fetchone()


@pytest.mark.slow
def test_an_edit_of_one_metric_marks_that_metric_alone_until_its_backfill_ends(
    db, definitions, instance, tick
):
    everything = {f"metrics/{name}" for name in BUILT_IN.by_name}
    assert {
        name for name, [status, _] in stale(definitions, instance).items() if status is StaleStatus.MISSING
    } == (everything)
    register(db, LAST_RELEASE)
    assert len(tick()) == len(BUILT_IN.metrics)
    edited = {f"metrics/{NAME}": (StaleStatus.STALE, ["has a new code version"])}
    assert stale(definitions, instance) == edited  # deployed here, and nowhere else yet

    land(db, order("o", datetime.now(UTC) - HOUR))
    register(db, BUILT_IN.metrics)
    [told] = tick()
    assert isinstance(told, dg.AssetObservation)
    assert stale(definitions, instance) == edited
    assert tick() == []

    done = materialize(definitions, instance, NAME)
    assert done.success
    assert stale(definitions, instance) == {}
    assert volume(db) == (100.25 * 2,)
    [event] = done.get_asset_materialization_events()
    assert event.materialization.metadata["metric_id"].value == BUILT_IN.by_name[NAME].metric_id
    assert "data:image/svg+xml;base64," in event.materialization.metadata["last hours"].value
    tick()
    assert stale(definitions, instance) == {}


@pytest.mark.slow
def test_a_backfill_from_the_command_line_makes_the_metric_fresh_too(
    db, database, definitions, instance, tick
):
    now = datetime.now(UTC)
    register(db, LAST_RELEASE)
    land(db, order("o", now - HOUR))
    register(db, BUILT_IN.metrics)
    tick()
    ids = [BUILT_IN.by_name[NAME].metric_id]

    def carry_out(first: datetime) -> None:
        hours = backfill.whole_hours(first, max(now, backfill.needed_until(db, BUILT_IN, ids)))
        planned = backfill.plan(db, hours, metric_ids=ids)
        for _ in backfill.carry_out(db, database, planned, run_id="cli", before_hour=lambda: None):
            pass

    carry_out(now - HOUR)
    [told] = tick()  # it answers from one hour ago on, which is not everything
    assert isinstance(told, dg.AssetObservation)
    assert f"answers from {now - HOUR:%Y-%m-%dT%H}:00Z on. Raw events are kept since" in str(told.description)
    assert tick() == []
    assert list(stale(definitions, instance)) == [f"metrics/{NAME}"]
    carry_out(backfill.raw_begin(db))
    [told] = tick()
    assert isinstance(told, dg.AssetMaterialization)
    assert stale(definitions, instance) == {}


@pytest.mark.slow
def test_rollups_of_an_hour_and_a_day_are_fresh_whoever_computed_them(db, definitions, instance):
    now = datetime.now(UTC)
    land(db, order("o", now - HOUR))
    hours = [(dg.AssetKey(f"metric_rollups_{level}"), hour_key(now - HOUR)) for level in HOUR_LEVELS]
    partitions = [*hours, (dg.AssetKey("metric_rollups_1d"), day_key(now - HOUR))]
    assert len(stale(definitions, instance, *partitions)) == 5
    assert definitions.resolve_job_def("merge_live").execute_in_process(instance=instance).success
    assert stale(definitions, instance, *partitions) == {}
    done = definitions.resolve_job_def("backfill").execute_in_process(
        instance=instance, partition_key=hour_key(now - HOUR)
    )
    assert done.success
    assert stale(definitions, instance, *partitions) == {}
    land(db, order("late", now - HOUR))
    assert definitions.resolve_job_def("merge_live").execute_in_process(instance=instance).success
    assert stale(definitions, instance, *partitions) == {}


@pytest.mark.slow
def test_a_preview_of_a_metric_shows_its_differences_alone_and_materializes_nothing(
    db, definitions, instance
):
    land(db, order("o", datetime.now(UTC) - HOUR))
    register(db, BUILT_IN.metrics)
    definitions.resolve_job_def("merge_live").execute_in_process(instance=instance)
    db.execute("UPDATE metric_aggregations SET sum_exact = sum_exact + 1, sum = sum + 1")
    before = volume(db)
    done = materialize(definitions, instance, NAME, dry_run=True)
    assert done.success
    assert volume(db) == before
    assert not done.get_asset_materialization_events()
    told = [
        record.asset_observation for record in instance.fetch_observations(key_of(NAME), limit=100).records
    ]
    assert {each.description for each in told if "percent" in each.metadata} == {"A preview is under way."}
    [seen] = [each for each in told if "different series" in each.metadata]
    rows = [record.data for record in seen.metadata["different series"].records]
    assert {(row["level"], row["metric"]) for row in rows} == {
        (level, NAME) for level in (*HOUR_LEVELS, "1d")
    }
    assert seen.metadata["differences"].value == len(rows) > 0
    assert {row["difference"] for row in rows} == {-1.0}


@pytest.mark.slow
def test_a_part_of_the_range_says_from_when_on_the_metric_answers(db, definitions, instance):
    now = datetime.now(UTC)
    register(db, LAST_RELEASE)
    land(db, order("o", now - HOUR))
    register(db, BUILT_IN.metrics)
    done = materialize(definitions, instance, NAME, start=f"{now - 2 * HOUR:%Y-%m-%dT%H:%MZ}")
    assert done.success
    assert not done.get_asset_materialization_events()
    told = [
        record.asset_observation for record in instance.fetch_observations(key_of(NAME), limit=100).records
    ]
    assert f"answers from {now - 2 * HOUR:%Y-%m-%dT%H}:00Z on" in str(told[0].description)
    percents = [each.metadata["percent"].value for each in told if "percent" in each.metadata]
    assert percents == sorted(percents, reverse=True)
    assert percents[0] == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"start": "yesterday"},
            "start 'yesterday' is no time with a zone: write one like 2026-05-15T12:00Z",
        ),
        ({"start": "2001-01-01T00:00Z"}, "raw events from before"),
        ({"start": "9999-01-01T00:00Z"}, "start 9999-01-01T00:00Z is not before end now"),
    ],
)
def test_a_wrong_range_is_one_sentence_and_not_retried(db, definitions, instance, config, sentence):
    register(db, BUILT_IN.metrics)
    refused(materialize(definitions, instance, NAME, **config), sentence)


def test_a_metric_that_no_ingest_process_counts_yet_is_not_backfilled(db, definitions, instance):
    register(db, LAST_RELEASE)
    refused(
        materialize(definitions, instance, NAME, "users.active"),
        f"no ingest process of this release has started yet, so nobody counts {NAME} as declared here",
    )


def refused(done: dg.ExecuteInProcessResult, sentence: str) -> None:
    assert not done.success
    assert not [event for event in done.all_events if event.is_step_up_for_retry]
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description.startswith(sentence)


def test_the_sensor_can_begin_anew_without_its_cursor(db, definitions, instance):
    register(db, BUILT_IN.metrics)
    sensor = definitions.get_repository_def().get_sensor_def("metrics_in_service")
    for _ in range(2):
        result = sensor.evaluate_tick(
            dg.build_sensor_context(instance=instance, resources=definitions.resources)
        )
        assert len(result.asset_events) == len(BUILT_IN.metrics)
    assert set(json.loads(result.cursor)) == set(BUILT_IN.by_name)
