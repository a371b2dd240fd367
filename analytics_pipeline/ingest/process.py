"""The threads of the landing process, started and stopped together.

Belongs here: what runs beside what. Does not belong here: wiring them up (`__main__`).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from analytics_pipeline.errors import EnvironmentFault

Task = Callable[[threading.Event], None]

_CHECK = 0.2


@dataclass
class _Running:
    name: str
    task: Task
    stop: threading.Event
    failed: Callable[[BaseException], None]

    def __call__(self) -> None:
        try:
            self.task(self.stop)
        except BaseException as error:  # noqa: BLE001  (the edge of the thread: handed to the main thread)
            self.failed(error)


def run_together(
    tasks: dict[str, Task], stop: threading.Event, *, stop_timeout: float = 30.0
) -> BaseException | None:
    """Run every task in a thread of its own until `stop` is set or one of them fails.

    Args:
        tasks: by name; each returns soon after the event it is given is set.
        stop: set by a signal, or here when a task failed.

    Returns:
        The first failure; else that a task did not end within `stop_timeout` seconds of the stop; else None.
    """
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    threads = [
        threading.Thread(target=_Running(name, task, stop, failed), name=name, daemon=True)
        for name, task in tasks.items()
    ]
    for thread in threads:
        thread.start()
    while not stop.wait(_CHECK):
        pass
    deadline = time.monotonic() + stop_timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if failures:
        return failures[0]
    late = [thread.name for thread in threads if thread.is_alive()]
    if late:
        return EnvironmentFault(f"{', '.join(late)} did not stop within {stop_timeout:g} s; nothing is lost")
    return None
