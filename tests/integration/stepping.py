"""Two connections at once, stepped: each waits at a named moment until the test lets it go on, and none for ever."""

import threading
from collections.abc import Callable
from typing import Any

from analytics_pipeline.failpoints import Point
from tests.integration.landing_rig import rows, value
from tests.waiting import wait_for

LIMIT = 20.0
"""Seconds that a step may take."""

_BLOCKERS = """
SELECT DISTINCT blocker.application_name
FROM pg_stat_activity AS waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
INNER JOIN pg_stat_activity AS blocker ON blocker.pid = blocking.pid
WHERE waiting.application_name = %s AND waiting.datname = current_database()
"""
_BLOCKED = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = %s AND datname = current_database() AND wait_event_type = 'Lock'
"""


class Steps:
    """Holds a thread, by its name, when it first passes a point; put it in the place of what arms fail points."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Point], tuple[threading.Event, threading.Event]] = {}

    def hold(self, thread: str, point: Point) -> None:
        self._held[thread, point] = threading.Event(), threading.Event()

    def passed(self, point: Point) -> None:
        if found := self._held.get((threading.current_thread().name, point)):
            reached, free = found
            reached.set()
            assert free.wait(LIMIT)

    def wait_at(self, thread: str, point: Point) -> None:
        assert self._held[thread, point][0].wait(LIMIT), f"{thread} does not come to {point}"

    def release(self, thread: str, point: Point) -> None:
        self._held[thread, point][1].set()

    def release_all(self) -> None:
        """So that no thread outlives a test that failed."""
        for _, free in self._held.values():
            free.set()


class Doing:
    """Something in a thread of its own; `result()` waits for what it returned or raises what it raised."""

    def __init__(self, name: str, do: Callable[[], Any], limit: float = LIMIT) -> None:
        self._limit = limit
        self._found: list[Any] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(do,), name=name, daemon=True)
        self._thread.start()

    def _run(self, do: Callable[[], Any]) -> None:
        try:
            self._found.append(do())
        except BaseException as error:  # noqa: BLE001  (raised again by `result`)
            self._errors.append(error)

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(self._limit)
        assert self.has_ended, f"{self._thread.name} hangs"
        if self._errors:
            raise self._errors[0]
        return self._found[0]


def wait_until_blocked(conninfo: str, name: str) -> None:
    """Until the connection of that role waits for a lock."""
    wait_for(lambda: value(conninfo, _BLOCKED, f"analytics-{name}"), LIMIT, f"{name} waits for a lock")


def blockers(conninfo: str, name: str) -> set[str]:
    """The roles that a role waits for at this moment."""
    found = rows(conninfo, _BLOCKERS, f"analytics-{name}")
    return {application.removeprefix("analytics-") for (application,) in found}
