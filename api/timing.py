"""Where the time of a request went: the header `Server-Timing`, on every answer.

Belongs here: adding up, and the header's text. Does not belong here: telling Prometheus (`edge`, `database`).

A request has one `Timing` in its context; tasks that are started for it have it too. Names, durations in ms:
`cache` looking into Redis (a hit of this process takes no time worth telling), `db` Postgres, waiting for a connection
included, `shared` waiting for the same question of somebody else, `wait` for `after`, `total`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = b"server-timing"
_NAMES = ("cache", "db", "shared", "wait")


class Timing:
    """Seconds by name."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def text(self, total: float) -> bytes:
        """The header's value, `total` in seconds."""
        found = [(name, self.spent[name]) for name in _NAMES if name in self.spent]
        parts = [b"%b;dur=%.3f" % (name.encode(), seconds * 1e3) for name, seconds in found]
        return b", ".join([*parts, total_text(total)])


def total_text(total: float) -> bytes:
    """The header's value where nothing else is known."""
    return b"total;dur=%.3f" % (total * 1e3)


def hit_text(total: float) -> bytes:
    """The header's value of an answer that this process had: quick, because that is all that takes time there."""
    return b"cache;desc=hit, total;dur=%.3f" % (total * 1e3)


_CURRENT: ContextVar[Timing | None] = ContextVar("b25_timing", default=None)


def begin() -> Timing:
    """Begin to add up for the request that this task serves."""
    timing = Timing()
    _CURRENT.set(timing)
    return timing


@contextmanager
def spending(name: str) -> Iterator[None]:
    """Add the seconds until the end of the block to the request's time of this name, if it is a request's."""
    timing = _CURRENT.get()
    if timing is None:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        timing.spent[name] = timing.spent.get(name, 0.0) + time.perf_counter() - started
