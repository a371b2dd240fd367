"""Waiting for a condition, with a time limit: tests never sleep for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_INTERVAL = 0.02


def wait_for(condition: Callable[[], Value], timeout: float = 10.0, message: str = "") -> Value:
    """Ask until `condition()` is truthy and return what it returned; fail after `timeout` seconds."""
    limit = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < limit, f"{message or condition!r}: not within {timeout} s; last: {value!r}"
        time.sleep(_INTERVAL)
    return value
