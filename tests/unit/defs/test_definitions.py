"""The code location, as Dagster loads it."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.partitions.context import partition_loading_context

from analytics_pipeline.defs import partitions
from analytics_pipeline.defs.conventions import OWNERS
from analytics_pipeline.defs.partitions import DAILY, HOURLY
from analytics_pipeline.rollups.catalog import BUILT_IN, STATE_VERSION
from analytics_pipeline.settings import project_file

PROGRAM = """
from analytics_pipeline.definitions import definitions
repository = definitions.get_repository_def()
repository.load_all_definitions()
print(len(list(repository.asset_graph.get_all_asset_keys())))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the manifest is made; once for all tests of this module."""
    return tmp_path_factory.mktemp("definitions")


@pytest.fixture(scope="module")
def repository(folder: Path) -> dg.RepositoryDefinition:
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(folder / ".analytics"))
    from analytics_pipeline.settings import settings

    settings.cache_clear()
    from analytics_pipeline.definitions import definitions

    monkeypatch.undo()
    found = definitions.get_repository_def()
    found.load_all_definitions()
    return found


def test_definitions_load_with_no_service_and_an_empty_environment(folder: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={}, cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 9


def test_rollups_descend_from_events_and_change_only_with_the_format_of_states(repository):
    graph = repository.asset_graph
    for level in ("1m", "5m", "15m", "1h"):
        node = graph.get(dg.AssetKey(f"metric_rollups_{level}"))
        assert node.parent_keys == {dg.AssetKey("events")}
        assert node.code_version == f"states-{STATE_VERSION}"
        assert isinstance(node.partitions_def, dg.HourlyPartitionsDefinition)
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
    days = graph.get(dg.AssetKey("metric_rollups_1d"))
    assert isinstance(days.partitions_def, dg.DailyPartitionsDefinition)
    assert days.parent_keys == {dg.AssetKey("metric_rollups_1h")}


def test_days_from_yesterday_to_today_can_be_backfilled_at_any_hour(repository):
    """Today's hours that are still to come are no partitions, and nothing is asked of them."""
    hours = dg.AssetKey("metric_rollups_1h")
    mapping = repository.asset_graph.get(dg.AssetKey("metric_rollups_1d")).partition_mappings[hours]
    now = datetime(2026, 6, 2, 10, 30, tzinfo=UTC)
    with partition_loading_context(effective_dt=now):
        days = DAILY.subset_with_partition_keys(["2026-06-01", "2026-06-02"])
        found = mapping.get_upstream_mapped_partitions_result_for_partitions(days, DAILY, HOURLY)
    assert found.required_but_nonexistent_subset.is_empty
    assert len(found.partitions_subset) == 24 + 11


def test_each_metric_is_an_asset_whose_version_is_its_declarations(repository):
    graph = repository.asset_graph
    found = {
        key.path[1]: graph.get(key).code_version
        for key in graph.get_all_asset_keys()
        if key.path[0] == "metrics"
    }
    assert found == {metric.name: metric.metric_id for metric in BUILT_IN.metrics}


@pytest.mark.parametrize("mart", ["market_analytics", "strategy_performance"])
def test_marts_descend_from_events_and_rollups_and_are_compared_with_metrics(repository, mart):
    graph, key = repository.asset_graph, dg.AssetKey(mart)
    assert {dg.AssetKey("events"), dg.AssetKey("metric_rollups_1m")} <= graph.get(key).parent_keys
    assert dg.AssetCheckKey(key, f"{mart}_agrees_with_metrics") in graph.asset_check_keys


def test_events_are_external(repository):
    assert not repository.asset_graph.get(dg.AssetKey("events")).is_materializable


def test_every_asset_says_what_it_is_whose_and_where(repository):
    graph = repository.asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.group_name != "default", key
        assert len(node.description or "") > 40, key
        assert node.kinds, key


def test_every_job_schedule_and_sensor_says_what_it_is_and_whose(repository):
    automation = [*repository.schedule_defs, *repository.sensor_defs]
    for each in [*automation, *(job for job in repository.get_all_jobs() if not job.name.startswith("__"))]:
        assert each.owners == OWNERS, each.name
        assert len(each.description or "") > 40, each.name


def test_every_check_says_what_it_is(repository):
    graph = repository.asset_graph
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert len(spec.description or "") > 40, key
        assert graph.get(key.asset_key).owners, key


def test_there_is_one_job_for_each_thing_that_is_done(repository):
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert set(jobs) == {"merge_live", "backfill", "maintenance", "marts", "checks"}
    assert [int(jobs[name].tags["dagster/priority"]) for name in ("merge_live", "marts", "backfill")] == [
        10,
        5,
        0,
    ]
    assert {jobs[name].tags["dagster/priority"] for name in ("maintenance", "marts", "checks")} == {"5"}
    assert jobs["backfill"].partitions_def == partitions.HOURLY


def test_what_is_asked_for_by_itself_ends_in_time_and_a_backfill_when_it_is_done(repository):
    """A run that hangs holds its pool; a run of an asset that a person asks for has no tags of ours."""
    limits = {
        job.name: float(job.tags.get("dagster/max_runtime", 0))
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }
    assert limits.pop("backfill") == 0
    assert 60 < limits.pop("merge_live") <= 15 * 60
    assert all(0 < limit <= 6 * 3600 for limit in limits.values())
    monitoring = yaml.safe_load(project_file("dagster.yaml").read_text())["run_monitoring"]
    assert monitoring["max_runtime_seconds"] >= 5 * 24 * 3600


def test_all_automation_runs_by_default(repository):
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "closed_minutes",
        "metrics_in_service",
        "system_metrics",
    }
    assert {schedule.name: schedule.job_name for schedule in repository.schedule_defs} == {
        "checks_every_ten_minutes": "checks",
        "maintenance_daily": "maintenance",
        "maintenance_half_hourly": "maintenance",
        "marts_every_five_minutes": "marts",
        "merge_hourly": "merge_live",
    }
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in repository.sensor_defs)
    assert all(each.default_status is dg.DefaultScheduleStatus.RUNNING for each in repository.schedule_defs)


def test_runs_use_one_process(repository):
    assert repository.get_job("merge_live").executor_def.name == "in_process"


def test_the_launchpad_shows_no_option_of_dbt(repository):
    job = repository.get_implicit_global_asset_job_def()
    shown = job.run_config_schema.run_config_schema_type.fields["resources"].config_type.fields["dbt"]
    assert not shown.is_required
    assert not getattr(shown.config_type.fields["config"].config_type, "fields", None)
