"""Partitions of the rollup assets: UTC hours and UTC days, the running one included.

Belongs here: the definitions, and how times become keys and back. Never minute partitions: a year of them is half
a million keys. Does not belong here: partitions of Postgres (`storage.partitions`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from analytics_pipeline.errors import ConfigurationError

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The first hour and day; fixed, because moving it renames nothing but hides what lies before. So it is not the line of
raw retention either: that moves each day, and days before it are materialized from their archives."""

HOUR_FORMAT = "%Y-%m-%d-%H:%M"
DAY_FORMAT = "%Y-%m-%d"

HOURLY = dg.HourlyPartitionsDefinition(start_date=START, timezone="UTC", fmt=HOUR_FORMAT, end_offset=1)
DAILY = dg.DailyPartitionsDefinition(start_date=START, timezone="UTC", fmt=DAY_FORMAT, end_offset=1)


def hour_key(at: datetime) -> str:
    """Key of the hour that holds a time."""
    return at.astimezone(UTC).replace(minute=0).strftime(HOUR_FORMAT)


def day_key(at: datetime) -> str:
    """Key of the UTC day that holds a time."""
    return at.astimezone(UTC).strftime(DAY_FORMAT)


def chosen_hours(
    context: dg.AssetExecutionContext, definition: dg.TimeWindowPartitionsDefinition
) -> list[datetime]:
    """Starts of the hours of the partitions that a run is of, oldest first.

    Raises:
        ConfigurationError: it is of none, or of one that there is not.
    """
    first, last = definition.get_first_partition_key(), definition.get_last_partition_key()
    if not (context.has_partition_key or context.has_partition_key_range):
        raise ConfigurationError(
            f"no partition is chosen, so there is nothing to recompute: choose some from {first} to {last}"
        )
    chosen = context.partition_key_range
    for key in (chosen.start, chosen.end):
        if not definition.has_partition_key(key):
            raise ConfigurationError(f"there is no partition {key}: choose from {first} to {last}")
    return hours_in(context.partition_time_window)


def hours_in(window: dg.TimeWindow) -> list[datetime]:
    """Starts of the hours of a window, oldest first."""
    first, width = window.start.astimezone(UTC), timedelta(hours=1)
    return [first + n * width for n in range(int((window.end - window.start) / width))]
