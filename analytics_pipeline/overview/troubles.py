"""What is wrong with the pipeline, for the screen: the same as the API says.

Belongs here: how often it is asked, and what it needs beside Postgres. Does not belong here: the questions
(`storage.troubles`).
"""

import time
from collections.abc import Callable
from datetime import datetime

import psycopg
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.definitions import load_catalog
from analytics_pipeline.storage.problems import Problem
from analytics_pipeline.storage.troubles import look

_EVERY = 5.0
"""Seconds: it reads the ledger of an hour."""
_STATEMENT_TIME = "4s"
_REDIS_TIME = 1.0


class Reader:
    """Asks on a connection of its own, so that a slow answer takes nothing from the rest of the screen.

    Args:
        settings: of the installation.
        clock: monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._opened: Connection | None = None
        self._known: list[Problem] = []
        self._asks_at = clock()

    def read(self, now: datetime) -> list[Problem]:
        """Those of the last seconds.

        Raises:
            EnvironmentFault, psycopg.Error: Postgres.
        """
        if self._clock() < self._asks_at:
            return self._known
        try:
            opened = self._connection()
            catalog = load_catalog(opened, is_custom_enabled=self._settings.custom_events.enabled)
            found = look(opened, self._settings, catalog, now, is_cache_down=self._is_cache_down())
        except (psycopg.Error, AnalyticsError):
            self.close()
            raise
        self._known, self._asks_at = found.problems, self._clock() + _EVERY
        return self._known

    def close(self) -> None:
        """Disconnect."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _connection(self) -> Connection:
        if self._opened is None:
            conninfo = self._settings.database.conninfo()
            self._opened = connect(conninfo, name="top", autocommit=True, statement_timeout=_STATEMENT_TIME)
        return self._opened

    def _is_cache_down(self) -> bool:
        settings = self._settings.redis
        if not settings.enabled:
            return False
        try:
            with Redis(
                **settings.address(),
                socket_timeout=_REDIS_TIME,
                socket_connect_timeout=_REDIS_TIME,
                retry=Retry(NoBackoff(), 0),
            ) as client:
                return not client.ping()
        except (RedisError, OSError):
            return True
