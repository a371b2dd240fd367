"""Dagster's runs on a real database: live merges, recomputing, checks, the sensor, retention and maintenance."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from analytics_pipeline.defs.checks.every_metric import Piece, chosen_pieces, every_metric_equals_raw
from analytics_pipeline.defs.maintenance.history import forget_checks, forget_runs
from analytics_pipeline.defs.partitions import day_key, hour_key
from analytics_pipeline.defs.ranges import Range
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.settings import project_file, settings
from analytics_pipeline.storage.backfill import LiveFirst
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.metric_versions import register
from tests.integration.landed import Event, land, order

ROOT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)
LEVELS = ("1m", "5m", "15m", "1h", "1d")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def definitions(db: Connection) -> dg.Definitions:
    """With all metrics in force, as an ingest process registers them."""
    register(db, BUILT_IN.metrics)
    from analytics_pipeline.definitions import definitions

    return definitions


def test_run_configurations_of_the_guides_are_taken(definitions: dg.Definitions) -> None:
    pages = [ROOT / "docs" / name for name in ("backfill.md", "operations.md", "retention.md")]
    blocks = [
        yaml.safe_load(text)
        for page in pages
        for text in re.findall(r"```yaml\n(ops:.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(blocks) == 4
    jobs = definitions.resolve_all_job_defs()
    for block in blocks:
        assert any(_takes(job, block) for job in jobs), block
    assert not any(_takes(job, {"ops": {"recompute_hours": {"config": {"no_such_key": 1}}}}) for job in jobs)


def _takes(job: dg.JobDefinition, run_config: dict[str, Any]) -> bool:
    chosen = [node for node in run_config["ops"] if job.has_node_named(node)]
    if len(chosen) < len(run_config["ops"]):
        return False
    try:
        dg.validate_run_config(job, run_config)
    except dg.DagsterInvalidConfigError:
        return False
    return True


def trade(now: datetime, hours: int = 3, orders: int = 5) -> list[Event]:
    found = []
    for hour in range(hours):
        for number in range(orders):
            found += order(f"o{hour}-{number}", now - hour * HOUR - timedelta(minutes=2, seconds=number))
    return found


def live(db: Connection, metric: str, level: str) -> tuple[int, float]:
    row = db.execute(
        "SELECT coalesce(sum(count), 0), coalesce(sum(sum), 0) FROM metrics_live"
        " WHERE metric_name = %s AND interval = %s AND dimension_set = ''",
        (metric, level),
    ).fetchone()
    assert row is not None
    return int(row[0]), float(row[1])


def pending(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM rollup_deltas").fetchone()
    assert row is not None
    return int(row[0])


def merge(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    done = definitions.resolve_job_def("merge_live").execute_in_process(instance=instance)
    assert done.success
    return done


def materialized(instance: dg.DagsterInstance, name: str) -> dict[str, dict[str, object]]:
    events = instance.fetch_materializations(dg.AssetKey(name), limit=1000).records
    return {
        str(event.partition_key): {
            key: value.value for key, value in event.asset_materialization.metadata.items()
        }
        for event in reversed(events)
        if event.asset_materialization
    }


def test_a_live_merge_settles_everything_and_changes_no_number(db, definitions, instance, now):
    land(db, trade(now))
    before = {level: live(db, "trading.total_volume", level) for level in LEVELS}
    merge(definitions, instance)
    assert pending(db) == 0
    assert {level: live(db, "trading.total_volume", level) for level in LEVELS} == before
    assert set(before.values()) == {(15, 15 * 100.25 * 2)}
    land(db, [Event("page.view", now - 2 * HOUR), *order("late", now - HOUR)])
    assert {live(db, "events.count", level)[0] for level in LEVELS} == {33}
    merge(definitions, instance)
    assert {live(db, "events.count", level)[0] for level in LEVELS} == {33}
    assert pending(db) == 0


def test_a_live_merge_reports_every_partition_it_changed_on_all_five_assets(db, definitions, instance, now):
    events = trade(now)
    land(db, events)
    merge(definitions, instance)
    hours = {hour_key(event.timestamp) for event in events}
    for level in LEVELS[:-1]:
        found = materialized(instance, f"metric_rollups_{level}")
        assert set(found) == hours
        assert sum(int(each["events"]) for each in found.values()) == len(events)
        assert all(each["rows"] and each["buckets"] and "seconds" in each for each in found.values())
    found = materialized(instance, "metric_rollups_1d")
    assert set(found) == {day_key(event.timestamp) for event in events}
    assert sum(int(each["events"]) for each in found.values()) == len(events)
    merge(definitions, instance)
    assert materialized(instance, "metric_rollups_1d") == found


@pytest.mark.slow
def test_buckets_that_are_over_become_final_and_late_events_restate_them(db, definitions, instance, now):
    land(db, trade(now - timedelta(minutes=5)))
    merge(definitions, instance)
    states = "SELECT state, count(*) FROM metric_buckets WHERE interval = '1m' GROUP BY state"
    assert dict(db.execute(states).fetchall()).keys() == {"final"}
    land(db, trade(now - timedelta(minutes=5)))
    merge(definitions, instance)
    assert dict(db.execute(states).fetchall()).keys() == {"restated"}


def recompute(
    definitions: dg.Definitions, instance: dg.DagsterInstance, asset: str, *partitions: str
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_implicit_global_asset_job_def()
    found = [key for key in job.asset_layer.executable_asset_keys if key.to_user_string() in asset.split()]
    tags = {
        "dagster/asset_partition_range_start": partitions[0],
        "dagster/asset_partition_range_end": partitions[-1],
    }
    done = job.execute_in_process(
        instance=instance,
        asset_selection=found,
        partition_key=partitions[0] if len(partitions) == 1 else None,
        tags=tags if len(partitions) > 1 else {},
    )
    assert done.success
    return done


HOUR_ASSETS = "metric_rollups_1m metric_rollups_5m metric_rollups_15m metric_rollups_1h"


@pytest.mark.slow
def test_materializing_an_hour_recomputes_it_and_finds_no_difference(db, definitions, instance, now):
    land(db, trade(now))
    merge(definitions, instance)
    land(db, order("pending", now - HOUR))
    before = {level: live(db, "trading.total_volume", level) for level in LEVELS}
    key = hour_key(now - HOUR)
    recompute(definitions, instance, HOUR_ASSETS, key)
    assert {level: live(db, "trading.total_volume", level) for level in LEVELS} == before
    for asset in HOUR_ASSETS.split():
        assert materialized(instance, asset)[key]["differences"] == 0
    assert day_key(now - HOUR) in materialized(instance, "metric_rollups_1d")


def test_materializing_mends_what_was_damaged_and_tells_the_difference(db, definitions, instance, now):
    land(db, trade(now))
    merge(definitions, instance)
    before = {level: live(db, "events.count", level) for level in LEVELS}
    db.execute(
        "UPDATE metric_aggregations SET count = count + 1, sum_exact = sum_exact + 1 WHERE interval = '1m'"
    )
    keys = [hour_key(now - hour * HOUR) for hour in (3, 2, 1, 0)]
    recompute(definitions, instance, HOUR_ASSETS, *keys)
    assert {level: live(db, "events.count", level) for level in LEVELS} == before
    assert int(materialized(instance, "metric_rollups_1m")[keys[1]]["differences"]) > 0
    recompute(definitions, instance, HOUR_ASSETS, *keys)
    assert materialized(instance, "metric_rollups_1m")[keys[1]]["differences"] == 0


@pytest.mark.slow
def test_an_hour_whose_raw_events_go_during_the_run_is_left_out(db, definitions, instance, now, monkeypatch):
    land(db, trade(now))
    merge(definitions, instance)

    def rise(_: LiveFirst) -> None:
        db.execute("UPDATE retention_state SET raw_floor = date_trunc('hour', %s, 'UTC')", (now,))

    monkeypatch.setattr(LiveFirst, "__call__", rise)
    before = materialized(instance, "metric_rollups_1h")
    done = definitions.resolve_job_def("backfill").execute_in_process(
        instance=instance, partition_key=hour_key(now - HOUR)
    )
    assert done.success
    assert materialized(instance, "metric_rollups_1h") == before


@pytest.mark.slow
def test_materializing_a_day_recomputes_its_hours(db, definitions, instance, now):
    events = trade(now, hours=2)
    land(db, events)
    for day in sorted({day_key(event.timestamp) for event in events}):
        recompute(definitions, instance, "metric_rollups_1d", day)
    assert pending(db) == 0
    assert {live(db, "events.count", level)[0] for level in LEVELS} == {len(events)}


def evaluate(definitions: dg.Definitions, instance: dg.DagsterInstance) -> list[str]:
    sensor = definitions.get_repository_def().get_sensor_def("closed_minutes")
    context = dg.build_sensor_context(
        instance=instance, resources=definitions.resources, repository_def=definitions.get_repository_def()
    )
    return [str(request.run_key) for request in sensor.evaluate_tick(context).run_requests or []]


@pytest.mark.slow
def test_an_hour_that_cannot_be_merged_keeps_no_other_from_it_and_fails_the_run(
    db, definitions, instance, now
):
    land(db, trade(now))
    newest = db.execute("SELECT max(hour) FROM pending_batches").fetchone()[0]
    db.execute(
        "ALTER TABLE metric_aggregations_1h ADD CONSTRAINT broken"
        f" CHECK (time_bucket <> '{newest.isoformat()}') NOT VALID"
    )
    job = definitions.resolve_job_def("merge_live")
    done = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not done.success
    assert db.execute("SELECT DISTINCT hour FROM rollup_deltas").fetchall() == [(newest,)]
    final = "SELECT count(*) FROM metric_buckets WHERE state = 'final' AND run_id = %s"
    assert db.execute(final, (done.run_id,)).fetchone()[0] > 0
    assert set(materialized(instance, "metric_rollups_1h")) == {
        hour_key(event.timestamp) for event in trade(now) if event.timestamp < newest
    }
    db.execute("ALTER TABLE metric_aggregations_1h DROP CONSTRAINT broken")
    merge(definitions, instance)
    assert pending(db) == 0


@pytest.mark.slow
def test_the_sensor_asks_for_a_run_when_a_closed_minute_is_pending(db, definitions, instance, now):
    assert evaluate(definitions, instance) == []
    land(db, trade(now))
    assert len(evaluate(definitions, instance)) == 1
    merge(definitions, instance)
    assert evaluate(definitions, instance) == []


def test_the_open_minute_alone_is_no_reason_for_a_run(db, definitions, instance):
    land(db, [Event("page.view", datetime.now(UTC) + timedelta(minutes=1))])
    assert evaluate(definitions, instance) == []


def test_a_live_merge_folds_source_statistics_too(db, definitions, instance, now):
    db.execute(
        "INSERT INTO source_statistics_deltas (batch_id, source, producer, read, stored, duplicate, dead, reasons,"
        " lateness, ahead_max_ms) VALUES (1, 'orders', 'execution', 3, 2, 1, 0, '{}', '', 0)"
    )
    merge(definitions, instance)
    assert db.execute("SELECT count(*) FROM source_statistics_deltas").fetchone() == (0,)
    assert db.execute("SELECT producer, read FROM source_statistics").fetchall() == [("execution", 3)]


def test_the_sensor_never_asks_while_a_run_is_unfinished(db, definitions, instance, now):
    land(db, trade(now))
    run = instance.create_run_for_job(
        definitions.resolve_job_def("merge_live"), status=dg.DagsterRunStatus.STARTED
    )
    assert evaluate(definitions, instance) == []
    instance.report_run_canceled(instance.get_run_by_id(run.run_id))
    assert len(evaluate(definitions, instance)) == 1


@pytest.mark.slow
def test_the_sensor_asks_when_a_bucket_is_due_though_nothing_is_pending(db, definitions, instance, now):
    land(db, trade(now - timedelta(minutes=5)))
    db.execute("UPDATE ingest_offsets SET caught_up_at = %s", (now - timedelta(days=1),))
    merge(definitions, instance)
    assert evaluate(definitions, instance) == []
    db.execute("UPDATE ingest_offsets SET caught_up_at = now()")
    assert len(evaluate(definitions, instance)) == 1
    merge(definitions, instance)
    assert evaluate(definitions, instance) == []


def run_checks(
    definitions: dg.Definitions, instance: dg.DagsterInstance, asked: dict[str, str]
) -> dg.ExecuteInProcessResult:
    name = every_metric_equals_raw.node_def.name
    return definitions.resolve_job_def("checks").execute_in_process(
        instance=instance, run_config={"ops": {name: {"config": asked}}}, raise_on_error=False
    )


def judged(
    definitions: dg.Definitions, instance: dg.DagsterInstance, asked: dict[str, str] | None = None
) -> dict[str, dg.AssetCheckEvaluation]:
    done = run_checks(definitions, instance, asked or {})
    return {each.check_name: each for each in done.get_asset_check_evaluations()}


def check(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, bool]:
    return {name: each.passed for name, each in judged(definitions, instance).items()}


ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
SEVERITIES = {
    "ledger_is_conserved": ERROR,
    "partitions_are_ahead": ERROR,
    "equals_raw": ERROR,
    "every_metric_equals_raw": ERROR,
    "dead_letter_ratio": WARN,
    "is_fresh": WARN,
    "deltas_are_merged": WARN,
    "cardinality": WARN,
}
"""Wrong numbers, or some that will be lost, are errors; what is late, or a producer's doing, warns."""


