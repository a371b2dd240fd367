"""What Kafka's clients report of their own accord, in lines that can be read.

Belongs here: how often a kind of it is logged. Does not belong here: errors of what was asked (`kafka`).
"""

import threading
import time
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError

AGAIN = 10.0
"""Seconds until the same kind is logged again: a client reports each try to reach each broker."""

_log = structlog.get_logger(__name__)


class Troubles:
    """Takes the errors of any number of clients, from any thread; a kind is an error code."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[int, float] = {}
        self._left_out: dict[int, int] = {}

    def __call__(self, error: KafkaError) -> None:
        """Log it, unless its kind was logged a moment ago; the next line says how many were left out."""
        kind, now = error.code(), self._clock()
        with self._lock:
            if now - self._logged.get(kind, -AGAIN) < AGAIN:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return
            self._logged[kind] = now
            left_out = self._left_out.pop(kind, 0)
        _log.warning("Kafka is in trouble", code=error.name(), detail=error.str(), left_out=left_out)
