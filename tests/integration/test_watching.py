"""A running pipeline has data for every panel and every rule: each series, with the labels and values asked for."""

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from analytics_pipeline import telemetry
from analytics_pipeline.defs.environment import URL_VARIABLE, dagster_environment
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import environment, load_settings, project_file, settings
from analytics_pipeline.storage import measuring
from analytics_pipeline.storage.connection import connect, connection
from analytics_pipeline.storage.dagster_figures import dagster_figures
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from analytics_pipeline.storage.postgres_figures import STATES, postgres_figures
from tests.integration.api_process import Process, started
from tests.integration.databases import fresh_database
from tests.integration.ingest_process import ingest, produce, wait_until_landed, write_config
from tests.integration.landing_rig import event, execute
from tests.waiting import wait_for
from tests.watched import ROOT, alerts, missing, statements

TOPIC = "watched.events"


class Pipeline(NamedTuple):
    """Ingest and API, with Dagster's tables beside the product's."""

    database: str
    api: Process


def dagster_has_worked(database: str, home: Path, patched: pytest.MonkeyPatch) -> None:
    """What Dagster leaves in its tables: runs, asset checks, heartbeats."""
    patched.setenv("B25_DATABASE__URL", database)
    settings.cache_clear()
    with connection(database, name="test") as opened:
        create_dagster_schema(opened, settings().dagster.schema_name)
    patched.setenv(URL_VARIABLE, dagster_environment(settings())[URL_VARIABLE])
    (home / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())

    @dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="watched") for name in ("good", "bad")])
    def watched() -> Iterator[object]:
        yield dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(check_name="good", passed=True),
                dg.AssetCheckResult(check_name="bad", passed=False),
            ]
        )

    @dg.asset
    def broken() -> None:
        raise ValueError

    with dg.DagsterInstance.from_config(str(home)) as instance:
        dg.materialize([watched], instance=instance)
        dg.materialize([watched], instance=instance)
        dg.materialize([broken], instance=instance, raise_on_error=False)
        instance.add_daemon_heartbeat(
            DaemonHeartbeat(datetime.now(UTC).timestamp() - 30, "SENSOR", "one", [])
        )
    patched.delenv("B25_DATABASE__URL")
    settings.cache_clear()


@pytest.fixture(scope="module")
def pipeline(
    postgres: Postgres,
    template_database: str,
    kafka: str,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "metrics").mkdir()
    admin = AdminClient({"bootstrap.servers": kafka})
    [made] = admin.create_topics([NewTopic(TOPIC, 1, 1)]).values()
    made.result(20)
    variables = {
        "B25_REDIS__ENABLED": "true",
        "B25_REDIS__HOST": redis_server.host,
        "B25_REDIS__PORT": str(redis_server.port),
        "B25_REDIS__PASSWORD": redis_server.password,
        "B25_METRICS__FOLDER": str(folder / "metrics"),
    }
    for database in fresh_database(postgres, template_database):
        with pytest.MonkeyPatch.context() as patched:
            dagster_has_worked(database, folder, patched)
            patched.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder / "metrics"))
            config = write_config(folder, database, kafka, [TOPIC])
            sent = [json.dumps(event(number)).encode() for number in range(50)]
            with ingest(config), started(database, **variables) as api:
                produce(kafka, TOPIC, [*sent, *sent[:5], b"broken"])
                wait_until_landed(database, TOPIC, 56)
                wait_for(lambda: api.ask("SERVER", "/ready")[0] == 200, 30, "the API")
                for _ in range(2):
                    assert api.ask("SERVER", "/api/v1/metrics?metric_name=events.count")[0] == 200
                yield Pipeline(database, api)
        settings.cache_clear()


