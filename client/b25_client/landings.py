"""What became of posted events: read your writes.

Belongs here: landing tokens and their answers. Does not belong here: posting (`producer`: its results
have the tokens).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from b25_client.errors import NotLanded
from b25_client.request import Answer, Request, path_of

LONGEST_WAIT = 30
"""Seconds that the service waits at most before it answers."""


@dataclass(frozen=True, slots=True)
class LandingException:
    """An event that was not stored by its request.

    Attributes:
        position: among the accepted events of the request, from 0.
        reason: why it is a dead letter; None for a duplicate.
    """

    position: int
    outcome: Literal["duplicate", "dead"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """What became of the events of one request; all of them land in one transaction.

    Attributes:
        events: accepted by the request; once landed, `stored` + `duplicate` + `dead`.
        exceptions: those that were not stored.
    """

    landing: str
    has_landed: bool
    events: int
    stored: int
    duplicate: int
    dead: int
    exceptions: tuple[LandingException, ...] = ()


def landing_request(landing: str, wait: int = 0) -> Request[Landing]:
    """Ask what became of a landing token's events, and let the service wait for it, in seconds.

    Raises:
        ValueError: `wait` is out of its bounds.
    """
    if not 0 <= wait <= LONGEST_WAIT:
        raise ValueError(f"wait: whole seconds, at most {LONGEST_WAIT}")
    path = path_of("api", "v1", "events", "landings", landing)
    return Request(path, _read, [("wait", str(wait))] if wait else [], takes=wait)


class LandingWait:
    """Waiting for one token, in as many requests as it takes."""

    def __init__(self, landing: str, timeout: float, clock: Callable[[], float]) -> None:
        self._landing, self._timeout, self._clock = landing, timeout, clock
        self._until = clock() + timeout
        self._has_asked = False

    def request(self) -> Request[Landing]:
        """The next request.

        Raises:
            NotLanded: the time is up.
        """
        left = max(0.0, self._until - self._clock())
        if not left and self._has_asked:
            raise NotLanded(f"not landed within {self._timeout:g} s")
        self._has_asked = True
        return landing_request(self._landing, min(LONGEST_WAIT, math.ceil(left)))


def _read(answer: Answer) -> Landing:
    content = answer.json()
    return Landing(
        content["landing"],
        content["state"] == "landed",
        content["events"],
        content["stored"],
        content["duplicate"],
        content["dead"],
        tuple(
            LandingException(item["position"], item["outcome"], item.get("reason"))
            for item in content["exceptions"]
        ),
    )
