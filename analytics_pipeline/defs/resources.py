"""Resources: they hand out plain connections and settings, opened when a body asks, never when definitions load.

Belongs here: what bodies need from outside. Does not belong here: any statement.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg

from analytics_pipeline import settings as configuration
from analytics_pipeline.rollups.catalog import Catalog
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.definitions import load_catalog


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The product's database and settings, as every other process of it sees them."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return configuration.settings()

    @property
    def conninfo(self) -> str:
        """Connection string of the product's database; it holds the password."""
        return self.settings.database.conninfo()

    @contextmanager
    def connection(self, name: str) -> Iterator[Connection]:
        """An autocommit connection, shown as `analytics-<name>`."""
        with connection(self.conninfo, name=name, autocommit=True) as opened:
            yield opened

    def catalog(self, connection: Connection) -> Catalog:
        """All metrics, those of custom event definitions included."""
        return load_catalog(connection, is_custom_enabled=self.settings.custom_events.enabled)

    def now(self) -> datetime:
        """The clock of all bodies, UTC."""
        return datetime.now(UTC)


RESOURCES = {"pipeline": Pipeline()}
