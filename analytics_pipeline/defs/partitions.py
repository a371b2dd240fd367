"""Partitions of the rollup assets: UTC hours and UTC days, the running one included.

Belongs here: the definitions, and how times become keys and back. Never minute partitions: a year of them is half
a million keys. Does not belong here: partitions of Postgres (`storage.partitions`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The first hour and day; fixed, because moving it renames nothing but hides what lies before."""

_HOUR_FORMAT = "%Y-%m-%d-%H:%M"
_DAY_FORMAT = "%Y-%m-%d"

HOURLY = dg.HourlyPartitionsDefinition(start_date=START, timezone="UTC", fmt=_HOUR_FORMAT, end_offset=1)
DAILY = dg.DailyPartitionsDefinition(start_date=START, timezone="UTC", fmt=_DAY_FORMAT, end_offset=1)


def hour_key(at: datetime) -> str:
    """Key of the hour that holds a time."""
    return at.astimezone(UTC).replace(minute=0).strftime(_HOUR_FORMAT)


def day_key(at: datetime) -> str:
    """Key of the UTC day that holds a time."""
    return at.astimezone(UTC).strftime(_DAY_FORMAT)


def hours_in(window: dg.TimeWindow) -> list[datetime]:
    """Starts of the hours of a window, oldest first."""
    return _steps(window, timedelta(hours=1))


def days_in(window: dg.TimeWindow) -> list[datetime]:
    """Starts of the days of a window, oldest first."""
    return _steps(window, timedelta(days=1))


def _steps(window: dg.TimeWindow, width: timedelta) -> list[datetime]:
    first = window.start.astimezone(UTC)
    return [first + n * width for n in range(int((window.end - window.start) / width))]