def test_each_check_is_as_severe_as_what_it_finds(db, definitions, instance, now):
    land(db, trade(now))
    assert {name: each.severity for name, each in judged(definitions, instance).items()} == SEVERITIES


def test_the_docs_name_each_check_with_its_severity():
    page = (project_file("docs") / "operations.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `(\w+)` \| `\w+` \| (ERROR|WARN) \|", page, re.MULTILINE))
    assert named == {name: severity.value for name, severity in SEVERITIES.items()}


def test_the_books_balance_and_each_check_sees_its_own_damage(db, definitions, instance, now):
    land(db, trade(now))
    merge(definitions, instance)
    land(db, trade(now))
    assert check(definitions, instance) == dict.fromkeys(
        (
            "ledger_is_conserved",
            "partitions_are_ahead",
            "dead_letter_ratio",
            "equals_raw",
            "every_metric_equals_raw",
            "is_fresh",
            "deltas_are_merged",
            "cardinality",
        ),
        True,
    )
    db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE timestamp < %s LIMIT 1)", (now - HOUR,)
    )
    db.execute("UPDATE ingest_offsets SET next_offset = next_offset + 1")
    db.execute(
        "UPDATE ingest_batches SET stored = 0, dead = read, committed_at = now() - interval '10 minutes'"
    )
    hour = now.replace(minute=0, second=0, microsecond=0) - HOUR
    db.execute("DELETE FROM rollup_deltas")
    db.execute(
        "UPDATE metric_aggregations SET count = count + 1 WHERE interval = '1h' AND time_bucket = %s", (hour,)
    )
    db.execute("INSERT INTO http_inbox (payload, received_at) VALUES ('', now() - interval '1 hour')")
    for row in db.execute(
        "SELECT partition FROM time_partitions WHERE parent = 'events' AND lower_bound > now()"
    ).fetchall():
        db.execute(f"DROP TABLE {row[0]}")
    count_as_other(db, now)
    assert check(definitions, instance) == {
        "cardinality": False,
        "ledger_is_conserved": False,
        "partitions_are_ahead": False,
        "dead_letter_ratio": False,
        "equals_raw": False,
        "every_metric_equals_raw": False,
        "is_fresh": False,
        "deltas_are_merged": False,
    }


