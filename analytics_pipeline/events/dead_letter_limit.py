"""When a partition has so many dead letters that something other than the messages must be wrong."""

from collections import deque
from collections.abc import Iterable


class DeadLetterLimit:
    """Counts the messages of one partition; pure.

    Passed when the last `consecutive` messages were all dead, or when more than `ratio` of the last
    `consecutive` or more messages were (so that a short burst at the start of a topic stops nothing).
    """

    def __init__(self, ratio: float, consecutive: int) -> None:
        self._ratio = ratio
        self._consecutive = consecutive
        self._window: deque[tuple[int, int]] = deque()
        self._read = self._dead = 0
        self._all_dead = 0

    def recall(self, batches: Iterable[tuple[int, int]]) -> str | None:
        """Count what earlier owners of the partition landed, oldest first; return what `add` said of the last."""
        why = None
        for read, dead in batches:
            why = self.add(read, dead)
        return why

    def add(self, read: int, dead: int) -> str | None:
        """Count a batch; return why the partition has to stop, or None."""
        if read == 0:
            return None
        self._all_dead = self._all_dead + dead if dead == read else 0
        self._window.append((read, dead))
        self._read, self._dead = self._read + read, self._dead + dead
        while self._read - self._window[0][0] >= self._consecutive:
            oldest_read, oldest_dead = self._window.popleft()
            self._read, self._dead = self._read - oldest_read, self._dead - oldest_dead
        if self._all_dead >= self._consecutive:
            return f"the last {self._all_dead} messages all became dead letters"
        if self._read >= self._consecutive and self._dead > self._ratio * self._read:
            return f"{self._dead} of the last {self._read} messages became dead letters"
        return None


def passed(partition: tuple[str, int], next_offset: int, why: str) -> str:
    """Why the partition has stopped, and what resolves it: the command's line in the ledger ends the count."""
    topic, number = partition
    return (
        f"{why}; look at `analytics dead-letters groups --source {topic}`, mend what is wrong, then run "
        f"`analytics offsets skip-to {topic} {number} {next_offset}` to go on where it stands"
    )
