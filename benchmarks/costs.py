"""What processes cost while something is measured, and on which machine: CPU seconds and the largest memory, sampled
ten times a second.
"""

import os
import platform
import threading
import time
from bisect import bisect_left
from typing import Any

import psutil

_INTERVAL = 0.1


def machine() -> dict[str, Any]:
    """What figures depend on; the load is that of the last minute, before anything is measured."""
    return {
        "cpus": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


class Costs:
    """Samples some process trees in the background; a context."""

    def __init__(self, roots: dict[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in roots.items()}
        self._times: list[float] = []
        self._cpu: dict[str, list[float]] = {name: [] for name in roots}
        self.peak_rss: dict[str, int] = dict.fromkeys(roots, 0)
        """Bytes, largest sum over a tree; shared memory counts in each process, so only of use for single ones."""
        self._elsewhere: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Costs":
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._sample()

    def cpu_seconds(self, start: float, end: float) -> dict[str, float]:
        """Of each tree between two times of the wall clock, to the nearest samples around them."""
        first = max(0, bisect_left(self._times, start) - 1)
        last = min(len(self._times) - 1, bisect_left(self._times, end))
        return {name: values[last] - values[first] for name, values in self._cpu.items()}

    def cores_elsewhere(self, start: float, end: float) -> float:
        """Cores that everything else on this machine used meanwhile: what disturbs a figure."""
        first = max(0, bisect_left(self._times, start) - 1)
        last = min(len(self._times) - 1, bisect_left(self._times, end))
        seconds = max(self._times[last] - self._times[first], 1e-9)
        return (self._elsewhere[last] - self._elsewhere[first]) / seconds

    def _run(self) -> None:
        while not self._is_over.wait(_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        self._times.append(time.time())
        for name, root in self._roots.items():
            cpu, rss = used_by(root)
            past = self._cpu[name][-1] if self._cpu[name] else 0.0
            self._cpu[name].append(max(cpu, past))
            self.peak_rss[name] = max(self.peak_rss[name], rss)
        machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0)
        busy -= getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
        ours = own.user + own.system + sum(values[-1] for values in self._cpu.values())
        self._elsewhere.append(busy - ours)


def used_by(root: psutil.Process) -> tuple[float, int]:
    """CPU seconds and bytes of a tree of processes; what has ended is in the times of its parent's children."""
    cpu, rss = 0.0, 0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return cpu, rss
    for process in processes:
        try:
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            rss += process.memory_info().rss
        except psutil.Error:
            continue
    return cpu, rss
