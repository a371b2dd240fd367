"""Turns at Postgres: so many queries at once, and of these so many of one caller, so that nobody takes them all.

Belongs here: counting and queueing, and who waits. Does not belong here: connections (`database`, `desk`), how many
requests may come (`gate`).

A request has its caller in its context; tasks that are started for it have it too. Work of the process itself has none
and waits for nobody's share.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

from api.errors import Problem, TooManyRequests, Unavailable

QUEUE_TIME = 1.0
"""Seconds to wait for a turn before one is turned away."""

_CALLER: ContextVar[str | None] = ContextVar("b25_caller", default=None)


def calling(caller: str | None) -> None:
    """Say for whom this task works from now on."""
    _CALLER.set(caller)


def caller() -> str | None:
    """For whom this task works; None: for the process itself, or for somebody on this machine without a key."""
    return _CALLER.get()


class _Share:
    """What one caller may have at once; forgotten when nobody holds or wants any of it."""

    def __init__(self, most: int) -> None:
        self.turns = asyncio.Semaphore(most)
        self.users = 0


class Turns:
    """Of one process: `most` at once, and of them at most `of_one` of the same caller."""

    def __init__(self, most: int, of_one: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._of_one = of_one
        self._shares: dict[str, _Share] = {}

    @property
    def callers(self) -> int:
        """How many hold a turn or wait for one."""
        return len(self._shares)

    async def take(self) -> Callable[[], None]:
        """Wait for a turn, but not long; call what is returned when it is over, in the same event loop.

        Raises:
            TooManyRequests: the caller's own queries take all that he may have.
            Unavailable: all turns are taken.
        """
        whose = caller()
        if whose is None:
            await _wait(self._all, _overloaded)
            return self._all.release
        share = self._shares.get(whose)
        if share is None:
            share = self._shares[whose] = _Share(self._of_one)
        share.users += 1
        try:
            await _wait(share.turns, self._too_many)
            try:
                await _wait(self._all, _overloaded)
            except BaseException:
                share.turns.release()
                raise
        except BaseException:
            self._leave(whose, share)
            raise
        return partial(self._give_back, whose, share)

    def _give_back(self, whose: str, share: _Share) -> None:
        self._all.release()
        share.turns.release()
        self._leave(whose, share)

    def _leave(self, whose: str, share: _Share) -> None:
        share.users -= 1
        if not share.users:
            del self._shares[whose]

    def _too_many(self) -> TooManyRequests:
        return TooManyRequests(
            f"{self._of_one} queries of yours run already (analytics.query.max_concurrent_per_key); ask for less at "
            "once.",
            kind="too-many-queries",
            title="too many queries at once",
            retry_after=QUEUE_TIME,
        )


async def _wait(turns: asyncio.Semaphore, refusal: Callable[[], Problem]) -> None:
    if not turns.locked():
        await turns.acquire()  # at once, without a timer
        return
    try:
        async with asyncio.timeout(QUEUE_TIME):
            await turns.acquire()
    except TimeoutError:
        raise refusal() from None


def _overloaded() -> Unavailable:
    return Unavailable("Too many queries are running; try again shortly.", kind="overloaded")
