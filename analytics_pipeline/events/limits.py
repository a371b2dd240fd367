"""What an event may be at most, from the settings; the same for Kafka and POST."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.times import MICROSECOND, format_time
from analytics_pipeline.settings import Settings, write_duration

MAX_DEPTH = 100
"""Levels of nesting, the event itself included."""
MAX_TEXT = 255
"""Characters of event_type, user_id and session_id."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of size and time.

    `max_*` hold for types without a definition, `custom_max_*` for types with one. `max_property_bytes`
    bounds each name, each string (UTF-8 bytes) and each other value (bytes of its compact JSON).
    """

    strict: bool = False
    strict_types: bool = False
    max_properties: int = 50
    max_property_bytes: int = 1024
    custom_max_properties: int = 50
    custom_max_property_bytes: int = 1024
    max_future_skew: timedelta = timedelta(minutes=5)
    raw_retention: timedelta = timedelta(days=90)
    grace: timedelta = timedelta(seconds=30)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings state."""
        ingestion, custom = settings.analytics.ingestion, settings.custom_events
        return cls(
            strict=ingestion.strict,
            strict_types=custom.enabled and custom.strict,
            max_properties=ingestion.max_properties,
            max_property_bytes=ingestion.max_property_bytes,
            custom_max_properties=custom.max_properties,
            custom_max_property_bytes=custom.max_property_size,
            max_future_skew=ingestion.max_future_skew,
            raw_retention=settings.analytics.retention.raw_events,
            grace=settings.analytics.aggregation.grace,
        )

    def of_properties(self, is_custom: bool) -> tuple[int, int]:
        """(most keys, most bytes of a name or value) for a type with or without a definition."""
        if is_custom:
            return self.custom_max_properties, self.custom_max_property_bytes
        return self.max_properties, self.max_property_bytes

    def oldest(self, now: datetime) -> datetime:
        """The raw retention line: days are kept whole, so it is the start of a UTC day."""
        line = (now - self.raw_retention).astimezone(UTC)
        return line.replace(hour=0, minute=0, second=0, microsecond=0)

    def latest(self, now: datetime) -> datetime:
        """The last time that is not too far in the future."""
        return now + self.max_future_skew


def too_old(oldest: datetime) -> Rejected:
    """The refusal of an event from before `oldest`."""
    line = format_time(oldest).removesuffix("T00:00:00.000000Z")
    return Rejected(
        Reason.TOO_OLD, f"older than raw events are kept, which is from {line} on (UTC)", "$.timestamp"
    )


def too_far_in_future(ahead: int, limits: Limits) -> Rejected:
    """The refusal of an event so many microseconds ahead of the clock; they are told in whole seconds, rounded up."""
    seconds = timedelta(seconds=-(-ahead * MICROSECOND // timedelta(seconds=1)))
    allowed = write_duration(limits.max_future_skew)
    return Rejected(
        Reason.TOO_FAR_IN_FUTURE,
        f"more than max_future_skew, {allowed}, ahead of the clock: by {write_duration(seconds)}",
        "$.timestamp",
    )