@pytest.mark.slow
def test_events_count_once_after_their_metric_was_edited(db, definitions, instance, now):
    """Its rows of both definitions stand side by side."""
    land(db, trade(now))
    merge(definitions, instance)
    names = "metric_name, interval, time_bucket, count, dimensions, dimension_set"
    db.execute(
        f"INSERT INTO metric_aggregations ({names}, metric_id) SELECT {names}, 'before' FROM metric_aggregations"
        " WHERE metric_name = 'events.count' AND dimension_set = ''"
    )
    found = judged(definitions, instance)["equals_raw"]
    assert found.passed
    assert found.metadata["raw events"].value == 10


def count_as_other(db: Connection, at: datetime) -> str:
    """Five of the events of a day, of a metric whose name is returned."""
    metric = BUILT_IN.by_name["trading.orders_filled"]
    db.execute(
        "INSERT INTO metric_aggregations (metric_name, interval, time_bucket, count, metric_id, dimension_set,"
        """ dimensions) VALUES (%s, '1d', %s, 5, %s, 'symbol', '{"symbol": "__other__"}')""",
        (metric.name, at.replace(hour=0, minute=0, second=0, microsecond=0), metric.metric_id),
    )
    return metric.name


@pytest.mark.slow
def test_series_beyond_their_budget_are_a_warning(db, definitions, instance, now):
    land(db, trade(now - 24 * HOUR, hours=1))
    merge(definitions, instance)
    count_as_other(db, now - 48 * HOUR)  # long over
    assert judged(definitions, instance)["cardinality"].passed
    name = count_as_other(db, now - 24 * HOUR)
    found = judged(definitions, instance)["cardinality"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["largest share of __other__"].value == 0.5
    assert found.metadata["budgets exceeded"].value == 1
    first = found.metadata["series"].value.records[0].data
    assert (first["metric"], first["group by"], first["budget"]) == (name, "symbol", 1000)
    assert (first["events"], first["under __other__"]) == (10, 5)


def test_a_delta_that_waits_long_is_a_warning(db, definitions, instance, now):
    land(db, trade(now))
    db.execute("UPDATE ingest_batches SET committed_at = now() - interval '10 minutes'")
    found = judged(definitions, instance)["deltas_are_merged"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["oldest (seconds)"].value > 500
    assert found.metadata["deltas"].value > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE metric_aggregations SET count = count + 1 WHERE metric_name = 'users.active'",
        "UPDATE metric_aggregations SET sum_exact = sum_exact + 0.000000001"
        " WHERE metric_name = 'trading.total_volume' AND dimension_set = 'symbol'",
        "UPDATE metric_buckets SET set_hash = set_hash + 1 WHERE interval = '5m'",
        "DELETE FROM metric_states WHERE interval = '15m'",
        "UPDATE metric_aggregations SET count = count + 1 WHERE interval = '1d' AND metric_name = 'events.count'",
    ],
)
def test_any_number_that_is_not_raws_is_an_error_in_the_range_asked_for(
    db, definitions, instance, now, damage
):
    land(db, trade(now))
    merge(definitions, instance)
    asked = {"start": f"{now - 4 * HOUR:%Y-%m-%dT%H:%MZ}"}
    found = judged(definitions, instance, asked)["every_metric_equals_raw"]
    assert found.passed
    assert found.metadata["events"].value == 30
    db.execute(damage)
    found = judged(definitions, instance, asked)["every_metric_equals_raw"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert sum(found.metadata[f"differences at {level}"].value for level in LEVELS) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "waiting",
    [
        "UPDATE metric_versions SET available_from = now() + interval '1 hour' WHERE metric_name = 'users.active'",
        "INSERT INTO metric_gaps (metric_id, hour, batch_id) SELECT metric_id, hour, 1 FROM metric_versions,"
        " generate_series(date_trunc('hour', now()) - interval '5 hours', now(), interval '1 hour') AS hour"
        " WHERE metric_name = 'users.active'",
    ],
)
def test_a_metric_that_waits_for_a_backfill_is_no_error(db, definitions, instance, now, waiting):
    land(db, trade(now))
    merge(definitions, instance)
    db.execute("UPDATE metric_versions SET available_from = '-infinity'")
    db.execute("DELETE FROM metric_aggregations WHERE metric_name = 'users.active'")
    db.execute(
        "DELETE FROM metric_states WHERE metric_id = %s", (BUILT_IN.by_name["users.active"].metric_id,)
    )
    db.execute(waiting)
    asked = {"start": f"{now - 4 * HOUR:%Y-%m-%dT%H:%MZ}"}
    assert judged(definitions, instance, asked)["every_metric_equals_raw"].passed


