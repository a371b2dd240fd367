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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO

import psutil

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.local_stack.processes import Started, await_end, end_session, session

_MARK = "analytics-state"
_LOCK = "lock"


class AlreadyRunning(AnalyticsError):
    """A stack runs in this state folder; one folder holds one stack."""


class NotRunning(AnalyticsError):
    """No stack runs in this state folder."""


class LeftOver(NotRunning):
    """The supervisor was killed, and processes it had started run on without it."""


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
        servers_only: whether nothing but embedded servers runs.
    """

    supervisor: Started | None = None
    control_port: int = 0
    control_key: str = ""
    is_ready: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Started] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    servers_only: bool = False


_FIELDS = frozenset(one.name for one in fields(Record))


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
    def config(self) -> Path:
        """The configuration that the processes of the stack read."""
        return self.path / "config.yaml"

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
            own = {name: raw[name] for name in raw if name in _FIELDS}  # another release's may have more
            return Record(
                supervisor=Started(**supervisor) if supervisor else None, processes=processes, **own
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return Record()

    def left_over(self) -> list[str]:
        """The services that run on although their supervisor was killed, first started first."""
        record = self.read()
        return left_over(record) if record.processes and not self.is_locked else []

    def end_left_over(self) -> list[str]:
        """End these, and return their names, first ended first; for whoever holds the lock.

        Raises:
            EnvironmentFault: some of them still run.
        """
        record = self.read()
        ended = end_leftovers(record) if record.processes else []
        if ended:
            if still := left_over(record):
                raise EnvironmentFault(
                    f"{', '.join(still)} of the stack in {self.path}, whose supervisor was killed, cannot be stopped: "
                    "do it as the user who ran `analytics up`"
                )
            record.supervisor, record.is_ready, record.processes = None, False, {}
            self.write(record)
        return ended

    def not_running(self) -> NotRunning:
        """Why nothing here takes commands, and what to do."""
        if names := self.left_over():
            return LeftOver(left_over_sentence(self.path, names))
        return NotRunning(f"no stack is running in {self.path}: `analytics up` starts one")

    def write(self, record: Record) -> None:
        """Replace the record as a whole; it holds a secret, so only its owner can read it."""
        replace_privately(self.path / "stack.json", json.dumps(asdict(record), indent=1).encode())

    def remove(self) -> None:
        """Delete everything.

        Raises:
            AlreadyRunning: not while a stack runs, or processes that one left.
            EnvironmentFault: the folder isn't one of ours, or its files belong to somebody else.
        """
        if not self.path.exists():
            return
        if not (self.path / _MARK).exists():
            raise EnvironmentFault(
                f"{self.path} was not made by `analytics up`: remove it by hand if you mean it"
            )
        with self.lock():
            if names := left_over(self.read()):
                raise AlreadyRunning(left_over_sentence(self.path, names))
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


def replace_privately(path: Path, content: bytes) -> None:
    """Write a file anew, whole or not at all, for its owner alone to read."""
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def left_over_sentence(folder: Path | str, names: list[str]) -> str:
    """That the supervisor was killed, what runs on, and what to do."""
    return (
        f"the supervisor of the stack in {folder} was killed, and {', '.join(names)} run on without it: "
        "`analytics up` takes over, `analytics down` stops them"
    )


def left_over(record: Record) -> list[str]:
    """The services of which a process is alive, the first process or one that it started; first started first."""
    return [name for name, started in record.processes.items() if started.process() or session(started)]


def end_leftovers(record: Record, patience: float = 20.0) -> list[str]:
    """End processes of a stack whose supervisor was killed, last started first; return their names."""
    ended = []
    for name in reversed(left_over(record)):
        started = record.processes[name]
        ended.append(name)
        process = started.process()
        if process is not None:
            with suppress(psutil.Error):
                process.send_signal(started.stop_signal)
            await_end([process], patience)
        end_session(started.pid, started.created)
    return ended
