"""Looking after landing from outside: ending its connections, of any process, that are stuck inside a transaction,
and noting what waits and how many series there are.

Belongs here: what every process may do for all, with a connection of its own. Does not belong here: the partitions of
this process (`freshness`).
"""

import itertools
import threading

import psycopg
import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest import accounts
from analytics_pipeline.storage import books, series
from analytics_pipeline.storage.backends import end_stuck
from analytics_pipeline.storage.connection import connection

_log = structlog.get_logger(__name__)

_INTERVAL = 1.0
_NOTE_EVERY = 3


def run(conninfo: str, stop: threading.Event) -> None:
    """Look every second until stopped."""
    while not stop.wait(_INTERVAL):
        try:
            with connection(conninfo, name="watchdog", autocommit=True, statement_timeout="4s") as opened:
                for number in itertools.count():
                    if stop.wait(_INTERVAL):
                        return
                    if number % _NOTE_EVERY == 0:
                        accounts.waiting(books.waiting(opened))
                        accounts.places(series.taken_today(opened))
                    if ended := end_stuck(opened):
                        _log.warning("ended stuck landing connections", pids=ended)
        except (EnvironmentFault, psycopg.Error) as error:
            _log.debug("the watchdog has no connection", reason=type(error).__name__)
