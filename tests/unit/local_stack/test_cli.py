"""The command line: help for a newcomer, one sentence per problem, exit codes by class of error."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from analytics_pipeline import cli
from analytics_pipeline.doctor.installation import look_around
from analytics_pipeline.doctor.machine import ports
from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.local_stack.processes import Started
from analytics_pipeline.local_stack.state import Record, StateFolder
from analytics_pipeline.settings import environment
from tests.commands import run_command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER", "B25_DATABASE__URL"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    monkeypatch.delenv("B25_DATABASE__URL")

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", *arguments])

    return call


def test_help_names_every_command(run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in (
        "up",
        "down",
        "status",
        "stop",
        "start",
        "restart",
        "clean",
        "ingest",
        "api",
        "simulate",
        "migrate",
    ):
        assert f" {command} " in out


def test_every_command_has_the_common_options_and_a_description(run) -> None:
    for command in ("up", "down", "status", "stop", "ingest", "api", "simulate", "migrate", "maintain"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "--config" in out
        assert "--state-folder" in out


def test_a_misspelt_command_is_a_usage_error(run) -> None:
    code, _, err = run("pu")
    assert code == 2
    assert "pu" in err


def test_wrong_settings_are_all_told_with_their_exit_code(run, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("server: {port: x}\nkafka: {nonsense: 1}")
    code, out, err = run("clean", "--config", str(config))
    assert code == ConfigurationError.exit_code
    assert err.count("error: ") == 2
    assert "server.port" in err
    assert "kafka.nonsense" in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("command", "code", "answer"),
    [
        (("down",), 0, "no stack was running"),
        (("status",), 1, "no stack is running"),
        (("stop", "kafka"), 1, "no stack is running"),
        (("start", "kafka"), 1, "no stack is running"),
        (("restart", "kafka"), 1, "no stack is running"),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else None,
)
def test_what_needs_the_state_folder_alone_warns_of_wrong_settings(
    run, tmp_path: Path, monkeypatch, command: tuple[str, ...], code: int, answer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("simulatr: {rate: 1}\nlocal_stack: {state_folder: there}")
    got, out, err = run(*command, "--config", "my.yaml")
    assert (got, answer in out + err) == (code, True)
    assert err.startswith(
        "warning: simulatr: is not a known setting in my.yaml; did you mean simulator?\n"
        "going on with the stack in there: "
    )


def test_debug_shows_the_traceback(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.Shown, "tracebacks", False)
    _, _, err = run("status", "--debug", "--config", str(tmp_path / "missing.yaml"))
    assert "Traceback" in err
    assert "does not exist" in err


def test_status_without_a_stack(run, tmp_path: Path) -> None:
    code, out, _ = run("status", "--state-folder", str(tmp_path))
    assert code == 1
    assert "analytics up" in out
    code, out, _ = run("status", "--json", "--state-folder", str(tmp_path))
    assert code == 1
    assert json.loads(out)["is_running"] is False


def test_stopping_what_does_not_run_is_told(run, tmp_path: Path) -> None:
    code, out, _ = run("down", "--state-folder", str(tmp_path))
    assert (code, out) == (0, "no stack was running\n")
    code, _, err = run("stop", "kafka", "--state-folder", str(tmp_path))
    assert code == 1
    assert "analytics up" in err


@pytest.fixture
def left(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a stack in `tmp_path` whose supervisor was killed."""
    folder = StateFolder(tmp_path)
    folder.create()
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    ) as one:
        started = Started(one.pid, psutil.Process(one.pid).create_time())
        folder.write(Record(supervisor=Started(1, 2.0), is_ready=True, processes={"postgres": started}))
        yield one
        one.kill()