def exported(pipeline: Pipeline) -> dict[str, list[Mapping[str, str]]]:
    status, text = pipeline.api.ask("METRICS", "/metrics")
    assert status == 200
    found: dict[str, list[Mapping[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def samples(pipeline: Pipeline, name: str) -> dict[tuple[str, ...], float]:
    _, text = pipeline.api.ask("METRICS", "/metrics")
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.slow
def test_the_series_of_the_original_are_there(pipeline):
    wanted = {
        "analytics_events_ingested_total",
        "analytics_events_failed_total",
        "analytics_batches_processed_total",
        "analytics_batch_duration_seconds_count",
        "analytics_query_duration_seconds_count",
        "analytics_cache_hits_total",
        "analytics_cache_misses_total",
    }
    wait_for(lambda: wanted <= exported(pipeline).keys(), 30, "the seven series")


def test_there_is_data_for_every_panel_and_every_rule(pipeline):
    # gauges are set by loops of several seconds, each on its own
    left = ["everything"]

    def is_all_there() -> bool:
        left[:] = missing(exported(pipeline))
        return not left

    with contextlib.suppress(AssertionError):
        wait_for(is_all_there, 40)
    assert left == []


def test_the_figures_are_those_of_the_database(pipeline):
    assert samples(pipeline, "analytics_processes") == {("api",): 1, ("ingest",): 1}
    assert samples(pipeline, "analytics_postgres_up") == {("api",): 1, ("ingest",): 1}
    assert samples(pipeline, "analytics_cache_up") == {("api",): 1}
    assert set(samples(pipeline, "analytics_ledger_broken").values()) == {0}
    with connect(pipeline.database, name="test", autocommit=True) as opened:
        found = postgres_figures(opened)
        assert found.connections.keys() == set(STATES)
        assert sum(found.connections.values()) >= 5
        assert samples(pipeline, "analytics_postgres_max_connections") == {(): found.max_connections}
        assert samples(pipeline, "analytics_postgres_wal_written_bytes")[()] <= found.wal_bytes
        assert found.database_bytes > 1e6
        assert found.oldest_transaction < 60
    assert samples(pipeline, "analytics_partitions_ahead_days")[("events",)] > 1


def test_what_dagster_left_in_its_tables_is_told(pipeline):
    runs = samples(pipeline, "analytics_dagster_runs")
    assert runs == {("waiting",): 0, ("started",): 0, ("success",): 2, ("failure",): 1, ("canceled",): 0}
    assert samples(pipeline, "analytics_dagster_checks_failed") == {("good",): 0, ("bad",): 1}
    [(daemon, seconds)] = samples(pipeline, "analytics_dagster_heartbeat_seconds").items()
    assert daemon == ("SENSOR",)
    assert 25 < seconds < 200


def test_without_tables_of_dagster_there_are_no_figures(database):
    with connect(database, name="test", autocommit=True) as opened:
        assert dagster_figures(opened, schema="dagster") is None


def test_a_broken_ledger_shows(database):
    batch = (
        "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored, duplicate,"
        " dead, catalog_version, seconds) VALUES (%s, 'orders', 0, %s, %s, 5, 5, 0, 0, 'x', 0.1)"
    )
    execute(database, batch, 1, 0, 5)
    execute(database, batch, 2, 7, 12)  # 5 and 6 are nowhere
    execute(database, "INSERT INTO http_accepted VALUES (gen_random_uuid(), current_date, 3)")
    with connect(database, name="test", autocommit=True) as opened:
        measuring.measure(load_settings(), opened, measuring.Measured(), is_thorough=True)
    broken = {
        sample.labels["check"]: sample.value
        for family in telemetry.LEDGER_BROKEN.collect()
        for sample in family.samples
    }
    assert broken["offsets_follow_one_another"] == 1
    assert broken["posted_events_are_read_or_wait"] == 1
    assert broken["messages_are_accounted_for"] == 0


def test_a_postgres_that_is_away_shows(monkeypatch):
    class OneLook:
        def wait(self, _seconds: float) -> bool:
            return True

    telemetry.POSTGRES_UP.labels("ingest").set(1)
    nowhere = make_conninfo(host="127.0.0.1", port=1, connect_timeout=2)
    with pytest.raises(EnvironmentFault):
        connect(nowhere, name="test")
    measuring.run(load_settings(), "ingest", nowhere, OneLook())  # type: ignore[arg-type]
    assert telemetry.POSTGRES_UP.labels("ingest")._value.get() == 0


@pytest.mark.slow
def test_one_process_measures_and_another_goes_on_where_it_ended(database: str, monkeypatch):
    looks: list[str] = []
    monkeypatch.setattr(
        measuring, "measure", lambda *_args, **_more: looks.append(threading.current_thread().name)
    )

    def begin(name: str) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        run = partial(measuring.run, load_settings(), name, database, stop, often=0.02)
        thread = threading.Thread(target=run, name=name)
        thread.start()
        return thread, stop

    first, stop_first = begin("ingest")
    wait_for(lambda: len(looks) > 2, timeout=10, message="looks of the first")
    second, stop_second = begin("api")
    wait_for(lambda: len(looks) > 50, timeout=10, message="more looks")
    assert set(looks) == {"ingest"}
    stop_first.set()
    first.join(10)
    wait_for(lambda: looks[-1] == "api", timeout=10, message="looks of the second")
    stop_second.set()
    second.join(10)
    assert not second.is_alive()


def test_checks_that_wake_a_person_exist():
    from analytics_pipeline.definitions import definitions

    names = {key.name for key in definitions.resolve_asset_graph().asset_check_keys}
    [expression] = [rule["expr"] for rule in alerts() if rule["alert"] == "AnalyticsNumbersWrong"]
    [asked] = re.findall(r'check=~"([^"]+)"', expression)
    assert set(asked.split("|")) <= names


@pytest.fixture(scope="module")
def reader(pipeline: Pipeline, postgres: Postgres) -> Iterator[str]:
    """Connection string of the role that Grafana reads with, made as docker-compose.yml makes it."""
    variables = {"GRAFANA_DB_USER": "grafana reader", "GRAFANA_DB_PASSWORD": "it's secret"}
    for _ in range(2):
        done = subprocess.run(
            [str(postgres._programs / "psql"), "--no-psqlrc", "--quiet", "-f", "deploy/grafana/reader.sql"],
            cwd=ROOT,
            env={**environment(), **variables, "PGOPTIONS": "-c client_min_messages=warning"}
            | connection_variables(pipeline.database, postgres),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
    yield make_conninfo(pipeline.database, user="grafana reader", password="it's secret")
    with psycopg.connect(superuser(pipeline.database, postgres), autocommit=True) as opened:
        opened.execute('DROP OWNED BY "grafana reader"')
        opened.execute('DROP ROLE "grafana reader"')


def superuser(database: str, postgres: Postgres) -> str:
    from psycopg.conninfo import conninfo_to_dict

    return make_conninfo(postgres.superuser_conninfo(), dbname=conninfo_to_dict(database)["dbname"])


def connection_variables(database: str, postgres: Postgres) -> dict[str, str]:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(superuser(database, postgres))
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "dbname": "PGDATABASE",
        "user": "PGUSER",
        "password": "PGPASSWORD",
    }
    return {names[key]: str(parts[key]) for key in names if parts.get(key)}


@pytest.mark.parametrize(("where", "statement"), list(statements()))
def test_a_statement_of_the_business_dashboard_runs_as_grafanas_role(reader, where, statement):
    now = datetime.now(UTC)
    first, last = (
        f"'{at:%Y-%m-%dT%H:%M:%SZ}'" for at in (now - timedelta(hours=1), now + timedelta(hours=1))
    )
    filled = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", statement)
    filled = filled.replace("$__timeFrom()", first).replace("$__timeTo()", last).replace("$interval", "1m")
    assert "$" not in filled
    with psycopg.connect(reader) as opened:
        cursor = opened.execute(filled.encode())
        assert [column.name for column in cursor.description or ()] == ["time", "value", "metric"]
        found = cursor.fetchall()
    if where.startswith(("business: Events by type", "business: Orders A")):
        assert sum(value for _, value, _ in found) == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM events",
        "SELECT * FROM api_keys",
        "SELECT * FROM dead_letter_events",
        "SET default_transaction_read_only = off; DELETE FROM metric_aggregations",
    ],
)
def test_grafanas_role_sees_no_events_and_no_keys_and_writes_nothing(reader, statement):
    with (
        psycopg.connect(reader, autocommit=True) as opened,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)),
    ):
        opened.execute(statement.encode())