@pytest.mark.slow
def test_a_metric_that_is_declared_and_not_deployed_is_left_out_and_told(db, definitions, instance, now):
    """Runs import the checkout anew: what was just declared there, nobody has counted yet."""
    land(db, trade(now))
    merge(definitions, instance)
    for table in ("metric_versions", "metric_states", "metric_aggregations"):
        db.execute(f"DELETE FROM {table} WHERE metric_id = %s", (BUILT_IN.by_name["users.active"].metric_id,))
    found = judged(definitions, instance, {"start": f"{now - 4 * HOUR:%Y-%m-%dT%H:%MZ}"})[
        "every_metric_equals_raw"
    ]
    assert found.passed
    assert found.metadata["metrics left out"].value == 1
    assert found.description == (
        "Left out, because no ingest process has started with their present definition: users.active."
    )


def test_each_closed_hour_is_the_sample_in_its_turn(db, definitions, instance, now):
    land(db, trade(now.replace(minute=30), hours=4))
    merge(definitions, instance)
    turns = [
        chosen_pieces(db, Range(), now.replace(minute=59) + timedelta(minutes=10 * n)) for n in range(-5, 1)
    ]
    assert {len(turn) for turn in turns} == {1}
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    assert {turn[0] for turn in turns} == {
        Piece(this_hour - n * HOUR, this_hour - (n - 1) * HOUR) for n in (1, 2, 3)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"start": "yesterday"},
            "start 'yesterday' is no time with a zone: write one like 2026-05-15T12:00Z",
        ),
        ({"start": "2001-01-01T00:00Z"}, "start 2001-01-01T00:00Z: raw events from before"),
        (
            {"start": "9999-01-01T00:00Z"},
            "start 9999-01-01T00:00Z is not before end now: there is nothing in between",
        ),
        ({"end": "2026-01-01T00:00Z"}, "start '' is no time with a zone: write one like 2026-05-15T12:00Z"),
    ],
)
def test_a_wrong_range_of_a_check_is_one_sentence(db, definitions, instance, asked, sentence):
    done = run_checks(definitions, instance, asked)
    [failed] = [event for event in done.all_events if event.is_step_failure]
    assert failed.step_failure_data.user_failure_data.description.startswith(sentence)


