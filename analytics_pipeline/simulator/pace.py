"""The pace: which slots of time are due, read off a monotonic clock that the caller holds.

Slot number k lies at start + k ÷ rate, so rounding never adds up and the average is exactly the rate.
"""

from math import ceil
from typing import NamedTuple

LONGEST_NAP = 0.25
SHORTEST_NAP = 0.01


class Slots(NamedTuple):
    """`number` slots, the first at `first` seconds on the monotonic clock, then `step` seconds apart."""

    first: float
    step: float
    number: int


class Pace:
    """`rate` slots a second from `start` on; what was missed for longer than `patience` seconds is given up.

    Without that limit a simulator whose Kafka was away for an hour would come back with an hour's events.
    """

    def __init__(self, rate: float, start: float, patience: float = 2.0) -> None:
        self._step = 1 / rate
        self._rate = rate
        self._start = start
        self._taken = 0
        self._patience = patience
        self.given_up = 0.0
        """Seconds of slots given up so far."""

    def due(self, now: float) -> Slots:
        """Take all slots before `now`."""
        behind = now - (self._start + self._taken * self._step)
        if behind > self._patience + self._step:
            self.given_up += behind
            self._start, self._taken = now, 0
        first = self._start + self._taken * self._step
        count = max(0, ceil((now - self._start) * self._rate - 1e-6) - self._taken)
        self._taken += count
        return Slots(first, self._step, count)

    def nap(self, now: float) -> float:
        """How long to sleep before `due` is worth asking again, in seconds.

        A hundred wakes a second are smooth enough, and cost next to nothing.
        """
        next_slot = self._start + self._taken * self._step
        return min(LONGEST_NAP, max(SHORTEST_NAP, next_slot - now))
