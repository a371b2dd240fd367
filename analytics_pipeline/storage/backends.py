"""Ending server processes that stand in the way of landing, and nothing else.

A process that is stopped in the middle of COPY keeps its rows and locks: no timeout ends it, because Postgres
acts on no cancel while it waits for COPY data. Only `pg_terminate_backend` does.
Only connections whose application name begins with `analytics-landing` are ever ended.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg
import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.storage.connection import Connection, connection

PREFIX = "analytics-landing"
BLOCKER_AGE = timedelta(seconds=2)
STUCK_AGE = timedelta(seconds=5)

_log = structlog.get_logger(__name__)

_END_BLOCKERS = """
SELECT other.pid, pg_terminate_backend(other.pid)
FROM unnest(pg_blocking_pids(%(pid)s)) AS blocking (pid)
INNER JOIN pg_stat_activity AS other ON other.pid = blocking.pid
WHERE starts_with(other.application_name, %(prefix)s) AND other.application_name <> %(own)s
    AND other.xact_start < clock_timestamp() - %(age)s
"""
_END_STUCK = """
SELECT other.pid, pg_terminate_backend(other.pid)
FROM pg_stat_activity AS other
WHERE starts_with(other.application_name, %(prefix)s) AND other.datname = current_database()
    AND (
        (other.state = 'active' AND other.query_start < clock_timestamp() - %(age)s)
        OR (starts_with(other.state, 'idle in transaction') AND other.state_change < clock_timestamp() - %(age)s)
    )
"""
_WHO = "SELECT pg_backend_pid(), backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END = """
SELECT pg_terminate_backend(other.pid, %(milliseconds)s::bigint)
FROM pg_stat_activity AS other WHERE other.pid = %(pid)s AND other.backend_start = %(started)s
"""
_IS_THERE = (
    "SELECT FROM pg_stat_activity AS other WHERE other.pid = %(pid)s AND other.backend_start = %(started)s"
)
_PATIENCE = timedelta(seconds=5)
_INTERVAL = 0.5


class Backend(NamedTuple):
    """One server process; pids are used again, therefore the start time."""

    pid: int
    started: datetime


def backend_of(connection: Connection) -> Backend:
    """The server process behind a connection."""
    row = connection.execute(_WHO).fetchone()
    assert row is not None
    return Backend(*row)


def end_stuck(connection: Connection) -> list[int]:
    """End landing connections that did nothing for 5 s inside a transaction; return their pids.

    Their own timeouts (4 s) would have ended them, unless they wait for COPY data that never comes.
    """
    rows = connection.execute(_END_STUCK, {"prefix": PREFIX, "age": STUCK_AGE}).fetchall()
    return [pid for pid, _ in rows]


def end_and_wait(connection: Connection, backend: Backend) -> None:
    """End one server process and wait until it is gone: what it did is then decided.

    `connection` is left without a transaction.

    Raises:
        EnvironmentFault: it is still there after 5 s.
    """
    which = {**backend._asdict(), "milliseconds": _PATIENCE / timedelta(milliseconds=1)}
    connection.rollback()
    connection.execute(_END, which)
    connection.commit()  # the view of activity is frozen within a transaction
    is_there = connection.execute(_IS_THERE, which).fetchone() is not None
    connection.commit()
    if is_there:
        raise EnvironmentFault(f"the server process {backend.pid} does not end; look at what it waits for")


@contextmanager
def blockers_ended(conninfo: str, pid: int, own_name: str) -> Iterator[None]:
    """While the block runs, end landing connections of other processes that it waits for longer than 2 s.

    Args:
        conninfo: for a connection of its own, opened only when the block takes long.
        pid: the server process of the connection that the block uses.
        own_name: application name of this process, whose connections are spared.
    """
    done = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(done, conninfo, pid, own_name), name="blockers", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(done: threading.Event, conninfo: str, pid: int, own_name: str) -> None:
    if done.wait(_INTERVAL):
        return
    question = {"pid": pid, "own": own_name, "prefix": PREFIX, "age": BLOCKER_AGE}
    try:
        with connection(conninfo, name="watchdog", autocommit=True, statement_timeout="4s") as opened:
            while True:
                for blocker, _ in opened.execute(_END_BLOCKERS, question):
                    _log.warning("ended a landing connection that blocked a claim", pid=blocker)
                if done.wait(_INTERVAL):
                    return
    except (EnvironmentFault, psycopg.Error) as error:
        _log.warning("blocking connections cannot be looked for", error=type(error).__name__)
