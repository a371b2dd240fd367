"""How long to wait after a failure that may pass by itself."""

from tenacity import RetryCallState, wait_exponential_jitter

_FIRST, _LONGEST, _JITTER = 0.2, 5.0, 0.2


class Backoff:
    """Waits that double from 0.2 s to 5 s, until `reset`."""

    def __init__(self) -> None:
        self._wait = wait_exponential_jitter(multiplier=_FIRST, max=_LONGEST, jitter=_JITTER)
        self.failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        self.failures += 1
        state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        state.attempt_number = self.failures
        return self._wait(state)

    def reset(self) -> None:
        """It works again."""
        self.failures = 0
