"""Telling once a minute how large tables are: on a connection of its own, so that nothing waits for it.

Belongs here: when, and the series. Does not belong here: the statements (`storage.sizes`).
"""

import threading

import psycopg
import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.sizes import Sizes, sizes
from analytics_pipeline.telemetry import RETENTION_OVERDUE, TABLE_BYTES

_log = structlog.get_logger(__name__)

_INTERVAL = 60.0


def run(settings: Settings, conninfo: str, stop: threading.Event) -> None:
    """Measure now and every minute until stopped."""
    known: set[str] = set()
    while True:
        try:
            with connection(
                conninfo, name="sizes", autocommit=True, statement_timeout="10s", lock_timeout="1s"
            ) as opened:
                found = sizes(opened, dagster_schema=settings.dagster.schema_name)
            known |= found.families.keys()
            tell(found, known, is_cleaned=settings.analytics.retention.cleanup_enabled)
        except (EnvironmentFault, psycopg.Error) as error:
            _log.debug("tables were not measured", reason=type(error).__name__)
        if stop.wait(_INTERVAL):
            return


def tell(found: Sizes, known: set[str], *, is_cleaned: bool) -> None:
    """Set the series; a family that is gone has no bytes, and what nobody should remove is not overdue."""
    for family in known:
        TABLE_BYTES.labels(family).set(found.families.get(family, 0))
    RETENTION_OVERDUE.set(found.overdue if is_cleaned else 0)
