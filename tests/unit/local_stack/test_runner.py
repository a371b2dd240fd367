"""One service's life, shown on tiny child processes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.local_stack.child import reason_among
from analytics_pipeline.local_stack.runner import Runner, State
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.local_stack.state import StateFolder
from tests.waiting import wait_for

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)"
)
Make = Callable[..., Runner]


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


@pytest.fixture
def reports() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def make(folder: StateFolder, reports: list[tuple[str, str]]) -> Iterator[Make]:
    made: list[Runner] = []

    def build(code: str, **options: object) -> Runner:
        service = Service("child", [sys.executable, "-c", code], folder.path, {}, **options)  # type: ignore[arg-type]
        runner = Runner(service, folder, lambda *words: reports.append(words), lambda: None, first_delay=0.01)
        made.append(runner)
        return runner

    yield build
    for runner in made:
        runner.force()
        runner.close()


def test_it_runs_until_it_is_stopped(make: Make) -> None:
    runner = make(SLEEP)
    runner.start()
    started = runner.started()
    assert runner.state is State.RUNNING
    assert started is not None
    runner.stop()
    assert runner.state is State.STOPPED
    assert runner.started() is None
    assert not psutil.pid_exists(started.pid)


def test_starting_twice_is_starting_once(make: Make) -> None:
    runner = make(SLEEP)
    runner.start()
    before = runner.started()
    runner.start()
    assert runner.started() == before


def test_ready_means_that_the_probe_says_so(make: Make) -> None:
    is_ready = threading.Event()
    runner = make(SLEEP, is_ready=is_ready.is_set)
    runner.request_start()
    wait_for(lambda: runner.started(), message="the process")
    assert runner.state is State.STARTING
    is_ready.set()
    wait_for(lambda: runner.is_running, message="ready")


def test_a_death_while_starting_is_told_with_the_last_words(make: Make) -> None:
    runner = make("import sys; print('the disk is full'); sys.exit(7)", is_ready=lambda: False)
    with pytest.raises(EnvironmentFault, match=r"exit code 7.*the disk is full"):
        runner.start()
    assert runner.state is State.FAILED


def test_one_that_never_gets_ready_is_told_and_ended(make: Make) -> None:
    runner = make(SLEEP, is_ready=lambda: False, ready_timeout=0.1)
    with pytest.raises(EnvironmentFault, match="did not become ready"):
        runner.start()
    assert runner.started() is None


@pytest.mark.parametrize("on_interrupt", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_program_that_does_not_exist_is_named(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, on_interrupt: signal.Handlers
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: on_interrupt)
    service = Service("child", ["/nowhere/program"], folder.path, {})
    runner = Runner(service, folder, lambda *_: None, lambda: None)
    with pytest.raises(EnvironmentFault, match="/nowhere/program"):
        runner.start()
    runner.close()


def test_a_failed_preparation_is_a_failed_start(make: Make) -> None:
    def prepare(_: object) -> None:
        raise OSError("no space")

    with pytest.raises(EnvironmentFault, match="no space"):
        make(SLEEP, prepare=prepare).start()


def test_a_killed_child_comes_back_with_another_pid(make: Make, reports: list[tuple[str, str]]) -> None:
    runner = make(SLEEP)
    runner.start()
    runner.is_patient = True
    first = runner.started()
    assert first is not None
    psutil.Process(first.pid).kill()
    wait_for(lambda: runner.is_running and runner.started() not in {None, first}, message="restarted")
    assert runner.restarts == 1
    assert any("SIGKILL" in text for _, text in reports)


def test_an_impatient_runner_leaves_a_dead_child_dead(make: Make) -> None:
    runner = make(SLEEP)
    runner.start()
    started = runner.started()
    assert started is not None
    psutil.Process(started.pid).kill()
    wait_for(lambda: runner.state is State.FAILED, message="failed")


def test_restarts_wait_longer_each_time(make: Make, reports: list[tuple[str, str]]) -> None:
    runner = make("")  # ends at once
    runner.request_start()
    runner.is_patient = True
    wait_for(lambda: runner.restarts >= 4, message="four restarts")
    runner.stop()
    delays = [float(text.split()[-2]) for _, text in reports if "again in" in text]
    assert runner.state is State.STOPPED
    assert delays == sorted(delays)
    assert delays[3] > delays[0]


def test_start_does_not_wait_for_the_back_off(make: Make) -> None:
    runner = make("import os, sys; sys.exit(0)", is_ready=lambda: False)
    runner.is_patient = True
    runner._delay = 600.0
    with pytest.raises(EnvironmentFault):
        runner.start()
    assert runner.state is State.WAITING
    with pytest.raises(EnvironmentFault):
        runner.start()
    runner.stop()
    assert runner.state is State.STOPPED


def test_a_deaf_child_is_killed_after_its_time(make: Make, reports: list[tuple[str, str]]) -> None:
    heard = []
    runner = make(STUBBORN, stop_timeout=0.2, is_ready=lambda: bool(heard))
    heard.append(True)
    runner.start()
    wait_for(lambda: "deaf" in Path(runner.describe()["log"]).read_text(), message="deaf")
    runner.stop()
    assert runner.state is State.STOPPED
    assert any("killed" in text for _, text in reports)


def test_force_cuts_an_orderly_stop_short(make: Make) -> None:
    runner = make(STUBBORN, stop_timeout=600.0)
    runner.start()
    wait_for(lambda: "deaf" in Path(runner.describe()["log"]).read_text(), message="deaf")
    thread = threading.Thread(target=runner.stop)
    thread.start()
    runner.force()
    thread.join(10)
    assert not thread.is_alive()


def test_stopping_ends_what_the_child_started_too(make: Make, folder: StateFolder) -> None:
    start = f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    code = f"import subprocess, sys; print({start}.pid, flush=True); {SLEEP}"
    runner = make(code)
    runner.start()
    log = Path(runner.describe()["log"])
    wait_for(lambda: log.read_text().strip().isdigit(), message="grandchild")
    grandchild = psutil.Process(int(log.read_text()))
    runner.stop()
    wait_for(
        lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, message="ended"
    )


def test_nothing_starts_after_closing(make: Make) -> None:
    runner = make(SLEEP)
    runner.start()
    runner.close()
    runner.request_start()
    assert runner.state is State.STOPPED
    with pytest.raises(EnvironmentFault):
        runner.start()


def test_closing_at_once_after_asking_to_start_returns(make: Make) -> None:
    for _ in range(20):
        runner = make(SLEEP, is_ready=lambda: False)
        runner.request_start()
        runner.close()
        assert runner.state is State.STOPPED
        assert runner.started() is None


def test_stop_does_not_wait_for_somebody_who_waits_for_a_start(make: Make) -> None:
    runner = make(SLEEP, is_ready=lambda: False, ready_timeout=600.0)
    refused = []

    def start() -> None:
        with pytest.raises(EnvironmentFault) as caught:
            runner.start()
        refused.append(caught.value)

    thread = threading.Thread(target=start)
    thread.start()
    wait_for(lambda: runner.started(), message="the process")
    runner.stop()
    thread.join(10)
    assert len(refused) == 1
    assert runner.state is State.STOPPED


def test_stop_interrupts_a_start(make: Make) -> None:
    runner = make(SLEEP, is_ready=lambda: False, stop_signal=signal.SIGINT)
    runner.request_start()
    wait_for(lambda: runner.started(), message="the process")
    runner.stop()
    assert runner.state is State.STOPPED


def test_a_child_heeds_an_interrupt_although_the_stack_was_started_in_the_background(
    make: Make, folder: StateFolder
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `analytics up &`
    try:
        runner = make(
            "import signal, time; print(signal.getsignal(signal.SIGINT), flush=True); time.sleep(600)"
        )
        runner.start()
        log = folder.logs / "child.log"
        wait_for(lambda: "SIG" in log.read_text() or "handler" in log.read_text(), 10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "default_int_handler" in log.read_text()
    started = runner.started()
    assert started is not None
    assert psutil.Process(started.pid).cmdline()[-1].startswith("import signal, time; print")


READY = "1:M 29 Nov 2026 22:12:20.000 * Ready to accept connections"
FATAL = "2026-11-29 22:12:20 UTC [7] FATAL:  data directory has wrong ownership"
SHUT = "2026-11-29 22:12:20 UTC [7] LOG:  database system is shut down"


@pytest.mark.parametrize(
    ("lines", "is_killed", "reason"),
    [
        ([READY], True, ""),
        ([], True, ""),
        ([], False, ""),
        ([READY, FATAL], True, FATAL),
        ([FATAL, READY], True, ""),
        ([FATAL, SHUT], False, FATAL),
        (["the disk is full"], False, "the disk is full"),
        (["Traceback (most recent call last):", "ValueError: no"], True, "ValueError: no"),
        (['{"level": "info", "event": "an error was mended"}'], True, ""),
        (['{"level": "error", "event": "no info"}'], True, '{"level": "error", "event": "no info"}'),
        (["2026-11-29 22:12:20 [info     ] landed    errors=0"], True, ""),
        (["[2026-11-29 22:12:20,000] ERROR Exiting Kafka (kafka.Kafka$)", "  at kafka.Kafka.main"], False,
         "[2026-11-29 22:12:20,000] ERROR Exiting Kafka (kafka.Kafka$)"),
    ],
)  # fmt: skip
def test_only_a_line_that_looks_like_one_is_the_reason(
    lines: list[str], is_killed: bool, reason: str
) -> None:
    assert reason_among(lines, is_killed=is_killed) == reason


def test_a_killed_child_is_told_without_a_line_that_has_nothing_to_do_with_it(
    make: Make, reports: list[tuple[str, str]], folder: StateFolder
) -> None:
    log = folder.logs / "child.log"
    runner = make(f"print({READY!r}, flush=True); {SLEEP}", is_ready=lambda: "Ready" in log.read_text())
    runner.start()
    runner.is_patient = True
    started = runner.started()
    assert started is not None
    psutil.Process(started.pid).kill()
    wait_for(lambda: any("unexpectedly" in text for _, text in reports), message="the notice")
    [notice] = [text for _, text in reports if "unexpectedly" in text][:1]
    assert notice == "child ended unexpectedly (killed by SIGKILL); starting it again in 0.0 s"


def test_a_reason_has_no_colours_and_is_of_this_start(make: Make, folder: StateFolder) -> None:
    (folder.logs / "child.log").write_text("error: of the start before\n")
    with pytest.raises(EnvironmentFault) as caught:
        make("import sys; sys.exit(3)", is_ready=lambda: False).start()
    assert "ended while starting (exit code 3); see " in str(caught.value)
    with pytest.raises(EnvironmentFault) as caught:
        make(
            r"import sys; print('\x1b[31merror\x1b[0m no disk'); sys.exit(3)", is_ready=lambda: False
        ).start()
    assert "(exit code 3): error no disk; see " in str(caught.value)
