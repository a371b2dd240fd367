"""docker-compose.yml and Dockerfile: what can be checked without a Docker engine."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_pipeline.settings import ORIGINAL_VARIABLES, load_settings

ROOT = Path(__file__).parents[2]
OTHER_VARIABLES = {
    "DAGSTER_HOME",
    "DAGSTER_POSTGRES_URL",
    "DAGSTER_DISABLE_TELEMETRY",
    "PROMETHEUS_MULTIPROC_DIR",
}
EXAMPLE = dict(
    line.split("=", 1)
    for line in (ROOT / ".env.example").read_text().splitlines()
    if re.match(r"[A-Z_]+=", line)
)


def substituted(text: str) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?message}` as compose reads them, with `.env.example` as `.env`."""

    def value(found: re.Match[str]) -> str:
        name, _, otherwise = found[1].partition(":")
        if name in EXAMPLE:
            return EXAMPLE[name]
        assert otherwise.startswith("-"), f"{name} is needed and .env.example does not have it"
        return otherwise[1:]

    return re.sub(r"(?<!\$)\$\{([^}]+)\}", value, text)


COMPOSE: dict[str, Any] = yaml.safe_load(substituted((ROOT / "docker-compose.yml").read_text()))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_no_two_services_publish_the_same_port() -> None:
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-[a-z]+)?", tag)


def test_everything_of_the_brief_is_there() -> None:
    assert set(OURS) == {
        "migrate", "first-key", "ingest", "dagster-code", "dagster-webserver", "dagster-daemon", "api", "simulator",
    }  # fmt: skip
    assert set(SERVICES) - set(OURS) == {"postgres", "kafka", "redis", "prometheus", "grafana"}
    assert OURS["ingest"]["deploy"]["replicas"] == 2
    assert SERVICES["simulator"]["profiles"] == ["simulator"]
    assert SERVICES["grafana"]["profiles"] == ["monitoring"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate", "first-key", "simulator"}))
def test_what_keeps_running_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_files_and_folders_it_names_exist(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert (ROOT / service["build"] / "Dockerfile").is_file()
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for other in service.get("depends_on", []):
        assert other in SERVICES


@pytest.mark.parametrize("name", OURS)
def test_its_variables_are_settings_that_load(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = OURS[name]["environment"]
    for variable, value in environment.items():
        known = variable in ORIGINAL_VARIABLES or variable in OTHER_VARIABLES or variable.startswith("B25_")
        assert known, f"nobody reads {variable}"
        monkeypatch.setenv(variable, str(value))
    loaded = load_settings()
    assert loaded.kafka.brokers == ["kafka:19092"]
    assert loaded.database.host == "postgres"
    assert loaded.redis.host == "redis"
    assert (loaded.server.host == "0.0.0.0") == (name == "api")
    assert loaded.security.api_key_enabled == (name == "api")
    assert not loaded.security.allow_anonymous


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_more_rights_than_they_need(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "user" not in service or service["user"] != "root"


def test_the_image_runs_as_a_user_of_its_own_from_locked_packages() -> None:
    lines = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER analytics$", lines, re.MULTILINE)
    assert "--require-hashes" in lines
    for base in re.findall(r"^FROM (\S+)", lines, re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+", base), f"{base} is not pinned"


def test_the_image_has_what_it_copies_and_the_ignore_file_lets_it_through() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == kept
    for name in copied:
        assert (ROOT / name).exists(), name


def test_grafana_asks_for_series_that_exist() -> None:
    declared = (ROOT / "analytics_pipeline/telemetry.py").read_text()
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/pipeline.json").read_text())
    asked = {
        name.removesuffix("_bucket")
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"analytics_\w+", target["expr"])
    }
    assert asked
    assert all(f'"{name}"' in declared for name in asked)


def test_alerts_ask_for_series_that_exist_and_prometheus_loads_them() -> None:
    declared = (ROOT / "analytics_pipeline/telemetry.py").read_text()
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        asked = re.findall(r"analytics_\w+", rule["expr"])
        assert asked, rule["alert"]
        assert all(f'"{name}"' in declared for name in asked), rule["alert"]
        assert rule["labels"]["severity"] in {"page", "warning"}
        assert rule["annotations"]["summary"]
    loaded = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["rule_files"]
    assert loaded == ["/etc/prometheus/alerts.yml"]
    assert f"./deploy/prometheus/alerts.yml:{loaded[0]}:ro" in SERVICES["prometheus"]["volumes"]


def test_prometheus_scrapes_the_port_of_the_metrics() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert f"api:{load_settings().metrics.port}" in scraped[0]["static_configs"][0]["targets"]


def test_docker_compose_accepts_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("this machine has no docker with the compose plugin")
    result = subprocess.run(
        [docker, "compose", "--env-file", ".env.example", "--profile", "*", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
