"""Rate limits by the generic cell rate algorithm (GCRA, ITU-T I.371), in this process.

Belongs here: the arithmetic and its bounded memory.
Does not belong here: who a client is (`edge`), or the answer (`errors`).
"""

from collections import OrderedDict
from typing import NamedTuple

MAX_CLIENTS = 10_000


class Verdict(NamedTuple):
    """What one request gets; in seconds `retry_after`, 0 when allowed, and `reset`, until the burst is whole again."""

    is_allowed: bool
    remaining: int
    retry_after: float
    reset: float


class RateLimiter:
    """So many requests a minute, with bursts; one theoretical arrival time per client."""

    def __init__(self, *, requests_per_minute: int, burst: int) -> None:
        self._interval = 60.0 / requests_per_minute
        self._tolerance = self._interval * burst
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def check(self, client: str, now: float) -> Verdict:
        """Count one request of `client` at `now` (monotonic seconds)."""
        arrival = max(self._arrivals.get(client, now), now)
        wait = arrival + self._interval - self._tolerance - now
        if wait > 1e-9:
            return Verdict(False, 0, wait, arrival - now)
        arrival += self._interval
        self._arrivals[client] = arrival
        self._arrivals.move_to_end(client)
        while len(self._arrivals) > MAX_CLIENTS:
            self._arrivals.popitem(last=False)
        remaining = int((self._tolerance - (arrival - now)) / self._interval + 1e-9)
        return Verdict(True, remaining, 0.0, arrival - now)
