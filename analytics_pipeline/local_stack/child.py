"""One running process of a `Service`: started in a session of its own, its output in a log file.

Belongs here: start, wait until ready, stop, kill, and why it ended, as its log says.
Does not belong here: order, restarts and back-off (`supervisor`).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.local_stack.processes import end_session
from analytics_pipeline.local_stack.service import Service

_LOG_LIMIT = 10 * 1024 * 1024
_LOGS_KEPT = 3
_LOG_TAIL = 8192
_LONGEST_REASON = 300
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""What colours a terminal."""
_LEVEL = re.compile(
    r"(?P<bad>\b(?:error|fatal|panic|critical)\b|\b[\w.]*(?:Error|Exception)\b)"
    r"|\b(?:trace|debug|info|notice|log|warn|warning)\b",
    re.IGNORECASE,
)
"""The first word that names a level, or an exception, which is as good."""
_PROBE_INTERVAL = 0.1
_STOP_INTERVAL = 0.02
_HEEDING_SIGINT = (
    *(sys.executable, "-I", "-S", "-c"),
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Becomes the program that follows; not a `preexec_fn`, because threads start children."""


class Interrupted(AnalyticsError):
    """The service was stopped while it started."""


class Child:
    """A process we started; use it from one thread."""

    def __init__(self, service: Service, log_folder: Path) -> None:
        self.service = service
        self.log_path = log_folder / f"{service.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.created = 0.0
        self._log_began = 0

    @property
    def pid(self) -> int | None:
        """Process id, or None before the first start."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or was never started); negative: ended by that signal."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether the process exists now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; its output is appended to the log.

        Raises:
            EnvironmentFault: the program cannot be started.
        """
        program = self.service.command[0]
        if shutil.which(program, path=self.service.environment.get("PATH")) is None:
            raise EnvironmentFault(f"{self.service.name} cannot be started: {program} is not there")
        rotate(self.log_path)
        account = self.service.account
        with self.log_path.open("ab") as log:
            self._log_began = log.tell()
            try:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd=self.service.folder,
                    env=dict(self.service.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
            except OSError as error:
                raise EnvironmentFault(
                    f"{self.service.name} cannot be started: {program}: {error.strerror}"
                ) from None
        with suppress(psutil.Error):
            self.created = psutil.Process(self._process.pid).create_time()

    def _command(self) -> list[str]:
        """The service's own; a shell's `&` lets SIGINT be ignored, and children would inherit that for good.

        Programs under another account set their own handlers, and may not be able to reach our Python.
        """
        command = list(self.service.command)
        is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return [*_HEEDING_SIGINT, *command] if is_ignored and self.service.account is None else command

    def wait_until_ready(self, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until the service answers.

        Raises:
            Interrupted: `is_cancelled` became true.
            EnvironmentFault: it ended or did not answer in time; the text names the log, and its line that says why.
        """
        limit = time.monotonic() + self.service.ready_timeout
        while True:
            if is_cancelled():
                raise Interrupted
            if not self.is_running:
                raise EnvironmentFault(
                    f"{self.service.name} ended while starting ({describe_exit(self.exit_code)})"
                    f"{self.reason()}; see {self.log_path}"
                )
            if self.service.is_ready():
                return
            if time.monotonic() > limit:
                raise EnvironmentFault(
                    f"{self.service.name} did not become ready within {self.service.ready_timeout:.0f} s"
                    f"{self.reason()}; see {self.log_path}"
                )
            time.sleep(_PROBE_INTERVAL)

    def ask_to_stop(self) -> None:
        """Send the orderly stop signal to the process, without waiting."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(self.service.stop_signal)

    def stop(self, is_forced: Callable[[], bool] = lambda: False) -> bool:
        """Stop in an orderly way, by force after the time limit or once `is_forced`; False when force was needed.

        Whatever the process left behind in its session ends too.
        """
        if self._process is None:
            return True
        self.ask_to_stop()
        limit = time.monotonic() + self.service.stop_timeout
        while self._process.poll() is None and time.monotonic() < limit and not is_forced():
            time.sleep(_STOP_INTERVAL)
        orderly = self._process.poll() is not None
        if not orderly:
            self._process.kill()
        self._process.wait()
        self.end_session()
        return orderly

    def end_session(self) -> None:
        """After the process has ended: end what it started."""
        if self._process is not None:
            end_session(self._process.pid, self.created)

    def reason(self) -> str:
        """`: ` and the line of the log that says why it ended, as far as one does, shortened; else nothing."""
        line = reason_among(self._last_lines(), is_killed=(self.exit_code or 0) < 0)
        return f": {line[:_LONGEST_REASON]}" if line else ""

    def shorten_log(self) -> None:
        """Keep the log of a process that runs for long from filling the disk."""
        with suppress(OSError):
            if shorten(self.log_path):
                self._log_began = 0

    def _last_lines(self) -> list[str]:
        """What this process wrote last, without colours and empty lines."""
        with suppress(OSError), self.log_path.open("rb") as log:
            log.seek(max(self._log_began, self.log_path.stat().st_size - _LOG_TAIL))
            text = _ESCAPES.sub("", log.read().decode("utf-8", "replace"))
            return [line.strip() for line in text.splitlines() if line.strip()]
        return []


def reason_among(lines: list[str], *, is_killed: bool) -> str:
    """The line that says why a process ended; empty where none does.

    A process that was killed says nothing about it: its last line counts only if it is an error. One that ended by
    itself says why in its last error, or where it names no levels, in its last line.
    """
    if is_killed:
        return lines[-1] if lines and _is_error(lines[-1]) else ""
    return next((line for line in reversed(lines) if _is_error(line)), lines[-1] if lines else "")


def _is_error(line: str) -> bool:
    """Whether the first word of a line that names a level names a bad one."""
    found = _LEVEL.search(line)
    return found is not None and found["bad"] is not None


def describe_exit(code: int | None) -> str:
    """`exit code 3` or `killed by SIGKILL`."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def rotate(path: Path, limit: int = _LOG_LIMIT) -> None:
    """Move a log over `limit` bytes aside (`.1` is the newest of three), so that logs never fill the disk."""
    if _make_room(path, limit):
        path.rename(path.with_name(f"{path.name}.1"))


def shorten(path: Path, limit: int = _LOG_LIMIT) -> bool:
    """The same for a log that a process goes on appending to: copied aside and cut off; whether it was.

    What is written between the two is lost, a few lines as a rule, as with logrotate's `copytruncate`.
    """
    is_long = _make_room(path, limit)
    if is_long:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
    return is_long


def _make_room(path: Path, limit: int) -> bool:
    """Whether a log is over `limit` bytes; then the logs before it have made room for it."""
    try:
        if path.stat().st_size < limit:
            return False
    except FileNotFoundError:
        return False
    for number in range(_LOGS_KEPT - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    return True
