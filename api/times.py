"""Times of the API: RFC 3339 text in and out, and the starts of buckets.

Belongs here: parsing, formatting, rounding to buckets; everything in UTC, ranges half-open.
Does not belong here: which range a request asks for (`parameters`), or the clock (`dependencies`).
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone

from analytics_pipeline.events.times import EPOCH

LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Times outside [EPOCH, LATEST] are refused: no event can have them, and arithmetic near year 9999 overflows."""

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))"
)


def parse_time(text: str) -> datetime:
    """Read RFC 3339 with a zone, to the microsecond, as UTC.

    Raises:
        ValueError: with a sentence for the caller that does not repeat the text.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        if re.search(r" [0-9]{2}:[0-9]{2}$", text):
            raise ValueError("a plus sign in a query string is written %2B")
        raise ValueError("write RFC 3339 with a zone, like 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second, fraction, is_utc, sign, zone_hour, zone_minute = match.groups()
    offset = timedelta()
    if not is_utc:
        if int(zone_hour) > 23 or int(zone_minute) > 59:
            raise ValueError("the zone offset is not between -23:59 and +23:59")
        offset = timedelta(hours=int(zone_hour), minutes=int(zone_minute)) * (-1 if sign == "-" else 1)
    try:
        local = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second),
            int((fraction or "")[:6].ljust(6, "0")), timezone(offset),
        )  # fmt: skip
        at = local.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("there is no such date or time") from None
    if not EPOCH <= at <= LATEST:
        raise ValueError("times lie between the years 1970 and 2200")
    return at


def format_time(at: datetime) -> str:
    """RFC 3339 in UTC with `Z`; microseconds only where there are some."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def floor_time(at: datetime, seconds: int) -> datetime:
    """The start of the UTC bucket of this width that holds `at`; exact for widths that divide a day."""
    width = timedelta(seconds=seconds)
    return at - (at - EPOCH) % width


def ceil_time(at: datetime, seconds: int) -> datetime:
    """The first start of a bucket at or after `at`."""
    start = floor_time(at, seconds)
    return start if start == at else start + timedelta(seconds=seconds)


def days_of(start: datetime, end: datetime) -> tuple[date, date]:
    """First and last UTC day of the half-open range; every bucket of every level lies inside one day."""
    return start.date(), max(start, end - timedelta(microseconds=1)).date()


def format_duration(seconds: float) -> str:
    """A duration as the original wrote it: `61.1ms`, `1.5s`, `2m3.5s`, `1h0m2s`; `0s` for nothing."""
    nanoseconds = round(seconds * 1e9)
    if nanoseconds <= 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1_000:
            return f"{_trim(nanoseconds / size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_trim(rest / 1e9)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _trim(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")
