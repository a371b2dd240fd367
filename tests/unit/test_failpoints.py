"""Fail points: off by default, exact when armed."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from analytics_pipeline import failpoints
from analytics_pipeline.failpoints import FailPoint, Fault, Point, RunPoint, arm, fail_at


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    signals: list[int] = []
    monkeypatch.setattr(failpoints.os, "kill", lambda _pid, number: signals.append(number))
    return signals


@pytest.mark.parametrize("point", [*FailPoint, *RunPoint])
def test_nothing_happens_unless_armed(point: Point, struck: list[int]) -> None:
    fail_at(point)
    assert struck == []


@pytest.mark.parametrize("fault", Fault)
def test_the_fault_strikes_once_at_its_passage_of_its_point(fault: Fault, struck: list[int]) -> None:
    arm(f"after_cas:{fault}:2")
    fail_at(FailPoint.AFTER_CAS)
    fail_at(FailPoint.BEFORE_COMMIT)
    assert struck == []
    for _ in range(3):
        fail_at(FailPoint.AFTER_CAS)
    assert struck == [{"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[fault]]


def test_points_of_runs_are_armed_by_name_too(struck: list[int]) -> None:
    arm("levels_written:kill:1")
    fail_at(RunPoint.DELTAS_TAKEN)
    assert struck == []
    fail_at(RunPoint.LEVELS_WRITTEN)
    assert struck == [signal.SIGKILL]


@pytest.mark.parametrize(
    "text",
    ["after_cas", "after_cas:kill", "after_cas:kill:0", "nowhere:kill:1", "after_cas:hug:1", "a:b:c:d"],
)
def test_what_is_not_a_fail_point_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="such as mid_copy:kill:3"):
        arm(text)


def test_a_kill_leaves_no_time_to_clean_up() -> None:
    code = (
        "from analytics_pipeline.failpoints import FailPoint, arm, fail_at\n"
        "arm('mid_copy:kill:1')\n"
        "try:\n    fail_at(FailPoint.MID_COPY)\nfinally:\n    print('cleaned up')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""
