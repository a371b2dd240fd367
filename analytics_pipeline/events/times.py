"""Times on the wire: strict ISO 8601 with a zone, to the microsecond.

Belongs here: reading and writing one time. Does not belong here: deciding whether it is too old.
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.reasons import Reason

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_EXTENDED = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?([Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)
_LEAP_SECOND = re.compile(r"\d\d:\d\d:60")


def parse_time(text: object) -> datetime:
    """Read a time; more than six decimals are rounded to microseconds.

    Besides RFC 3339 the forms without seconds, with a comma, and with zones like `+02` are read.

    Raises:
        Rejected: `bad_timestamp`.
    """
    found = _EXTENDED.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise _bad("a date and time in ISO 8601 with a zone is needed, like 2024-05-01T12:00:00.123Z")
    day, minute, seconds, fraction, zone = found.groups()
    if fraction and not seconds:
        raise _bad("fractions of a minute are not read")
    zone = zone if len(zone) != 3 else f"{zone}:00"
    plain = f"{day}T{minute}{seconds or ':00'}.{fraction or '0'}{zone}"
    try:
        return msgspec.convert(plain, datetime)
    except msgspec.ValidationError:
        leap = _LEAP_SECOND.search(plain) is not None
        raise _bad("leap seconds cannot be stored" if leap else "there is no such date or time") from None


def micros(time: datetime) -> int:
    """Microseconds since 1970; exact, also where UTC would leave the years 1 to 9999."""
    return (time - EPOCH) // MICROSECOND


def from_micros(value: int) -> datetime:
    """The opposite of `micros`, in UTC."""
    return EPOCH + timedelta(microseconds=value)


def format_time(time: datetime) -> str:
    """`2024-05-01T12:00:00.123456Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _bad(detail: str) -> Rejected:
    return Rejected(Reason.BAD_TIMESTAMP, detail, "$.timestamp")
