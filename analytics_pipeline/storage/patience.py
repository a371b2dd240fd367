"""Waiting for a lock that others hold: for a moment, again and again, because who comes later waits behind us.

Belongs here: the tries, and the error when they were in vain. Does not belong here: what the lock is for.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.storage.connection import Connection

T = TypeVar("T")

ATTEMPTS = 25
_PAUSE_SECONDS = 0.05


class Held(EnvironmentFault):
    """Others hold what a step needs; the next run continues with this step."""


def patiently(connection: Connection, work: Callable[[], T], what: str) -> T:
    """Run `work` in a transaction that waits 200 ms for a lock, no more: so long do those behind it wait.

    Raises:
        Held: `what` stayed locked over all tries.
    """
    for attempt in range(ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '200ms'")
                return work()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            pause(attempt)
    raise Held(f"{what} stayed locked by others; find the long query that holds it")


def pause(attempt: int) -> None:
    """Between two tries, longer each time."""
    time.sleep(_PAUSE_SECONDS * attempt)