@pytest.mark.slow
def test_maintenance_creates_partitions_and_retention_removes_them(
    db, definitions, instance, monkeypatch, now
):
    ahead = "SELECT max(upper_bound) FROM time_partitions WHERE parent = 'events'"
    assert definitions.resolve_job_def("maintenance").execute_in_process(instance=instance).success
    assert db.execute(ahead).fetchone()[0] > now + timedelta(days=7)
    monkeypatch.setenv("B25_ANALYTICS__RETENTION__RAW_EVENTS", "1d")
    settings.cache_clear()
    assert definitions.resolve_job_def("maintenance").execute_in_process(instance=instance).success
    oldest = db.execute("SELECT min(lower_bound) FROM time_partitions WHERE parent = 'events'").fetchone()[0]
    assert oldest.date() == (now - timedelta(days=1)).date()
    [dropped] = materialized(instance, "expired_partitions").values()
    assert int(dropped["dropped"]) >= 89


def test_retention_does_nothing_when_cleanup_is_off(db, definitions, instance, monkeypatch):
    monkeypatch.setenv("B25_ANALYTICS__RETENTION__CLEANUP_ENABLED", "false")
    monkeypatch.setenv("B25_ANALYTICS__RETENTION__RAW_EVENTS", "1d")
    settings.cache_clear()
    before = db.execute("SELECT count(*) FROM time_partitions").fetchone()
    job = definitions.resolve_job_def("maintenance")
    assert job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("expired_partitions")]
    ).success
    assert db.execute("SELECT count(*) FROM time_partitions").fetchone() == before


