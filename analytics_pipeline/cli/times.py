"""Times on the command line: read from options, written for people.

Belongs here: one time. Does not belong here: which range a command works on (the commands).
"""

from datetime import UTC, datetime
from typing import overload

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings import parse_duration


@overload
def moment(text: str, option: str) -> datetime: ...
@overload
def moment(text: None, option: str) -> None: ...
def moment(text: str | None, option: str) -> datetime | None:
    """A time with its zone, or an age before now; in UTC.

    Raises:
        ConfigurationError: neither.
    """
    if text is None:
        return None
    try:
        return datetime.now(UTC) - parse_duration(text)
    except OverflowError:
        raise ConfigurationError(f"{option}: {text!r} is outside the calendar") from None
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option}: {text!r} is no time and no age: give a time with its zone, like 2026-05-15T12:00Z, or an age, "
            "like 24h or 7d"
        ) from None
    if found.tzinfo is None:
        raise ConfigurationError(f"{option}: {text!r} has no zone: give it one, like 2026-05-15T12:00Z")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{option}: {text!r} is outside the calendar") from None


def is_age(text: str) -> bool:
    """Whether a moment is written as an age before now."""
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


def ago(age: str, option: str) -> datetime:
    """The whole second an age before now.

    Raises:
        ConfigurationError: it is no age.
    """
    try:
        return datetime.now(UTC).replace(microsecond=0) - parse_duration(age)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{option}: write a duration with its unit, like 15m, 24h or 7d") from None


def iso(at: datetime, precision: str = "auto") -> str:
    """A time in UTC as the API writes it: `Z`, and so much of the second as there is, or as `timespec` says."""
    return at.isoformat(timespec=precision).replace("+00:00", "Z")


def to_second(at: datetime | None, missing: str = "–") -> str:
    """A time in UTC for people; `missing` where there is none."""
    return missing if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"
