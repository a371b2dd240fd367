"""Giving a task up when a time is over: as `asyncio.timeout`, which costs three times as much.

Belongs here: the timer, and telling its end from any other cancellation. Does not belong here: how long anything may
take, and what is answered then (`edge`).
"""

import asyncio
from types import TracebackType
from typing import Any, Self


class TimeIsUp(Exception):
    """The block took too long; raised in its place."""


class Deadline:
    """A block of the current task that is cancelled at a time of the loop's clock, unless it ends or is let go first.

    Raises:
        TimeIsUp: by the block, when it was cancelled for that.
    """

    __slots__ = ("_is_over", "_task", "_timer")

    def __init__(self, until: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._is_over = task, False
        self._timer = asyncio.get_running_loop().call_at(until, self._end)

    def let_go(self) -> None:
        """From now on it may take as long as it takes."""
        self._timer.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # As `asyncio.timeout`: whoever else cancelled the task wins.
        if self._is_over and self._task.uncancel() <= 0 and isinstance(error, asyncio.CancelledError):
            raise TimeIsUp from None

    def _end(self, *_: Any) -> None:
        self._is_over = True
        self._task.cancel()
