"""A range of time in run config, as a person writes it, and the hours it means.

Belongs here: reading and refusing ranges. Does not belong here: partitions of assets (`partitions`).
"""

from collections.abc import Collection
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.storage.backfill import whole_hours


class Range(dg.Config):
    """From and until when."""

    start: str = Field(default="", description="From the hour of this time on, such as 2026-05-15T12:00Z.")
    end: str = Field(default="", description="Before this time; now, where it is left out.")

    @property
    def is_given(self) -> bool:
        """Whether a person has named either end."""
        return bool(self.start or self.end)


def hours_of(asked: Range, now: datetime, *, begin: datetime | None = None) -> list[datetime]:
    """Starts of the UTC hours that the range touches, oldest first, at least one.

    Args:
        asked: the range.
        now: where a range without an end ends; none ends later.
        begin: where a range without a start starts; without it, it has to have one.

    Raises:
        ConfigurationError: the range is not one.
    """
    start = _time("start", asked.start) if asked.start or begin is None else begin
    end = min(now, _time("end", asked.end) if asked.end else now)
    if start >= end:
        raise ConfigurationError(
            f"start {asked.start or f'{start:%Y-%m-%dT%H:%MZ}'} is not before end {asked.end or 'now'}: there is "
            "nothing in between"
        )
    return whole_hours(start, end)


def told(hours: Collection[datetime]) -> str:
    """Hours in a few words."""
    first, last = min(hours), max(hours)
    count = f"{len(hours):,} hours" if len(hours) > 1 else "1 hour"
    return f"{count}, {first:%Y-%m-%dT%H:00Z}" + (f" to {last:%Y-%m-%dT%H:00Z}" if len(hours) > 1 else "")


def _time(name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ConfigurationError(f"{name} {text!r} is no time with a zone: write one like 2026-05-15T12:00Z")
