"""The clock that everything in the API is given, so that tests can stand still."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the running service."""
    return datetime.now(UTC)
