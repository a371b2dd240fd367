"""Asking again: what is worth it, how long to wait, and when it is enough.

Belongs here: these decisions, pure. Does not belong here: waiting (`transport`), and sending events again (`producer`).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from b25_client.backoff import wait_before
from b25_client.errors import ApiError, StreamBroken, Unreachable
from b25_client.request import Request

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which a read is asked again; 500 is a defect and stays one."""

Failure = ApiError | httpx.RequestError
"""An answer that is an error, or none."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a read is asked again.

    Attributes:
        most: times beyond the first; 0 never asks again.
        longest: seconds of one wait: if the service asks for more, the error is raised at once and says so.
        random: from [0, 1).
    """

    most: int = 3
    longest: float = 30.0
    random: Callable[[], float] = random.random

    def attempts(self, request: Request[Any]) -> "Attempts":
        """Those of one request."""
        return Attempts(self, request)


class Attempts:
    """Counts the attempts of one request."""

    def __init__(self, retries: Retries, request: Request[Any]) -> None:
        self._retries = retries
        self._left = retries.most if request.may_repeat else 0
        self._made = 0

    def after(self, error: Failure, *, has_begun: bool = False) -> float:
        """Seconds to wait before the next attempt.

        Args:
            error: how the last one ended.
            has_begun: whether part of its answer was handed on.

        Raises:
            ApiError, Unreachable: there is no next attempt.
            StreamBroken: there cannot be one.
        """
        self._made += 1
        if has_begun:
            raise StreamBroken(f"the answer broke off ({type(error).__name__}): it is not whole") from error
        asked = error.retry_after if isinstance(error, ApiError) else None
        if self._left and is_passing(error) and (asked is None or asked <= self._retries.longest):
            self._left -= 1
            return wait_before(self._made, asked, self._retries.random)
        if isinstance(error, ApiError):
            raise error
        raise unreachable(error, self._made) from error


def is_passing(error: Failure) -> bool:
    """Whether the same request may succeed later."""
    return not isinstance(error, ApiError) or error.status in AGAIN


def unreachable(error: httpx.RequestError, attempts: int) -> Unreachable:
    """Nobody answered."""
    times = f" to {attempts} attempts" if attempts > 1 else ""
    return Unreachable(f"no answer{times} ({type(error).__name__})")
