"""Processes of this machine, as others than their parent see them: the same one still, alive, all of a session, ended.

Belongs here: looking at and ending what somebody else started. Does not belong here: our own children (`child`).
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

_SAME_AGE = 1.0
"""Seconds between two readings of when one process was created."""
_KILLED_WITHIN = 5.0
"""Seconds in which a process ends that was sent SIGKILL."""
_LOOK_INTERVAL = 0.02


@dataclass(frozen=True)
class Started:
    """A process as the record knows it: the id alone may belong to somebody else by now.

    Attributes:
        created: s since 1970.
        stop_signal: what asks it to end in an orderly way.
    """

    pid: int
    created: float
    stop_signal: int = signal.SIGTERM

    def process(self) -> psutil.Process | None:
        """The process, when it is still the same one and alive."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.created) <= _SAME_AGE and is_alive(found):
                return found
        return None


def end_session(leader: int, since: float) -> None:
    """Kill what is left of the session that process `leader` (started at `since`) led, and wait for its end."""
    killed = session(Started(leader, since))
    for process in killed:
        with suppress(psutil.Error):
            process.kill()
    await_end(killed, _KILLED_WITHIN)


def await_end(processes: list[psutil.Process], patience: float) -> None:
    """Wait until none of them is alive; one that nobody reaps counts as ended."""
    limit = time.monotonic() + patience
    while any(map(is_alive, processes)) and time.monotonic() < limit:
        time.sleep(_LOOK_INTERVAL)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs: one that has ended and that nobody reaps does not."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def session(led: Started) -> list[psutil.Process]:
    """What is alive of the session that this process led.

    While a session exists its id is no other process's; a leader of another age has a session of its own.
    """
    with suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(led.pid).create_time() - led.created) > _SAME_AGE:
            return []
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            is_of_it = os.getsid(process.pid) == led.pid and process.create_time() >= led.created - _SAME_AGE
            if is_of_it and is_alive(process):
                found.append(process)
    return found
