"""Questions answered without a running API: by the same code, over one connection, for who sees everything.

Belongs here: what a route does between a query string and its answer. Does not belong here: what questions mean
(`metrics`, `events`), the cache, keys.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import orjson
import psycopg
from psycopg.conninfo import make_conninfo

from analytics_pipeline.events.reach import EVERYTHING
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import session_options
from api.database import Connection, guarded, read_settings
from api.events.listing import EventList, read_event_list
from api.events.reading import EventReader
from api.metrics.service import MetricService

if TYPE_CHECKING:
    from analytics_pipeline.rollups.catalog import Catalog


class Direct:
    """Answers questions of one moment.

    Args:
        settings: of the product.
        now: the moment; whole seconds, as in the API.
    """

    def __init__(self, settings: Settings, now: datetime) -> None:
        self._settings = settings
        self._now = now.replace(microsecond=0)

    async def metrics(self, query_string: bytes, catalog: "Catalog") -> bytes:
        """What GET `/api/v1/metrics` answers where there are the metrics of this catalog.

        Raises:
            Problem: as there.
        """
        from api.metrics.endpoints import question  # needs the catalog, which lists of events do not

        query = self._settings.analytics.query
        async with self._line() as (line, versions):
            asked = question(
                query_string,
                self._now,
                EVERYTHING,
                max_points=query.max_points,
                retention=self._settings.analytics.retention,
                catalog=lambda: catalog,
                versions_of=versions.of,
            )
            return (await asked.ask(line)).fresh

    async def events(self, query_string: bytes) -> bytes:
        """What GET `/api/v1/events` answers, a page in JSON.

        Raises:
            Problem: as there.
        """
        wanted = self._list(query_string)
        async with self._reader() as reader:
            return orjson.dumps(await reader.page(wanted), option=orjson.OPT_UTC_Z)

    async def export(self, query_string: bytes) -> AsyncIterator[bytes]:
        """What it streams in another format: all events that fit, piece by piece.

        Raises:
            Problem: as there.
        """
        wanted = self._list(query_string)
        async with self._reader() as reader:
            async for piece in reader.stream(wanted):
                yield piece

    def _list(self, query_string: bytes) -> EventList:
        query = self._settings.analytics.query
        return read_event_list(
            query_string, now=self._now, default_limit=query.default_limit, max_results=query.max_results
        )

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[EventReader]:
        async with self._line() as (line, versions):
            yield EventReader(line, self._settings.analytics.query.max_scanned, versions)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[tuple["_Line", MetricService]]:
        conninfo = make_conninfo(
            self._settings.database.conninfo(),
            application_name="analytics-query",
            options=session_options(**read_settings(self._settings)),
        )
        async with guarded(), await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as opened:
            versions = MetricService()
            await versions.reload(opened)
            yield _Line(opened), versions


class _Line:
    """A `Reader` with one connection."""

    def __init__(self, opened: Connection) -> None:
        self._opened = opened

    @asynccontextmanager
    async def read(self, _query: str, /) -> AsyncIterator[Connection]:
        """The connection."""
        async with guarded():
            yield self._opened
