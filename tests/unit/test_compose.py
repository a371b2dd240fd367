"""docker-compose.yml and Dockerfile: what can be checked without a Docker engine."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_pipeline.local_stack import orphaned_runs
from analytics_pipeline.settings import ORIGINAL_VARIABLES, load_settings

ROOT = Path(__file__).parents[2]
OTHER_VARIABLES = {
    "DAGSTER_HOME",
    "DAGSTER_POSTGRES_URL",
    "DAGSTER_DISABLE_TELEMETRY",
    "DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR",
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
ONE_SHOTS = {"migrate", "first-key", "grafana-reader"}
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


def test_make_builds_the_image_that_compose_runs() -> None:
    [built] = re.findall(r"^IMAGE \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {service["image"] for service in OURS.values()} == {built}


def test_everything_of_the_brief_is_there() -> None:
    assert set(OURS) == {
        "migrate", "first-key", "ingest", "dagster-code", "dagster-webserver", "dagster-daemon", "api", "simulator",
    }  # fmt: skip
    assert set(SERVICES) - set(OURS) == {
        "postgres", "kafka", "redis", "gateway", "prometheus", "grafana", "grafana-reader",
    }  # fmt: skip
    assert OURS["ingest"]["deploy"]["replicas"] == OURS["api"]["deploy"]["replicas"] == 2
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "simulator": ["simulator"]
    }


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOTS - {"simulator"}))
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


def bytes_of(text: str) -> int:
    return int(text[:-1]) * {"M": 2**20, "G": 2**30}[text[-1]]


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_more_rights_or_takes_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") != "root"
    assert "privileged" not in service
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))
    # Kafka writes its settings, and Postgres its socket, beside what is theirs in the image
    assert service.get("read_only", False) == (name not in {"kafka", "postgres"})
    assert ("cap_add" in service) == (name == "postgres")
    limits = service["deploy"]["resources"]["limits"]
    assert bytes_of(limits["memory"]) >= 2**29
    assert limits["pids"] >= 256
    assert float(limits.get("cpus", 0)) <= 1  # Docker refuses more than the machine has
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", OURS)
def test_who_shares_the_folder_of_series_has_it(name: str) -> None:
    """With the variable, and without the folder, a process does not even start: its own file system is read-only."""
    service = OURS[name]
    folder = service["environment"].get("PROMETHEUS_MULTIPROC_DIR")
    mounted = [volume for volume in service.get("volumes", []) if volume.startswith("metrics:")]
    assert mounted == ([f"metrics:{folder}"] if name in {"ingest", "api"} else [])
    assert (folder is not None) == bool(mounted)
    assert service["environment"].get("B25_METRICS__FOLDER") == folder


def test_one_shots_run_once_and_the_rest_comes_back() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped"), name


def test_the_code_server_starts_with_what_marks_the_runs_that_ended_with_the_last_one() -> None:
    """They are its children; counted as running, they would hold their pools for hours."""
    service = OURS["dagster-code"]
    assert service["entrypoint"] == ["python", "-m", orphaned_runs.__name__]
    assert service["command"][:3] == ["dagster", "api", "grpc"]


def test_no_secret_is_in_the_file() -> None:
    """Each is asked for by name, and compose refuses to start without it."""
    raw: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    found = {
        (name, variable): value
        for name, service in raw["services"].items()
        for variable, value in service.get("environment", {}).items()
        if re.search("PASSWORD|AUTH|SECRET|_URL", variable)
    }
    assert len(found) > 20
    for place, value in found.items():
        assert re.fullmatch(r"\$\{\w+:\?[^}]+\}|postgresql://analytics_user:\$\{DB_PASSWORD\}@.*", value), (
            place
        )


def test_waiting_ends() -> None:
    """What is waited for until it is healthy has a health check, and nobody waits in a circle."""
    needs = {
        name: service["depends_on"] if isinstance(service.get("depends_on"), dict) else {}
        for name, service in SERVICES.items()
    }
    for name, others in needs.items():
        for other, how in others.items():
            assert (how["condition"] == "service_healthy") == ("healthcheck" in SERVICES[other]), (
                name,
                other,
            )
    order: list[str] = []
    while len(order) < len(SERVICES):
        ready = [name for name in SERVICES if name not in order and needs[name].keys() <= set(order)]
        assert ready, "a circle"
        order += ready


def test_the_gateway_leads_to_the_apis_ports_and_holds_nothing_back() -> None:
    text = (ROOT / "deploy/gateway/default.conf").read_text()
    assert text.count("{") == text.count("}")
    published = [port.split(":")[1:] for port in SERVICES["gateway"]["ports"]]
    found = load_settings()
    for port in (found.server.port, found.metrics.port, found.health.port):
        assert [str(port), str(port)] in published
        assert f"listen {port};" in text
        assert f"api:{port}" in text
    for line in ("proxy_buffering off;", "proxy_request_buffering off;", "client_max_body_size 0;"):
        assert line in text
    assert "ports" not in SERVICES["api"]


def test_the_image_runs_as_a_user_of_its_own_from_locked_packages() -> None:
    """Of two stages: what installs packages, and what has them alone."""
    installing, running = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]
    for stage in (installing, running):
        assert re.match(r"python:\d+\.\d+\.\d+-slim-", stage), (
            f"{stage.split()[0]} is not pinned, or not slim"
        )
    assert "--require-hashes" in installing
    assert "pip install" not in running
    assert "COPY --from=packages" in running
    user, rest = running.split("\nUSER ")[1].split("\n", 1)
    assert user == "analytics"
    assert "RUN" not in rest


def test_the_image_has_what_it_copies_and_the_ignore_file_lets_it_through() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == kept
    for name in copied:
        assert (ROOT / name).exists(), name


def test_prometheus_and_grafana_find_their_files() -> None:
    assert "./deploy/prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]
    for file in yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["rule_files"]:
        assert (ROOT / "deploy/prometheus" / file).is_file()
    volumes = SERVICES["grafana"]["volumes"]
    assert "./deploy/grafana/dashboards:/etc/grafana/dashboards:ro" in volumes
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / home.replace("/etc/grafana", "deploy/grafana")).is_file()
    [provider] = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/dashboards.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_grafana_is_given_what_its_data_source_names() -> None:
    text = (ROOT / "deploy/grafana/provisioning/datasources/postgres.yml").read_text()
    named = set(re.findall(r"\$(\w+)", text))
    assert named <= SERVICES["grafana"]["environment"].keys()
    reader = SERVICES["grafana-reader"]["environment"]
    for variable in ("GRAFANA_DB_USER", "GRAFANA_DB_PASSWORD"):
        assert reader[variable] == SERVICES["grafana"]["environment"][variable]


def test_prometheus_scrapes_the_port_of_the_metrics() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert f"api:{load_settings().metrics.port}" in scraped[0]["static_configs"][0]["targets"]


def made_passwords(folder: Path) -> Path:
    """`.env`, as `make .env` writes it."""
    folder.mkdir()
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, folder)
    subprocess.run(["make", ".env"], cwd=folder, check=True, capture_output=True)
    return folder / ".env"


def test_each_installation_has_passwords_of_its_own(tmp_path: Path) -> None:
    files = [made_passwords(tmp_path / name) for name in ("one", "other")]
    assert [path.stat().st_mode & 0o077 for path in files] == [0, 0], "others may read them"
    passwords = [
        word
        for path in files
        for word in re.findall(r"^\w+_PASSWORD=(\w{32})$", path.read_text(), re.MULTILINE)
    ]
    assert len(passwords) == len(set(passwords)) == 2 * sum(name.endswith("_PASSWORD") for name in EXAMPLE)


def test_docker_compose_accepts_it(tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("this machine has no docker compose")
    result = subprocess.run(
        [
            *command,
            "--env-file",
            str(made_passwords(tmp_path / "made")),
            "--profile",
            "*",
            "config",
            "--quiet",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def compose_command() -> list[str] | None:
    """Docker's plugin, or the program of its own name, from the second version on."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0]) is not None
            and (
                said := subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
            ).returncode
            == 0
            and not said.stdout.lstrip("v").startswith("1.")
        ):
            return command
    return None