@pytest.mark.slow
def test_runs_are_forgotten_and_what_they_materialized_is_not(db, definitions, instance, now, monkeypatch):
    land(db, trade(now))
    merge(definitions, instance)
    known = {level: set(materialized(instance, f"metric_rollups_{level}")) for level in LEVELS}
    land(db, trade(now, hours=1))
    merge(definitions, instance)
    printed: list[list[str]] = []
    monkeypatch.setattr(
        instance.compute_log_manager, "delete_logs", lambda prefix: printed.append(list(prefix))
    )
    assert forget_runs(instance, before=now - HOUR) == (0, 0)
    forgotten = forget_runs(instance, before=now + HOUR)
    assert forgotten.runs == len(printed) == 2
    assert forgotten.partitions_kept == sum(len(partitions) for partitions in known.values())
    assert instance.get_runs_count() == 0
    assert {level: set(materialized(instance, f"metric_rollups_{level}")) for level in LEVELS} == known
    found = materialized(instance, "metric_rollups_1h")[hour_key(now - timedelta(minutes=2))]
    assert found["events"] == 10


def test_what_checks_found_is_forgotten_but_for_the_newest(db, definitions, instance, now):
    """Deleting a run leaves it in Dagster's table, a line for each check every ten minutes."""
    for _ in range(2):
        assert run_checks(definitions, instance, {}).success
    assert forget_checks(instance, before=now - HOUR) == 0
    keys = definitions.resolve_asset_graph().asset_check_keys
    known = {key: len(instance.event_log_storage.get_asset_check_execution_history(key, 9)) for key in keys}
    ran = {key for key, count in known.items() if count == 2}
    assert len(ran) >= 5
    assert forget_checks(instance, before=now + HOUR) == len(ran)
    left = [len(instance.event_log_storage.get_asset_check_execution_history(key, 9)) for key in ran]
    assert set(left) == {1}


