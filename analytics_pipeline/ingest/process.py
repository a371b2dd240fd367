"""The threads of the landing process, started and stopped together.

Belongs here: what runs beside what. Does not belong here: wiring them up (`__main__`).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)

Task = Callable[[threading.Event], None]

_CHECK = 0.2
_JOIN = 30.0


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


def run_together(tasks: dict[str, Task], stop: threading.Event) -> BaseException | None:
    """Run every task in a thread of its own until `stop` is set or one of them fails.

    Args:
        tasks: by name; each returns soon after the event it is given is set.
        stop: set by a signal, or here when a task failed.

    Returns:
        The first failure, or None.
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
    for thread in threads:
        thread.join(_JOIN)
        if thread.is_alive():
            _log.error("did not stop in time", thread=thread.name)
    return failures[0] if failures else None
