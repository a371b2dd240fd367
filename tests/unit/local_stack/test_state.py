"""The state folder: one stack at a time, a record that survives damage, leftovers of a killed supervisor."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.child import rotate, shorten
from analytics_pipeline.local_stack.processes import Started
from analytics_pipeline.local_stack.secrets import password
from analytics_pipeline.local_stack.state import AlreadyRunning, Record, StateFolder, end_leftovers

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


def test_the_record_comes_back_as_written_and_only_its_owner_reads_it(folder: StateFolder) -> None:
    record = Record(
        Started(1, 2.5), 3, "key", True, {"server.port": 4}, {"kafka": Started(5, 6.0)}, {"A": "b"}
    )
    folder.write(record)
    assert folder.read() == record
    assert (folder.path / "stack.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"supervisor": 1}', '{"x": 1}'])
def test_a_damaged_record_is_an_empty_one(folder: StateFolder, content: str) -> None:
    (folder.path / "stack.json").write_text(content)
    assert folder.read() == Record()


def test_one_folder_holds_one_stack(folder: StateFolder) -> None:
    assert not folder.is_locked
    with folder.lock():
        assert folder.is_locked
        with pytest.raises(AlreadyRunning, match="analytics down"), folder.lock():
            pass
    assert not folder.is_locked


def test_the_lock_ends_with_its_process_however_it_ends(folder: StateFolder) -> None:
    code = (
        "import sys, time; from pathlib import Path; from analytics_pipeline.local_stack.state import StateFolder\n"
        "with StateFolder(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert folder.is_locked
        holder.kill()
    assert not folder.is_locked


def test_leftovers_are_ended_last_first(folder: StateFolder) -> None:
    children = {name: subprocess.Popen(SLEEP, start_new_session=True) for name in ("first", "second")}
    record = Record(
        processes={
            name: Started(child.pid, psutil.Process(child.pid).create_time())
            for name, child in children.items()
        }
    )
    assert end_leftovers(record, patience=0.1) == ["second", "first"]
    for name, child in children.items():
        child.wait(10)
        assert record.processes[name].process() is None


def test_leftovers_are_asked_to_end_in_their_own_way(folder: StateFolder) -> None:
    """Postgres waits at SIGTERM until everybody has left."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        started = Started(child.pid, psutil.Process(child.pid).create_time(), signal.SIGINT)
        folder.write(Record(processes={"postgres": started}))
        assert folder.end_left_over() == ["postgres"]
    assert child.returncode not in {-signal.SIGKILL, -signal.SIGTERM}


def test_a_folder_is_not_deleted_while_something_of_a_killed_stack_runs(folder: StateFolder) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as child:
        folder.write(Record(processes={"kafka": Started(child.pid, psutil.Process(child.pid).create_time())}))
        with pytest.raises(AlreadyRunning, match="kafka run on without it"):
            folder.remove()
        child.kill()
    folder.remove()
    assert not folder.path.exists()


def test_what_a_dead_process_started_is_left_over_too(folder: StateFolder) -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP[2]!r}]).pid, flush=True)\n"
    code += SLEEP[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout is not None
        worker = psutil.Process(int(leader.stdout.readline()))
        folder.write(Record(processes={"api": Started(leader.pid, psutil.Process(leader.pid).create_time())}))
        leader.kill()
    assert folder.left_over() == ["api"]
    assert folder.end_left_over() == ["api"]
    assert folder.left_over() == []
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert folder.read().processes == {}


def test_what_belongs_to_somebody_else_is_told(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as child:
        folder.write(Record(processes={"kafka": Started(child.pid, psutil.Process(child.pid).create_time())}))
        monkeypatch.setattr("analytics_pipeline.local_stack.state.end_leftovers", lambda _record: ["kafka"])
        with pytest.raises(EnvironmentFault, match=r"kafka of the stack in .* cannot be stopped"):
            folder.end_left_over()
        child.kill()


def test_what_another_release_wrote_is_read_as_far_as_it_is_known(folder: StateFolder) -> None:
    folder.write(Record(ports={"server.port": 4}))
    written = json.loads((folder.path / "stack.json").read_text())
    (folder.path / "stack.json").write_text(json.dumps(written | {"of_the_next_release": 1}))
    assert folder.read().ports == {"server.port": 4}


def test_a_process_that_only_has_the_same_pid_is_left_alone(folder: StateFolder) -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as stranger:
        created = psutil.Process(stranger.pid).create_time()
        assert end_leftovers(Record(processes={"kafka": Started(stranger.pid, created - 100)})) == []
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.2)
        stranger.kill()


def test_only_a_folder_of_ours_is_deleted(folder: StateFolder, tmp_path: Path) -> None:
    foreign = tmp_path / "documents"
    foreign.mkdir()
    (foreign / "letter").touch()
    with pytest.raises(EnvironmentFault, match="by hand"):
        StateFolder(foreign).remove()
    assert (foreign / "letter").exists()
    folder.remove()
    assert not folder.path.exists()
    folder.remove()


def test_a_running_stack_s_folder_is_not_deleted(folder: StateFolder) -> None:
    with folder.lock(), pytest.raises(AlreadyRunning):
        folder.remove()
    assert folder.path.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="--state-folder"):
        StateFolder(tmp_path / "file" / "below").create()


def test_a_password_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "password"
    first = password(path)
    assert len(first) > 20
    assert password(path) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_large_logs_are_moved_aside_and_old_ones_go(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(6):
        log.write_text(str(number))
        rotate(log, limit=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log.1", "a.log.2", "a.log.3"]
    assert (tmp_path / "a.log.1").read_text() == "5"
    log.write_text("small")
    rotate(log, limit=100)
    assert log.exists()


def test_a_log_that_is_written_to_is_cut_off_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as log:
        log.write(b"first\n" * 20)
        assert shorten(path, limit=100)
        log.write(b"second\n")
        assert not shorten(path, limit=100)
    assert path.read_text() == "second\n"
    assert (tmp_path / "a.log.1").read_text() == "first\n" * 20


def test_the_record_names_everything_json_can_hold(folder: StateFolder) -> None:
    folder.write(Record())
    assert json.loads((folder.path / "stack.json").read_text())["is_ready"] is False
