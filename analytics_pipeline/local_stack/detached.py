"""Running the stack in the background, and speaking to one that runs.

Belongs here: starting and awaiting another process that supervises. Does not belong here: supervising.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.local_stack.child import rotate
from analytics_pipeline.local_stack.control import ask
from analytics_pipeline.local_stack.plan import embedded_servers
from analytics_pipeline.local_stack.state import LeftOver, NotRunning, StateFolder
from analytics_pipeline.settings import Settings, adopt, config_file

_TICK = 0.2
_ERROR = "error: "
_STOPS_WITHIN = 180.0


class StartFailed(AnalyticsError):
    """The background process ended before everything was ready; the text is its own error."""


def up(folder: StateFolder, arguments: list[str], say: Callable[[str], None]) -> None:
    """Start `analytics up` in the background and return when everything is ready.

    Args:
        folder: of the stack.
        arguments: of `analytics`, the command `up` included.
        say: is given the lines of its output while it starts.

    Raises:
        StartFailed: it ended; `exit_code` is its own.
    """
    folder.create()
    with folder.lock():
        log = folder.logs / "stack.log"
        rotate(log, limit=0)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "analytics_pipeline", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    problems = []
    with log.open(encoding="utf-8", errors="replace") as lines:
        while True:
            code = process.poll()
            is_ready = _is_ready(folder, process.pid)
            for line in lines:
                if line.startswith(_ERROR):
                    problems.append(line.removeprefix(_ERROR).rstrip("\n"))
                else:
                    say(line.rstrip("\n"))
            if code is not None:
                failure = StartFailed("\n".join(problems) or f"it was stopped before it was ready; see {log}")
                failure.exit_code = code or 1
                raise failure
            if is_ready:
                return
            time.sleep(_TICK)


class Ended(NamedTuple):
    """What `down` found.

    Attributes:
        was_running: whether a stack ran.
        left_over: services that ran on after the supervisor of a stack was killed, first ended first.
    """

    was_running: bool
    left_over: list[str]


def down(folder: StateFolder, say: Callable[[str], None]) -> Ended:
    """Stop the stack that runs in `folder`, or what one left there that was killed, and wait for its end.

    Raises:
        EnvironmentFault: it did not end in time, or belongs to somebody else.
    """
    try:
        ask(folder, "down")
    except LeftOver:
        say("the supervisor was killed; stopping what it left, in order")
        with folder.lock():
            ended = folder.end_left_over()
        for name in ended:
            say(f"{name} was left over from a stack that was killed, and has been stopped")
        return Ended(was_running=False, left_over=ended)
    except NotRunning:
        return Ended(was_running=False, left_over=[])
    say("stopping, in order")
    limit = time.monotonic() + _STOPS_WITHIN
    while folder.is_locked:
        if time.monotonic() > limit:
            raise EnvironmentFault(
                f"the stack in {folder.path} is still stopping after {_STOPS_WITHIN:.0f} s: see {folder.logs}"
            )
        time.sleep(_TICK)
    return Ended(was_running=True, left_over=[])


def status(folder: StateFolder) -> dict[str, Any]:
    """Addresses, and state, pid and restarts of every process; `is_running` is False when no stack runs.

    `left_over` names the services that run on after the supervisor was killed.
    """
    empty: dict[str, Any] = {
        "is_ready": False,
        "servers_only": False,
        "addresses": {},
        "processes": {},
        "left_over": [],
    }
    place = {"state_folder": str(folder.path.resolve())}
    try:
        answer = ask(folder, "status", timeout=10.0)
    except NotRunning:
        return {"is_running": False, **empty, "left_over": folder.left_over(), **place}
    supervisor = folder.read().supervisor
    return {"is_running": True, **empty, **answer, "pid": supervisor.pid if supervisor else None, **place}


def join(settings: Settings, *, is_serving: bool = False) -> None:
    """Let this process use the stack that runs in the state folder, unless its settings point elsewhere.

    So it does with what a killed supervisor left running. What was set for this process stays: its configuration file,
    and ports that are not 0, by which a second process of a kind finds its own beside that of the stack. 0 means the
    stack's port to those who ask there, and any free one to who serves (`is_serving`).
    """
    folder = StateFolder(settings.local_stack.state_folder)
    if embedded_servers(settings) and (folder.is_locked or folder.left_over()):
        adopt(folder.read().variables | _own(settings, is_serving=is_serving))


def _own(settings: Settings, *, is_serving: bool) -> dict[str, str]:
    file = config_file()
    found = {} if file is None else {"B25_CONFIG": str(file)}
    for section, one in (
        ("server", settings.server),
        ("metrics", settings.metrics),
        ("health", settings.health),
    ):
        if (one.port or is_serving) and "port" in one.model_fields_set:
            found[f"B25_{section.upper()}__PORT"] = str(one.port)
    return found


def _is_ready(folder: StateFolder, pid: int) -> bool:
    record = folder.read()
    return record.is_ready and record.supervisor is not None and record.supervisor.pid == pid
