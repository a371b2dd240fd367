"""The active definitions in this process, compiled, so that POST can judge at once; and the metrics they bring along.

Belongs here: keeping them up to date. Does not belong here: judging (`analytics_pipeline.events.definitions`).
"""

import asyncio

import structlog

from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions, compile_all
from analytics_pipeline.rollups.automatic import with_automatic
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from api.custom_events.repository import active_definitions
from api.database import Connection

_log = structlog.get_logger()


class ActiveDefinitions:
    """A snapshot, replaced as a whole when the database says that one changed."""

    def __init__(self, *, is_enabled: bool) -> None:
        self._is_enabled = is_enabled
        self._current = NO_DEFINITIONS
        self._catalog = BUILT_IN

    def current(self) -> Definitions:
        """The newest known snapshot."""
        return self._current

    def catalog(self) -> Catalog:
        """The metrics that go with it."""
        return self._catalog

    async def reload(self, connection: Connection) -> None:
        """Read and compile them again."""
        if not self._is_enabled:
            return
        rows = await active_definitions(connection)
        self._current, problems = await asyncio.to_thread(compile_all, rows, self._current)
        for problem in problems:
            _log.error("custom_event_definition_ignored", detail=problem)
        self._catalog, _ = with_automatic(self._current.schemas)
