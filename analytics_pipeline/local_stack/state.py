"""The state folder: what lives where in it, the lock of the one running stack, and the record of its processes.

Belongs here: paths, `lock`, `stack.json`. Does not belong here: what the servers keep in their own folders.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import psutil

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault

_MARK = "analytics-state"
_LOCK = "lock"
_SAME_AGE = 1.0
"""Seconds between two readings of when one process was created."""


class AlreadyRunning(AnalyticsError):
    """A stack runs in this state folder; one folder holds one stack."""


class NotRunning(AnalyticsError):
    """No stack runs in this state folder."""


@dataclass(frozen=True)
class Started:
    """A process as the record knows it: the id alone may belong to somebody else by now."""

    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """The process, when it is still the same one and alive."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.created) <= _SAME_AGE
            if same and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None


@dataclass
class Record:
    """What `stack.json` says: enough to find the supervisor, and to clean up after one that was killed.

    Attributes:
        supervisor: the process that watches all others.
        control_port, control_key: where and with which secret it takes commands (loopback).
        is_ready: whether everything had started.
        ports: by setting, so that a port once chosen stays.
        processes: by service name, in the order of their start.
        variables: the environment that leads a command of the product to this stack; secrets among it.
    """

    supervisor: Started | None = None
    control_port: int = 0
    control_key: str = ""
    is_ready: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Started] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StateFolder:
    """Paths of one stack."""

    path: Path

    @property
    def logs(self) -> Path:
        """One log per service."""
        return self.path / "logs"

    @property
    def metrics(self) -> Path:
        """Shared by the Prometheus clients of all processes; emptied at each start."""
        return self.path / "metrics"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.path / "dagster"

    def create(self) -> None:
        """Make the folders.

        Raises:
            EnvironmentFault: not possible here.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / _MARK).touch()
            for folder in (self.logs, self.metrics, self.dagster):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                f"the state folder {self.path} cannot be used ({error.strerror}): "
                "choose another with --state-folder or local_stack.state_folder"
            ) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder; the kernel lets go when this process ends, however it ends.

        Raises:
            AlreadyRunning: another process holds it.
        """
        with (self.path / _LOCK).open("a") as file:
            if not _take(file):
                supervisor = self.read().supervisor
                pid = f" (process {supervisor.pid})" if supervisor else ""
                raise AlreadyRunning(
                    f"a stack is already running in {self.path}{pid}: `analytics status` shows it, `analytics down` "
                    "stops it, and --state-folder starts another beside it"
                ) from None
            yield

    @property
    def is_locked(self) -> bool:
        """Whether a stack runs here."""
        with suppress(FileNotFoundError), (self.path / _LOCK).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def read(self) -> Record:
        """The record; an empty one when there is none, or it is damaged."""
        try:
            raw = json.loads((self.path / "stack.json").read_text(encoding="utf-8"))
            supervisor = raw.pop("supervisor")
            processes = {name: Started(**one) for name, one in raw.pop("processes").items()}
            return Record(
                supervisor=Started(**supervisor) if supervisor else None, processes=processes, **raw
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return Record()

    def write(self, record: Record) -> None:
        """Replace the record as a whole; it holds a secret, so only its owner can read it."""
        fresh = self.path / "stack.json.new"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(record), file, indent=1)
        fresh.replace(self.path / "stack.json")

    def remove(self) -> None:
        """Delete everything.

        Raises:
            AlreadyRunning: not while a stack runs.
            EnvironmentFault: the folder isn't one of ours, or its files belong to somebody else.
        """
        if not self.path.exists():
            return
        if not (self.path / _MARK).exists():
            raise EnvironmentFault(
                f"{self.path} was not made by `analytics up`: remove it by hand if you mean it"
            )
        with self.lock():
            try:
                shutil.rmtree(self.path)
            except OSError as error:
                raise EnvironmentFault(
                    f"{self.path} could not be removed ({error.strerror}: {error.filename}): "
                    "do it as the user who ran `analytics up`"
                ) from None


def _take(file: IO[str]) -> bool:
    """Lock the file, with some patience for those who only look whether it is locked."""
    for _ in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def end_leftovers(record: Record, patience: float = 20.0) -> list[str]:
    """End processes of a stack whose supervisor was killed, last started first; return their names."""
    ended = []
    for name, started in reversed(record.processes.items()):
        process = started.process()
        if process is not None:
            ended.append(name)
            with suppress(psutil.Error):
                process.terminate()
                process.wait(patience)
        end_session(started.pid, started.created)
    return ended


def end_session(leader: int, since: float) -> None:
    """Kill what is left of the session that process `leader` (started at `since`) led.

    While a session exists its id is no other process's; a leader of another age has a session of its own.
    """
    with suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(leader).create_time() - since) > _SAME_AGE:
            return
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.create_time() >= since - _SAME_AGE:
                process.kill()
