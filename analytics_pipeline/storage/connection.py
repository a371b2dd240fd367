"""Connections to Postgres and what their errors mean.

Belongs here: how to connect, application names, SQLSTATE classes, advisory lock numbers.
Does not belong here: any statement about the product's tables.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import EnvironmentFault

Connection = psycopg.Connection[Any]

_PROBE = 1.0
"""Seconds for which a server that gave no connection is tried for a sign of life."""
_NOBODY_ANSWERS = (
    "check database.host and database.port (or database.url), or start it: `analytics up`, where embedded"
)
_REFUSED = "check database.user, database.password or database.password_file, and database.database (or database.url)"


class Unreachable(EnvironmentFault):
    """Postgres gives no connection.

    Attributes:
        sentence: what libpq says, without what to do about a server that the settings name.
    """

    def __init__(self, sentence: str, advice: str) -> None:
        super().__init__(f"{sentence}: {advice}" if advice else sentence)
        self.sentence = sentence


class Lock(IntEnum):
    """First key of the two-key advisory locks; the second is the hour, the day or 0."""

    FLOOR = 25001
    """Shared by landings, exclusive while retention raises `raw_floor`; second key 0."""
    HOUR = 25002
    """One merge or recompute of a UTC hour at a time; second key = hours since 1970."""
    DAY = 25003
    """Writers of one UTC day's 1d row; second key = days since 1970."""
    MAINTENANCE = 25004
    """Creating and dropping partitions; second key 0."""
    MIGRATION = 25005
    """Applying migrations; second key 0."""
    RETENTION = 25006
    """Removing expired partitions, by the asset or by `cleanup_old_data()`; second key 0."""
    STATISTICS = 25007
    """Folding source statistics into their hours; second key 0."""
    RESTATEMENTS = 25008
    """Shared by transactions that write the feed; second key = the last id that was given before they began to."""
    SOURCE = 25009
    """Noting where the partitions of a source begin; second key = hash of its name."""
    MEASURING = 25010
    """Telling how the database and the books are, in series; second key 0."""
    SERIES = 25031
    """Admitting series of one UTC day; second key = days since 1970."""
    IMPORT = 25042
    """Importing the original's history; second key 0 for the one import that runs, 1 for each of its transactions."""


def connect(conninfo: str, *, name: str, autocommit: bool = False, **settings: str) -> Connection:
    """Open a connection in UTC.

    Args:
        conninfo: libpq connection string.
        name: the role of the connection, shown as `analytics-<name>` in `pg_stat_activity`.
        autocommit: whether statements commit by themselves.
        settings: server settings of the session, such as `statement_timeout="4s"`.

    Raises:
        Unreachable: the server cannot be reached or refuses.
    """
    try:
        return psycopg.connect(
            make_conninfo(
                conninfo, application_name=f"analytics-{name}", options=session_options(**settings)
            ),
            autocommit=autocommit,
        )
    except psycopg.OperationalError as error:
        raise Unreachable(f"Postgres cannot be reached: {_first_line(error)}", _advice(error)) from error


def session_options(**settings: str) -> str:
    """Server settings of a session in UTC, as libpq's `options` has them; values with their spaces escaped."""
    return " ".join(f"-c {key}={value}" for key, value in {"timezone": "UTC", **settings}.items())


@contextmanager
def connection(
    conninfo: str, *, name: str, autocommit: bool = False, **settings: str
) -> Iterator[Connection]:
    """`connect` as a context that closes."""
    opened = connect(conninfo, name=name, autocommit=autocommit, **settings)
    try:
        yield opened
    finally:
        opened.close()


def is_data_error(error: psycopg.Error) -> bool:
    """Whether the rows are to blame: classes 22 and 23, but not a missing partition (23514)."""
    state = error.sqlstate or ""
    return state[:2] in {"22", "23"} and state != "23514"


def is_retryable(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed next time: deadlock or serialization failure."""
    return error.sqlstate in {"40P01", "40001"}


def _advice(error: psycopg.OperationalError) -> str:
    """Which settings to look at; none where the server is there and says itself what it is.

    A connection that fails has no SQLSTATE, but it is known whether a password was asked for.
    """
    failed = error.pgconn
    if failed is None:  # the host's name is unknown
        return _NOBODY_ANSWERS
    if failed.used_password or failed.needs_password:
        return _REFUSED
    return "" if _listens(failed.host.decode(), failed.port.decode()) else _NOBODY_ANSWERS


def _listens(host: str, port: str) -> bool:
    """Whether somebody takes connections there; a `host` that begins with a slash is a folder of Unix sockets."""
    try:
        if host.startswith("/"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_PROBE)
                probe.connect(f"{host}/.s.PGSQL.{port}")
        else:
            socket.create_connection((host, int(port)), _PROBE).close()
    except (OSError, ValueError):
        return False
    return True


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
