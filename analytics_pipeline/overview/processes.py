"""What the processes of the stack here take of this machine."""

from contextlib import suppress

import psutil

from analytics_pipeline.local_stack.state import StateFolder
from analytics_pipeline.overview.moment import Process


class Processes:
    """Measures CPU between two readings, so the first one has none."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._known: dict[int, psutil.Process] = {}

    def read(self) -> list[Process]:
        """Each service with all that it has started; nothing where no stack runs."""
        if not self._folder.is_locked:
            return []
        found, alive = [], {}
        for name, started in self._folder.read().processes.items():
            leader = started.process()
            if leader is None:
                continue
            cpu, memory = 0.0, 0
            for one in [leader, *_children(leader)]:
                known = self._known.get(one.pid)
                process = known if known == one else one
                assert process is not None
                alive[process.pid] = process
                with suppress(psutil.Error):
                    cpu += process.cpu_percent(None)
                    memory += process.memory_info().rss
            found.append(Process(name, cpu, memory))
        self._known = alive
        return found


def _children(leader: psutil.Process) -> list[psutil.Process]:
    try:
        return leader.children(recursive=True)
    except psutil.Error:
        return []
