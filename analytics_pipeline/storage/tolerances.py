"""From when on something is too late, too little or too much.

Belongs here: the numbers that Dagster's checks, `/api/v1/pipeline` and `analytics doctor` judge by alike.
Does not belong here: judging, and what is configured (`settings`).
"""

from datetime import timedelta

LATE_SECONDS = 300.0
"""That something may have waited to be landed or merged."""
VERY_LATE_SECONDS = 600.0
"""Then a person is needed."""
INBOX_SECONDS = 60.0
"""That a posted event may wait to be landed."""
UNOWNED_SECONDS = 30.0
"""That a partition may be without a process that reads it: longer than a restart or a rebalance takes."""
KAFKA_SECONDS = 15.0
"""That Kafka may answer ingest nothing: longer than a broker takes to be replaced by another."""
SILENT_SECONDS = 180.0
"""That Dagster's daemon may say nothing."""
VERY_SILENT_SECONDS = 600.0
"""Then a person is needed: when the alert rings, too."""
DAYS_AHEAD = 2.0
"""For which events must have a partition to land in."""
DEAD_RATIO = 0.05
"""Of the messages of `DEAD_WINDOW` that may be dead letters."""
DEAD_WINDOW = timedelta(hours=1)
RETENTION_SECONDS = 3 * 86_400.0
"""That a partition may be there after it should have been removed."""
