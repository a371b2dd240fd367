"""Ends of the product's work at any statement, or at any named moment of a landing.

Belongs here: striking. Does not belong here: what must be true afterwards (`machine`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any
from unittest import mock

import psycopg

from analytics_pipeline.failpoints import FailPoint
from analytics_pipeline.storage import copying, landing


class Killed(BaseException):
    """The process ends here, as far as the code under test can tell."""


class Way(StrEnum):
    """How it ends."""

    KILLED = "killed"
    """Nothing more is sent."""
    CUT = "cut"
    """The connection is gone."""


class Strike:
    """Whether a fault has struck."""

    def __init__(self) -> None:
        self.has_struck = False


@contextmanager
def at_statement(number: int, way: Way) -> Iterator[Strike]:
    """End at the `number`-th statement from now on, counted over all connections of this thread's driver."""
    strike, left = Strike(), number

    def before(real: Callable[..., Any]) -> Callable[..., Any]:
        def statement(cursor: psycopg.Cursor[Any], *arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                strike.has_struck = True
                if way is Way.KILLED:
                    raise Killed
                cursor.connection.close()
            return real(cursor, *arguments, **named)

        return statement

    with (
        mock.patch.object(psycopg.Cursor, "execute", before(psycopg.Cursor.execute)),
        mock.patch.object(psycopg.Cursor, "executemany", before(psycopg.Cursor.executemany)),
        mock.patch.object(psycopg.Cursor, "copy", before(psycopg.Cursor.copy)),
    ):
        yield strike


@contextmanager
def at_point(point: FailPoint) -> Iterator[Strike]:
    """End where a landing first passes a named moment."""
    strike = Strike()

    def passed(at: FailPoint) -> None:
        if at is point:
            strike.has_struck = True
            raise Killed

    with mock.patch.object(landing, "fail_at", passed), mock.patch.object(copying, "fail_at", passed):
        yield strike
