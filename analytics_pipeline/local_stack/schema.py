"""Bringing a database to what this program needs: migrations, policies, partitions, Dagster's own schema.

Belongs here: the order of these steps, for `up` and for `analytics migrate`. Does not belong here: any of the steps.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.dagster_schema import create_dagster_schema
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from analytics_pipeline.storage.retention import write_policies


def bring_up_to_date(
    settings: Settings, tell: Callable[[str], None] = lambda _words: None
) -> tuple[list[str], int]:
    """Apply missing migrations, create missing partitions; return the migrations' names and how many partitions.

    Args:
        settings: name the database.
        tell: is given what is done next.

    Raises:
        AnalyticsError: the database cannot be reached, or isn't one this program may change.
    """
    with connection(settings.database.conninfo(), name="migrate") as opened:
        applied = [migration.name for migration in migrate(opened, tell=tell)]
        opened.commit()
        create_dagster_schema(opened, settings.dagster.schema_name)
        write_policies(opened, settings.analytics.retention)
    tell("creating partitions")
    return applied, create_partitions(settings)


def create_partitions(settings: Settings) -> int:
    """Create partitions from the raw retention line to `partitions_ahead` days ahead; return how many."""
    retention = settings.analytics.retention
    with connection(settings.database.conninfo(), name="maintain") as opened:
        return ensure_partitions(
            opened, now=datetime.now(UTC), keep=retention.raw_events, ahead_days=retention.partitions_ahead
        )