def test_what_a_killed_supervisor_left_is_told_everywhere(run, left, tmp_path: Path) -> None:
    place = ("--state-folder", str(tmp_path))
    code, out, _ = run("status", *place)
    assert code == 1
    for sentence in (
        "was killed, and postgres run on",
        "`analytics up` takes over",
        "`analytics down` stops them",
    ):
        assert sentence in out
    assert json.loads(run("status", "--json", *place)[1])["left_over"] == ["postgres"]
    for command in ("start", "stop", "restart"):
        code, _, err = run(command, "postgres", *place)
        assert (code, "was killed, and postgres run on" in err) == (1, True)
    assert left.poll() is None


def test_down_stops_what_a_killed_supervisor_left(run, left, tmp_path: Path) -> None:
    code, out, _ = run("down", "--state-folder", str(tmp_path))
    assert code == 0
    assert "postgres was left over from a stack that was killed, and has been stopped\n" in out
    assert out.endswith("everything is stopped\n")
    assert left.poll() is not None
    assert run("down", "--state-folder", str(tmp_path))[1] == "no stack was running\n"


def test_down_tells_programs_what_was_left(run, left, tmp_path: Path) -> None:
    _, out, _ = run("down", "--json", "--state-folder", str(tmp_path))
    assert json.loads(out) == {"was_running": False, "left_over": ["postgres"]}
    assert left.poll() is not None


def test_clean_stops_what_a_killed_supervisor_left_and_then_deletes(run, left, tmp_path: Path) -> None:
    code, out, _ = run("clean", "--state-folder", str(tmp_path))
    assert (code, "postgres was left over" in out, "is deleted" in out) == (0, True, True)
    assert left.poll() is not None
    assert not tmp_path.exists()


def test_doctor_says_that_ports_are_a_killed_stack_s(run, left, tmp_path: Path, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        folder = StateFolder(tmp_path)
        record = folder.read()
        record.ports = {"dagster.port": port}
        folder.write(record)
        monkeypatch.setenv("B25_DAGSTER__PORT", str(port))
        found, _ = look_around()
        assert found is not None
        found = replace(found, settings=found.settings.model_copy(deep=True))
        found.settings.local_stack.state_folder = tmp_path
        told = [one for one in ports(found) if str(port) in one.sentence or "killed" in one.sentence]
    assert [("another program" in one.sentence, "takes over" in one.advice) for one in told] == [
        (False, True)
    ]


@pytest.mark.parametrize("flag", ["--simulator", "--reload"])
def test_servers_only_leaves_nothing_to_simulate_or_reload(run, tmp_path: Path, flag: str) -> None:
    code, _, err = run("up", "--servers-only", flag, "--state-folder", str(tmp_path))
    assert (code, f"leave out {flag}" in err) == (2, True)


def test_servers_only_without_embedded_servers_is_one_sentence(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("B25_LOCAL_STACK__EMBED", "")
    code, _, err = run("up", "--servers-only", "--state-folder", str(tmp_path))
    assert (code, "none is embedded here" in err) == (2, True)


def test_a_database_that_does_not_answer_is_an_environment_fault(run, tmp_path: Path) -> None:
    code, _, err = run(
        "migrate", "--url", "postgres://u:secret@127.0.0.1:1/d", "--state-folder", str(tmp_path)
    )
    assert code == EnvironmentFault.exit_code
    assert "Postgres cannot be reached" in err
    assert "secret" not in err


def test_a_duration_without_unit_is_told(run, tmp_path: Path) -> None:
    code, _, err = run("simulate", "--duration", "5", "--state-folder", str(tmp_path))
    assert code == ConfigurationError.exit_code
    assert "--duration" in err


def test_an_error_without_words_is_named(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise EnvironmentFault

    monkeypatch.setattr(cli, "app", app)
    code, _, err = run("stop", "kafka")
    assert code == EnvironmentFault.exit_code
    assert err == "error: EnvironmentFault; --debug shows where\n"


def test_operators_commands_are_described(run) -> None:
    for group in ("ledger", "offsets"):
        code, out, _ = run(group, "--help")
        assert code == 0
        assert "show" in out
        for command in ("show", "verify" if group == "ledger" else "seek"):
            code, out, _ = run(group, command, "--help")
            assert code == 0
            assert "--config" in out