def columns(db: Connection, table: str) -> dict[str, str]:
    """Name and type of each column, as Postgres says."""
    return dict(
        db.execute(
            "SELECT attname, replace(replace(format_type(atttypid, atttypmod), 'character varying', 'varchar'),"
            " 'timestamp with time zone', 'timestamptz') FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            (table,),
        ).fetchall()
    )


def test_the_columns_that_dagster_shows_are_those_of_the_tables(db, definitions):
    graph = definitions.get_repository_def().asset_graph
    for key in ("events", *(f"metric_rollups_{level}" for level in LEVELS)):
        node = graph.get(dg.AssetKey(key))
        schema = node.metadata["dagster/column_schema"]
        table = node.metadata["dagster/table_name"]
        assert {column.name: column.type for column in schema.columns} == columns(db, table)
        lineage = node.metadata.get("dagster/column_lineage")
        for name, origins in lineage.deps_by_column.items() if lineage else ():
            assert name in columns(db, table)
            for origin in origins:
                upstream = graph.get(origin.asset_key).metadata["dagster/table_name"]
                assert origin.column_name in columns(db, upstream)


@pytest.mark.slow
def test_a_live_merge_observes_the_events_that_landed(db, definitions, instance, now):
    events = trade(now)
    land(db, events)
    merge(definitions, instance)
    merge(definitions, instance)
    [record] = instance.fetch_observations(dg.AssetKey("events"), limit=10).records
    numbers = {key: value.value for key, value in record.asset_observation.metadata.items()}
    assert (numbers["events"], numbers["late"]) == (len(events), 0)


def test_the_row_count_of_a_partition_is_all_of_it_whatever_the_last_merge_wrote(
    db, definitions, instance, now
):
    at = now - HOUR
    land(db, order("first", at))
    merge(definitions, instance)
    land(db, [Event("page.view", at)])
    merge(definitions, instance)
    counted = "SELECT count(*) FROM metric_aggregations WHERE interval = '1h'"
    found = materialized(instance, "metric_rollups_1h")[hour_key(at)]
    assert (found["dagster/row_count"],) == db.execute(counted).fetchone()
    assert 0 < int(found["rows"]) < int(found["dagster/row_count"])
