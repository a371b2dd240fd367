"""Databases of tests: copies of one that was migrated once.

Belongs here: making and dropping them, quickly, for nearly every test has one. Does not belong here: what is in them.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.local_stack.postgres import Postgres

_numbers = itertools.count(1)
_left: dict[str, list[str]] = defaultdict(list)
"""By server: databases of tests that are over. Dropped when the next is made: right after a test its sessions are still
ending, and Postgres looks for that ten times a second."""


def fresh_database(postgres: Postgres, template: str) -> Iterator[str]:
    """Connection string of a copy of a database to which nobody is connected; it is dropped later."""
    server = postgres.superuser_conninfo()
    name = f"test_{next(_numbers)}"
    method = _quickest(server)
    with psycopg.connect(server, autocommit=True) as connection:
        while _left[server]:
            _drop(connection, _left[server].pop())
        _copy(connection, template, name, postgres.user, method)
        yield make_conninfo(postgres.conninfo(), dbname=name)
    _left[server].append(name)


@contextmanager
def database_copy(postgres: Postgres, template: str, name: str) -> Iterator[str]:
    """A database for several tests that do not mind each other; connection string."""
    server = postgres.superuser_conninfo()
    method = _quickest(server)
    with psycopg.connect(server, autocommit=True) as connection:
        _copy(connection, template, name, postgres.user, method)
        yield make_conninfo(postgres.conninfo(), dbname=name)
        _drop(connection, name)


@cache
def _quickest(server: str) -> str | None:
    """The method of copying files that takes the least time here; None where Postgres knows none, before 18.

    Where the file system has files that share their blocks until one is written, a copy of 580 files takes 20 ms by
    `clone` and 80 by `copy`; where it has not, 600 and 80.
    """
    seconds: dict[str, float] = {}
    with psycopg.connect(server, autocommit=True) as connection:
        for method in ("copy", "clone"):
            name = f"copied_by_{method}"
            try:
                # The first copy of all also writes what was changed before.
                _copy(connection, "template1", name, None, method)
                _drop(connection, name)
                began = time.monotonic()
                _copy(connection, "template1", name, None, method)
            except psycopg.Error:
                continue
            seconds[method] = time.monotonic() - began
            _drop(connection, name)
    return min(seconds, key=seconds.__getitem__, default=None)


def _copy(
    connection: psycopg.Connection, template: str, name: str, owner: str | None, method: str | None
) -> None:
    if method is not None:
        connection.execute(sql.SQL("SET file_copy_method = {}").format(sql.Literal(method)))
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    if owner is not None:
        statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
    connection.execute(statement)


def _drop(connection: psycopg.Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
