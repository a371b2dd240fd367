"""The stack as a whole: commands, services that fail, a killed supervisor, Ctrl-C; never an event lost or doubled."""

import itertools
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from confluent_kafka import Producer

from tests.e2e.local import Pipe, Stack, event
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(400)
numbers = itertools.count()


@contextmanager
def traffic(pipe: Pipe) -> Iterator[str]:
    """Keeps producing and posting events of one fresh type; on leaving, all of them have landed once."""
    event_type = f"traffic.{next(numbers)}"
    stop, sent, answers = threading.Event(), [0], [""]
    producer = Producer(
        {
            "bootstrap.servers": pipe.kafka,
            "enable.idempotence": True,
            "message.timeout.ms": 120_000,
            "log_level": 0,
        }
    )

    def post(one: dict[str, object]) -> None:
        def is_accepted() -> bool:  # with its own id and timestamp, repeating it is safe
            try:
                answer = pipe.api.post("/api/v1/events", json=one)
            except httpx.HTTPError as error:
                answers.append(repr(error))
                return False
            answers.append(answer.text)
            return answer.status_code == 201

        wait_for(is_accepted, 120, "a post is accepted")

    def run() -> None:
        while not stop.wait(0.02):
            producer.produce("order.events", json.dumps(event(event_type, datetime.now(UTC))).encode())
            producer.poll(0)
            sent[0] += 1
            if sent[0] % 10 == 0:
                post(event(event_type, datetime.now(UTC)))
                sent[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: sent[0] > 20, 20, "traffic")
        yield event_type
    finally:
        stop.set()
        thread.join(130)
        left = producer.flush(120)
        print("the last answer to a post:", answers[-1])
    assert left == 0
    wait_for(lambda: pipe.count(event_type) >= sent[0], 60, f"{sent[0]} events land")
    assert pipe.count(event_type) == sent[0]
    pipe.check_books()


def process(stack: Stack, name: str) -> dict[str, object]:
    found: dict[str, object] = stack.status()["processes"][name]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ["ingest"],
        ["kafka"],
        ["postgres"],
        ["api", "redis", "dagster-code", "dagster-daemon", "dagster-webserver"],
    ],
    ids=lambda names: names[0] if len(names) == 1 else "the others",
)
def test_a_killed_process_comes_back_and_the_books_balance(
    stack: Stack, pipe: Pipe, names: list[str]
) -> None:
    """Those that hold no events are killed one after the other, and waited for together."""
    before = {name: process(stack, name) for name in names}
    with traffic(pipe):
        for name in names:
            psutil.Process(before[name]["pid"]).kill()  # type: ignore[arg-type]
        for name in names:
            wait_for(
                lambda name=name: (
                    (after := process(stack, name))["state"] == "running"
                    and after["pid"] != before[name]["pid"]
                ),
                90,
                f"{name} comes back",
            )
    for name in names:
        assert process(stack, name)["restarts"] == before[name]["restarts"] + 1  # type: ignore[operator]


@pytest.mark.slow
def test_without_redis_the_api_answers_degraded(stack: Stack, pipe: Pipe) -> None:
    assert stack.run("stop", "redis").returncode == 0
    wait_for(lambda: pipe.api.get("/health").json()["status"] == "degraded", 20, "degraded")
    assert pipe.api.get("/health").status_code == 200
    assert pipe.api.get("/api/v1/events/stats").status_code == 200
    assert stack.run("start", "redis").returncode == 0
    wait_for(lambda: pipe.api.get("/health").json()["status"] == "healthy", 20, "healthy again")


@pytest.mark.slow
def test_without_postgres_the_api_says_so_and_ingest_waits(stack: Stack, pipe: Pipe) -> None:
    waiting = [event("while.stopped", datetime.now(UTC)) for _ in range(100)]
    assert stack.run("stop", "postgres").returncode == 0
    try:
        pipe.produce("order.events", waiting)
        wait_for(lambda: pipe.api.get("/ready").status_code == 503, 20, "not ready")
        refused = pipe.api.post("/api/v1/events", json=event("refused", datetime.now(UTC)))
        assert refused.status_code == 503
        assert refused.json()["error"]
        assert process(stack, "ingest")["state"] == "running"
    finally:
        assert stack.run("start", "postgres").returncode == 0
    wait_for(lambda: pipe.count("while.stopped") == 100, 60, "what waited lands")
    pipe.check_books()


@pytest.mark.slow
def test_a_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    for arguments in (["up"], ["up", "--detach"]):
        done = stack.run(*arguments)
        assert done.returncode == 1
        assert "already running" in done.stderr
        assert "analytics down" in done.stderr


def test_status_says_what_runs_and_where(stack: Stack) -> None:
    text, found = stack.run("status").stdout, stack.status()
    assert set(found["processes"]) > {"ingest", "api", "postgres"}
    for name, one in found["processes"].items():
        assert re.search(rf"\b{name}\b.*\brunning\b.*\b{one['pid']}\b", text), text
    assert f"{found['addresses']['api']}/dashboard" in text
    password = urlsplit(found["addresses"]["postgres"]).password
    assert password
    assert password not in text


def test_unknown_services_are_refused_with_the_known_ones(stack: Stack) -> None:
    done = stack.run("restart", "kafak")
    assert done.returncode == 1
    assert "dagster-webserver" in done.stderr


def test_a_port_in_use_fails_the_start_with_the_setting(stack: Stack, pipe: Pipe) -> None:
    port = pipe.kafka.rpartition(":")[2]
    other = Stack(stack.folder.with_name("other"), stack.checkout, B25_LOCAL_STACK__KAFKA_PORT=port)
    done = other.run("up", "--no-simulator", timeout=60)
    assert done.returncode == 3
    assert f"port {port} (local_stack.kafka_port) is in use" in done.stderr


@pytest.mark.slow
def test_after_a_killed_supervisor_the_next_start_cleans_up_and_goes_on(stack: Stack, pipe: Pipe) -> None:
    before = stack.status()
    pids = {found["pid"] for found in before["processes"].values()}
    with traffic(pipe):
        supervisor = psutil.Process(before["pid"])
        supervisor.kill()
        wait_for(lambda: not stack.status()["is_running"], 20, "the lock is free")
        assert set(stack.status()["left_over"]) == set(before["processes"])
        output = stack.up()
        assert "left over" in output
    after = stack.status()
    assert after["addresses"] == before["addresses"]
    assert not pids & {found["pid"] for found in after["processes"].values()}
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_ctrl_c_stops_everything_and_a_second_start_goes_on(stack: Stack, pipe: Pipe) -> None:
    if stack.foreground is None or stack.foreground.poll() is not None:  # a test before this one killed it
        stack.down()
        stack.begin()
    assert stack.foreground is not None
    status = stack.status()
    pipe.produce("order.events", [event("last.words", datetime.now(UTC)) for _ in range(2000)])
    stack.foreground.send_signal(signal.SIGINT)
    code = stack.foreground.wait(120)
    output = stack.said.read_text()
    assert code == 0, output
    assert "everything is stopped" in output
    assert not any(psutil.pid_exists(found["pid"]) for found in status["processes"].values())
    began = time.monotonic()
    stack.up()
    print(f"second start: {time.monotonic() - began:.1f} s")
    wait_for(lambda: pipe.count("last.words") == 2000, 60, "what was sent last")
    pipe.check_books()
