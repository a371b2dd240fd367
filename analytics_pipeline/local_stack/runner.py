"""Keeps one service as it is wanted: started, restarted with back-off after it died, stopped.

Belongs here: the life of one service. Does not belong here: the order of services (`supervisor`).
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from analytics_pipeline.errors import AnalyticsError, EnvironmentFault
from analytics_pipeline.local_stack.child import Child, Interrupted, describe_exit
from analytics_pipeline.local_stack.processes import Started
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.local_stack.state import StateFolder

Report = Callable[[str, str], None]
"""Called with a service's name and what happened to it; from any thread."""

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_HEALTHY_AFTER = 60.0
_WATCH_INTERVAL = 0.2


class State(StrEnum):
    """What a service is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting to restart"
    STOPPING = "stopping"
    FAILED = "failed"


class Runner:
    """One service and the thread that looks after it.

    With `is_patient` False (while the stack starts) a service that dies stays dead and `state` is FAILED; afterwards
    it is started again, after a delay that doubles up to 30 s and begins anew once it ran for a minute.
    """

    def __init__(
        self,
        service: Service,
        folder: StateFolder,
        report: Report,
        changed: Callable[[], None],
        *,
        first_delay: float = _FIRST_DELAY,
    ) -> None:
        self.service = service
        self.state = State.STOPPED
        self.restarts = 0
        self.error = ""
        self.is_patient = False
        self._child = Child(service, folder.logs)
        self._report = report
        self._tell_change = changed
        self._first_delay = first_delay
        self._delay = first_delay
        self._since: datetime | None = None
        self._wanted = False
        self._forced = False
        self._closed = False
        self._hurry = False
        self._is_preparing = False
        self._one_command = threading.Lock()
        self._changed = threading.Condition()  # re-entrant
        self._thread = threading.Thread(target=self._live, name=service.name, daemon=True)
        self._thread.start()

    def request_start(self) -> None:
        """Start, without waiting; after `close` nothing starts any more."""
        with self._changed:
            if self._closed:
                return
            self._wanted = self._hurry = True
            self._set(State.STARTING)

    def start(self) -> None:
        """Start, and wait until it is ready; nothing happens when it runs already.

        Raises:
            AnalyticsError: the first attempt failed.
        """
        with self._one_command, self._changed:
            if self.is_running:
                return
            self.request_start()
            self._changed.wait_for(lambda: self.state is not State.STARTING)
            if not self.is_running:
                raise EnvironmentFault(self.error or f"{self.service.name} was stopped while it started")

    def stop(self) -> None:
        """Stop, and wait until it has ended; a long preparation (a download) is left to itself."""
        with self._changed:  # at once, so that a start that is still waited for ends
            self._wanted = False
            self._changed.notify_all()
        with self._one_command, self._changed:
            self._changed.wait_for(lambda: self._is_preparing or self.state in {State.STOPPED, State.FAILED})

    def force(self) -> None:
        """Do not wait for an orderly end any more."""
        self._forced = True

    def close(self) -> None:
        """Stop for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether it is ready and alive, as far as known."""
        return self.state is State.RUNNING

    def started(self) -> Started | None:
        """The process for the record, while there is one."""
        pid, child = self._child.pid, self._child
        return Started(pid, child.created, child.service.stop_signal) if pid and child.is_running else None

    def describe(self) -> dict[str, Any]:
        """For `analytics status`: state, pid, restarts, since when, log, last error."""
        started = self.started()
        return {
            "state": str(self.state),
            "pid": started.pid if started else None,
            "restarts": self.restarts,
            "since": self._since.isoformat(timespec="seconds") if self._since and started else None,
            "log": str(self._child.log_path),
            "error": self.error,
        }

    def _live(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    if self.state is not State.FAILED:
                        self._set(State.STOPPED)
                    return
            try:
                self._run_once()
            except Interrupted:
                self._end()
            except AnalyticsError as error:
                self._after_failure(str(error))
            except Exception as error:  # noqa: BLE001  the end of a thread: a defect must not go unseen
                self._after_failure(f"{self.service.name} failed: {type(error).__name__}: {error}")

    def _run_once(self) -> None:
        """Start, watch, and return when it was stopped on demand.

        Raises:
            AnalyticsError: it could not be started, or died.
        """
        name = self.service.name
        self._set(State.STARTING)
        began = time.monotonic()
        try:
            self._prepare()
            self._child.start()
            self._tell_change()  # from here on, a killed supervisor leaves a process that the record must name
            self._child.wait_until_ready(lambda: not self._wanted)
            self.service.once_ready()
        except BaseException:
            self._child.stop(lambda: self._forced)
            raise
        self._since = datetime.now(UTC)
        self.error = ""
        self._set(State.RUNNING)
        self._report(name, f"ready after {time.monotonic() - began:.1f} s")
        ready_at = time.monotonic()
        while self._child.is_running:
            with self._changed:
                self._changed.wait_for(lambda: not self._wanted, _WATCH_INTERVAL)
                if not self._wanted:
                    raise Interrupted
            self._child.shorten_log()
            if time.monotonic() - ready_at > _HEALTHY_AFTER:
                self._delay = self._first_delay
        code = self._child.exit_code
        self._child.end_session()
        raise EnvironmentFault(f"{name} ended unexpectedly ({describe_exit(code)}){self._child.reason()}")

    def _prepare(self) -> None:
        self._is_preparing = True
        try:
            self.service.prepare(lambda text: self._report(self.service.name, text))
        finally:
            self._is_preparing = False
        if not self._wanted:
            raise Interrupted

    def _end(self) -> None:
        self._set(State.STOPPING)
        began = time.monotonic()
        is_orderly = self._child.stop(lambda: self._forced)
        how = "stopped" if is_orderly else "did not end in time and was killed"
        self._report(self.service.name, f"{how} after {time.monotonic() - began:.1f} s")
        self._delay = self._first_delay
        self._set(State.STOPPED)

    def _after_failure(self, text: str) -> None:
        self.error = text
        if not self.is_patient:
            self._wanted = False
            self._set(State.FAILED)
            return
        self._set(State.WAITING)
        self._report(self.service.name, f"{text}; starting it again in {self._delay:.1f} s")
        with self._changed:
            self._hurry = False
            self._changed.wait_for(lambda: self._hurry or not self._wanted, self._delay)
            if not self._wanted:
                self._set(State.STOPPED)
                return
        self._delay = min(self._delay * 2, _LONGEST_DELAY)
        self.restarts += 1

    def _set(self, state: State) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()
        if state is not State.STARTING:
            self._tell_change()
