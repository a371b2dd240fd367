"""The product's code location, as if its first hour lay two years back and its first day ten.

Belongs here: that one change, before definitions load. Does not belong here: measuring (`benchmarks.dagster_ui`).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from analytics_pipeline.defs import partitions

_TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

HOURLY = dg.HourlyPartitionsDefinition(
    start_date=_TODAY - timedelta(days=730), timezone="UTC", fmt=partitions.HOUR_FORMAT, end_offset=1
)
DAILY = dg.DailyPartitionsDefinition(
    start_date=_TODAY - timedelta(days=3650), timezone="UTC", fmt=partitions.DAY_FORMAT, end_offset=1
)
partitions.HOURLY, partitions.DAILY = HOURLY, DAILY

from analytics_pipeline.definitions import definitions  # noqa: E402

__all__ = ["DAILY", "HOURLY", "definitions"]
