"""`analytics top` on real servers: what it reads, that it goes on without them, and the live screen with its key."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics_pipeline.ingest.consumer import Bounds
from analytics_pipeline.ingest.stops import made_anew
from analytics_pipeline.overview.watch import Watch
from analytics_pipeline.settings import Settings, environment
from analytics_pipeline.storage.connection import connect
from analytics_pipeline.storage.landing import Lander
from tests.integration.api_support import settle
from tests.integration.ingest_process import produce, write_config
from tests.integration.landing_rig import claim, event, land, message
from tests.waiting import wait_for

Topics = Callable[..., str]


@pytest.fixture
def landed(database: str, kafka: str, topic: Topics) -> str:
    """A topic with 10 messages in each of two partitions, of which 6 of the first have landed, one of them dead."""
    name = topic(partitions=2)
    for number in range(2):
        produce(kafka, name, [json.dumps(event(n)).encode() for n in range(10)], partition=number)
    owner = claim(database, (name, 0))
    messages = [message(n, event(n) if n else b"broken") for n in range(6)]
    with closing(Lander(database, name="landing-test")) as lander:
        land(lander, owner, messages, source=name)
    return name


def watch(database: str, kafka: str, topic: str) -> Watch:
    return Watch(
        Settings.model_validate(
            {
                "database": {"url": database},
                "kafka": {"brokers": [kafka], "topics": [topic]},
                "metrics": {"port": 1},
                "redis": {"port": 1},
                "local_stack": {"state_folder": "/nowhere/at/all"},
            }
        )
    )


def test_a_moment_has_what_landed_and_what_waits(database: str, kafka: str, landed: str) -> None:
    watched = watch(database, kafka, landed)
    try:
        moment = watched.read()
        assert moment.problems.keys() == {"metrics"}
        [source] = [one for one in moment.sources if one.source == landed]
        assert (source.read, source.stored, source.dead) == (0.6, 0.5, 0.1)
        assert moment.lag == {landed: {0: 4, 1: 10}}
        assert moment.waiting == 14
        assert [one.event_type for one in moment.types] == ["order.placed"]
        settle(database)
        again = watched.read()
        assert [one.event_type for one in again.types] == ["order.placed"], "settled events count as well"
        assert again.rollups is not None
        assert again.rollups.pending == 0
        assert moment.rollups is not None
        assert moment.rollups.pending > 0
        assert [(one.source, one.reason) for one in moment.letters] == [(landed, "not_json")]
        assert json.loads(json.dumps(moment.plain(), default=str))["lag"] == {landed: {"0": 4, "1": 10}}
    finally:
        watched.close()


def test_what_is_wrong_is_what_the_api_says(database: str, kafka: str, landed: str) -> None:
    stop = made_anew((landed, 0), Bounds(0, 9))
    with closing(Lander(database, name="landing-test")) as lander:
        owner = lander.claims([(landed, 0)])[landed, 0]
        lander.note_stops({(landed, 0): (owner, stop)})
    with closing(watch(database, kafka, landed)) as watched:
        found = watched.read().pipeline_problems
    assert found[0].name == "partition_stopped"
    assert f"{landed}/0 has stopped: the topic was deleted and recreated" in found[0].text
    assert "cache_down" in {one.name for one in found}, "Redis is configured and not there"


@pytest.mark.slow
def test_it_goes_on_when_postgres_or_kafka_is_away(
    database: str, kafka: str, landed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics_pipeline.overview.watch._KAFKA_TIME", 0.5)
    without_kafka = watch(database, "127.0.0.1:1", landed)
    moment = without_kafka.read()
    assert moment.problems["kafka"] == "Kafka at 127.0.0.1:1 does not answer"
    assert [one.source for one in moment.sources] == ["http", landed]
    assert moment.lag == {landed: {0: None}}
    # a connection that is cut is made anew
    with connect(database, name="test", autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'analytics-top'"
            " AND datname = current_database()"
        )
    assert "postgres" in without_kafka.read().problems
    assert "postgres" not in without_kafka.read().problems
    without_kafka.close()
    without_postgres = watch("postgres://a@127.0.0.1:1/b", kafka, landed)
    moment = without_postgres.read()
    assert "Postgres cannot be reached" in moment.problems["postgres"]
    assert moment.lag == {landed: {0: None, 1: None}}
    assert moment.waiting is None
    without_postgres.close()


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, *words: str, width: int, height: int) -> None:
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.running = subprocess.Popen(
            [sys.executable, "-m", "analytics_pipeline", *words],
            stdin=follower, stdout=follower, stderr=follower, env=environment() | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(follower)
        os.set_blocking(self._leader, False)
        self.shown = b""

    def press(self, key: str) -> None:
        os.write(self._leader, key.encode())

    def read(self) -> str:
        try:
            while piece := os.read(self._leader, 65_536):
                self.shown += piece
        except (BlockingIOError, OSError):
            pass
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode("utf-8", "replace"))

    def close(self) -> None:
        if self.running.poll() is None:
            self.running.kill()
        self.running.wait()
        os.close(self._leader)


@pytest.fixture
def terminal(database: str, kafka: str, landed: str, tmp_path: Path) -> Iterator[Terminal]:
    config = write_config(tmp_path, database, kafka, [landed])
    made = Terminal(
        "top", "--interval", "0.5", "--config", str(config), "--state-folder", str(tmp_path / "none"),
        width=80, height=24,
    )  # fmt: skip
    yield made
    made.close()


@pytest.mark.slow
def test_the_live_screen_is_drawn_and_q_ends_it(terminal: Terminal, landed: str) -> None:
    wait_for(lambda: "q quits" in terminal.read(), timeout=60, message="the screen")
    assert landed in terminal.read()
    assert b"\x1b[?1049h" in terminal.shown, "not on the alternate screen"
    drawn = len(terminal.shown)
    wait_for(lambda: terminal.read() and len(terminal.shown) > drawn, timeout=20, message="drawn again")
    terminal.press("x")
    terminal.press("q")
    assert terminal.running.wait(20) == 0
    terminal.read()
    assert b"\x1b[?1049l" in terminal.shown, "the screen before is not back"


@pytest.mark.slow
def test_off_a_terminal_there_is_a_line_a_reading(
    database: str, kafka: str, landed: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, database, kafka, [landed])
    words = [
        "top",
        "--interval",
        "0.5",
        "--json",
        "--config",
        str(config),
        "--state-folder",
        str(tmp_path / "none"),
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "analytics_pipeline", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        moments = [json.loads(running.stdout.readline()) for _ in range(2)]
        running.terminate()
    times = [datetime.fromisoformat(one["at"]) for one in moments]
    assert times[0] < times[1] <= datetime.now(UTC)
    assert moments[0]["lag"][landed] == {"0": 4, "1": 10}
