"""Waiting for a condition, with a time limit: tests never sleep for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_SHORTEST, _LONGEST = 0.02, 0.1
_SHARE = 0.1


def wait_for(condition: Callable[[], Value], timeout: float = 10.0, message: str = "") -> Value:
    """Ask until `condition()` is truthy and return what it returned; fail after `timeout` seconds.

    The longer it takes, the less often it asks: asking costs whoever is waited for as much as work does.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        assert waited < timeout, f"{message or condition!r}: not within {timeout} s; last: {value!r}"
        time.sleep(min(max(_SHORTEST, waited * _SHARE), _LONGEST))
    return value
