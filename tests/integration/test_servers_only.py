"""`analytics up --servers-only`: the embedded servers alone, a schema that this release refuses left as it is."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from analytics_pipeline.local_stack.state import StateFolder
from tests.e2e.local import Stack
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

FROM_THE_FUTURE = """
CREATE TABLE schema_migrations (version integer, name text, checksum text, applied_at timestamptz DEFAULT now());
INSERT INTO schema_migrations VALUES (9999, '9999_of_the_next_release', 'x');
"""


@pytest.fixture
def stack() -> Iterator[Stack]:
    """With Postgres and Redis; a short path, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="b25-servers-", dir="/tmp"))
    stack = Stack(folder / "state", B25_LOCAL_STACK__EMBED="postgres,redis", B25_KAFKA__ENABLED="false")
    yield stack
    stack.run("down")
    shutil.rmtree(folder, ignore_errors=True)


def begin(stack: Stack) -> None:
    done = stack.run("up", "--servers-only", "--detach")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "postgres, redis, and nothing else, are ready" in done.stdout


def tables(stack: Stack) -> list[str]:
    with psycopg.connect(stack.status()["addresses"]["postgres"]) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return [name for (name,) in found]


@pytest.mark.slow
def test_a_schema_that_is_refused_stays_as_it_is_and_its_servers_start(stack: Stack) -> None:
    begin(stack)
    status = stack.status()
    assert (status["is_ready"], status["servers_only"]) == (True, True)
    assert set(status["processes"]) == {"postgres", "redis"}
    assert {name for name, address in status["addresses"].items() if address} == {"postgres", "redis"}
    assert tables(stack) == []
    with psycopg.connect(status["addresses"]["postgres"]) as connection:
        connection.execute(FROM_THE_FUTURE)
    assert "only servers run" in stack.run("status").stdout
    told = stack.run("doctor").stdout
    assert "nothing listens on port" not in told
    for command, state in (("stop", "stopped"), ("start", "running")):
        assert f"postgres is {state}" in stack.run(command, "postgres").stdout
    assert "this stack runs: postgres, redis" in stack.run("restart", "api").stderr
    assert "everything is stopped" in stack.run("down").stdout
    refused = stack.run("up")
    assert (refused.returncode, "9999" in refused.stderr) == (3, True), refused.stderr
    begin(stack)
    assert tables(stack) == ["schema_migrations"]
    assert stack.status()["addresses"] == status["addresses"]  # ports once chosen stay


@pytest.mark.slow
def test_a_running_stack_takes_commands_although_its_file_has_a_mistake_by_now(stack: Stack) -> None:
    written = stack.folder.with_name("config.yaml")
    written.write_text("simulator: {rate: 1}\n")
    stack.variables["B25_CONFIG"] = str(written)
    begin(stack)
    written.write_text("simulatr: {rate: 1}\n")
    for command, code, answer in (
        ("status", 0, "redis"),
        ("restart redis", 0, "redis is running"),
        ("up", 2, ""),
    ):
        done = stack.run(*command.split())
        assert (done.returncode, answer in done.stdout) == (code, True)
        assert f"simulatr: is not a known setting in {written}; did you mean simulator?" in done.stderr
    assert stack.folder.joinpath("config.yaml").read_text() == "simulator: {rate: 1}\n"
    log = stack.folder.joinpath("logs/stack.log").read_text()
    assert "did you mean simulator? (redis keeps the one it had)" in log
    assert "everything is stopped" in stack.run("down").stdout


@pytest.mark.slow
def test_servers_of_a_killed_supervisor_are_used_and_then_stopped_by_down(stack: Stack) -> None:
    begin(stack)
    before = stack.status()
    psutil.Process(before["pid"]).kill()
    wait_for(lambda: not stack.status()["is_running"], 20, "the lock is free")
    assert stack.status()["left_over"] == ["postgres", "redis"]
    refused = stack.run("sql", "SELECT 1")
    assert "password" not in refused.stderr
    assert "analytics migrate" in refused.stderr  # it was asked: there is no schema yet
    done = stack.run("down")
    assert done.returncode == 0, done.stderr
    assert "postgres was left over from a stack that was killed, and has been stopped" in done.stdout
    assert not any(psutil.pid_exists(one["pid"]) and psutil.Process(one["pid"]).status() != "zombie"
                   for one in before["processes"].values())  # fmt: skip
    assert not (StateFolder(stack.folder).path / "postgres/data/postmaster.pid").exists()  # an orderly end
