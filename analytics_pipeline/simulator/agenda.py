"""The agenda: what is due when.

A discrete-event simulation keeps its future in one priority queue. An action gets the time it was due at
and gives the draft of what happened, or None where nothing is to be told; it may put more on the agenda.
"""

from collections.abc import Callable
from heapq import heappop, heappush

from analytics_pipeline.simulator.envelope import Draft

Action = Callable[[int], Draft | None]


class Agenda:
    """Actions in order of their time; those of the same time in the order they were added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Action]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, time: int, action: Action) -> None:
        """Run `action` at `time` (µs)."""
        self._added += 1
        heappush(self._heap, (time, self._added, action))

    def next_before(self, now: int) -> tuple[int, Action] | None:
        """Take the earliest action that is due at `now`, with its time."""
        if not self._heap or self._heap[0][0] > now:
            return None
        time, _, action = heappop(self._heap)
        return time, action
