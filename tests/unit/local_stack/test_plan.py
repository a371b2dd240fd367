"""What would run: embedded or given servers, ports, the environment of processes, what is shown."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack import configuration
from analytics_pipeline.local_stack.addresses import PortInUse, listeners, refuse_busy
from analytics_pipeline.local_stack.applications import (
    STOP_ORDER,
    api_and_dagster,
    history,
    ingest,
    simulator,
)
from analytics_pipeline.local_stack.display import status_line, without_password
from analytics_pipeline.local_stack.plan import Plan, embedded_servers
from analytics_pipeline.local_stack.pulse import Sample
from analytics_pipeline.local_stack.state import Record, StateFolder
from analytics_pipeline.settings import WAITS, Settings, load_settings

ALL = frozenset({"kafka", "postgres", "redis"})


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for setting in (
        "SERVER__PORT",
        "METRICS__PORT",
        "HEALTH__PORT",
        "DAGSTER__PORT",
        "LOCAL_STACK__KAFKA_PORT",
    ):
        monkeypatch.setenv(f"B25_{setting}", "0")
    for server in ("KAFKA_CONTROLLER", "POSTGRES", "REDIS"):
        monkeypatch.setenv(f"B25_LOCAL_STACK__{server}_PORT", "0")
    return load_settings()


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def given(**sections: object) -> Settings:
    return Settings.model_validate(sections)


def test_everything_is_embedded_until_an_address_is_set() -> None:
    assert embedded_servers(Settings()) == ALL
    assert embedded_servers(given(kafka={"brokers": ["k:1"]})) == ALL - {"kafka"}
    assert embedded_servers(given(database={"url": "postgres://h/d"})) == ALL - {"postgres"}
    assert embedded_servers(given(database={"host": "h"})) == ALL - {"postgres"}
    assert embedded_servers(given(redis={"port": 1})) == ALL - {"redis"}


def test_embed_decides_when_it_is_set() -> None:
    assert embedded_servers(given(local_stack={"embed": ["redis"]}, kafka={"brokers": ["k:1"]})) == {"redis"}
    assert embedded_servers(given(local_stack={"embed": []})) == frozenset()
    assert embedded_servers(given(local_stack={"embed": ["kafka"]}, kafka={"brokers": ["k:1"]})) == {"kafka"}


def test_what_is_switched_off_is_not_started() -> None:
    assert embedded_servers(given(kafka={"enabled": False}, redis={"enabled": False})) == {"postgres"}


def test_ports_are_all_different_and_kept(free: Settings) -> None:
    first = listeners(free, ALL, {})
    ports = {setting: listener.port for setting, listener in first.items()}
    assert len(set(ports.values())) == len(ports) == 9
    assert all(ports.values())
    assert {setting: one.port for setting, one in listeners(free, ALL, ports).items()} == ports


def test_a_kept_port_that_was_taken_meanwhile_gives_way(free: Settings, busy: int) -> None:
    assert listeners(free, ALL, {"server.port": busy})["server.port"].port != busy


def test_a_busy_port_is_named_with_its_setting(busy: int) -> None:
    found = listeners(given(server={"port": busy}), frozenset(), {})
    with pytest.raises(PortInUse, match=rf"{busy} \(server\.port\).*B25_SERVER__PORT"):
        refuse_busy({"server.port": found["server.port"]})


def test_two_settings_cannot_share_a_port() -> None:
    with pytest.raises(EnvironmentFault, match=r"server\.port and metrics\.port both name port 9097"):
        listeners(given(metrics={"port": 9097}), ALL, {})


def test_the_simulator_stays_away_from_somebody_s_own_kafka(folder: StateFolder, free: Settings) -> None:
    own = free.model_copy(update={"kafka": given(kafka={"brokers": ["k:1"]}).kafka})
    assert Plan.make(free, folder).with_simulator
    assert not Plan.make(own, folder).with_simulator
    assert Plan.make(own, folder, with_simulator=True).with_simulator
    assert not Plan.make(free, folder, with_simulator=False).with_simulator


def test_processes_are_led_to_the_embedded_servers(
    folder: StateFolder, free: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan.make(free, folder)
    for name, value in plan.variables().items():
        monkeypatch.setenv(name, value)
    seen = load_settings()
    assert plan.postgres is not None
    assert plan.kafka is not None
    assert plan.redis is not None
    wanted, found = conninfo_to_dict(plan.postgres.conninfo()), conninfo_to_dict(seen.database.conninfo())
    assert {key: found[key] for key in found if key not in WAITS} == {
        key: wanted[key] for key in wanted if key not in WAITS
    }
    assert seen.kafka.brokers == [plan.kafka.address]
    assert (seen.redis.port, seen.redis.password.get_secret_value()) == (plan.redis.port, plan.redis.password)
    assert seen.server.port == plan.listeners["server.port"].port
    assert seen.metrics.folder == folder.metrics.resolve()
    assert embedded_servers(seen) == frozenset()  # a command inside the stack looks no further


def test_processes_read_the_configuration_that_the_stack_was_started_with(
    folder: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "config.yaml"
    written.write_text("simulator: {rate: 7}")
    monkeypatch.setenv("B25_CONFIG", str(written))
    configuration.keep(folder)
    assert folder.config.stat().st_mode & 0o777 == 0o600
    seen = ingest(Plan.make(load_settings(), folder, config=written), 16).environment
    written.write_text("simulatr: {rate: 8}")
    assert "did you mean simulator?" in configuration.renew(folder)[0]
    assert load_settings(Path(seen["B25_CONFIG"])).simulator.rate == 7
    written.write_text("simulator: {rate: 8}")
    assert configuration.renew(folder) == ()
    assert load_settings(Path(seen["B25_CONFIG"])).simulator.rate == 8


def test_without_a_file_the_copy_is_empty(folder: StateFolder, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("B25_CONFIG", "")
    monkeypatch.chdir(tmp_path)
    configuration.keep(folder)
    assert folder.config.read_text() == ""


def test_given_servers_are_used_as_they_are(folder: StateFolder) -> None:
    settings = given(
        database={"url": "postgres://u:p@h:1/d"},
        kafka={"brokers": ["k:1"], "options": {"x": "y"}},
        redis={"host": "r"},
    )
    plan = Plan.make(settings, folder)
    assert plan.servers == []
    assert not {"B25_DATABASE__URL", "B25_KAFKA__BROKERS", "B25_REDIS__HOST"} & plan.variables().keys()
    addresses = plan.addresses()
    assert addresses["kafka"] == "k:1"
    assert addresses["postgres"] == "postgresql://u:p@h:1/d"
    assert addresses["redis"] == "redis://r:6379/0"


def test_without_kafka_the_rest_still_runs(folder: StateFolder, free: Settings) -> None:
    settings = free.model_copy(update={"kafka": given(kafka={"enabled": False}).kafka})
    plan = Plan.make(settings, folder, with_simulator=True)
    assert [service.name for service in plan.servers] == ["postgres", "redis"]
    assert plan.addresses()["kafka"] is None
    assert not plan.with_simulator
    assert {service.name for service in api_and_dagster(plan)} >= {"api", "dagster-daemon"}


def test_everything_that_starts_has_a_place_in_the_order_of_stopping(
    folder: StateFolder, free: Settings
) -> None:
    plan = Plan.make(free, folder)
    started = [
        *plan.servers,
        *api_and_dagster(plan),
        ingest(plan, 16),
        simulator(plan),
        history(plan, "2026-01-01T00:00:00+00:00"),
    ]
    assert {service.name for service in started} == {name for group in STOP_ORDER for name in group}


def test_ports_of_an_earlier_start_come_from_the_record(folder: StateFolder, free: Settings) -> None:
    first = Plan.make(free, folder)
    folder.write(Record(ports={setting: listener.port for setting, listener in first.listeners.items()}))
    assert Plan.make(free, folder).listeners == first.listeners


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u:secret@h:1/d?sslmode=disable", "postgresql://u@h:1/d"),
        ("redis://:secret@h:1/0", "redis://h:1/0"),
        ("http://127.0.0.1:9097", "http://127.0.0.1:9097"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
    ],
)
def test_shown_addresses_have_no_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_the_status_line() -> None:
    sample = Sample(rate=1234.4, stored=56789, duplicate=3, dead=2, lag=10, fresh=0.42)
    assert status_line(sample) == (
        "in 1,234/s   stored 56,789   duplicates 3   dead letters 2   lag 10   fresh 0.4 s"
    )
    assert "lag ?   fresh ?" in status_line(Sample())
    assert status_line(Sample(problem="Postgres does not answer")) == "Postgres does not answer"
