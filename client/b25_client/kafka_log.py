"""What librdkafka has to say, through Python's logging.

Belongs here: how often the same is said. Does not belong here: what became of events (`kafka`).

librdkafka reports each failed connection, several a second while a broker is away. Each kind is logged once, and again
after a while. Programs that do not set logging up see nothing on stderr: what matters comes with each `Result`.
"""

import logging
import re
import time
from collections.abc import Callable
from typing import Any

AGAIN = 300.0
"""Seconds after which the same is logged again."""
_MOST_KINDS = 100
_DIFFERS = re.compile(r"\(after .*\)|\d+ms|\d+ bytes")
"""What differs between two lines of a kind."""

_log = logging.getLogger("b25_client.kafka")
_log.addHandler(logging.NullHandler())


class LibrdkafkaLog:
    """Takes the lines of one librdkafka client, which calls `log`; the calls come from one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}

    def log(self, level: int, form: str, *arguments: Any) -> None:
        """As `logging.Logger.log`."""
        kind = _DIFFERS.sub("", form % arguments)
        now = self._clock()
        if now - self._logged.get(kind, -AGAIN) < AGAIN:
            return
        if len(self._logged) >= _MOST_KINDS:
            self._logged.clear()
        self._logged[kind] = now
        _log.log(level, form, *arguments)
