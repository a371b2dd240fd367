"""Databases with rollups in motion, and who works on them, for tests that step them against each other."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage.connection import Connection, connect
from tests.integration.databases import fresh_database
from tests.integration.rollup_actors import HOUR, NEXT, Actors, prepare, sent
from tests.integration.rollup_truth import check_idle, check_truth, remember
from tests.integration.stepping import Steps

_copy = contextlib.contextmanager(fresh_database)


@dataclass
class World:
    """A database, who works on it, and what holds them."""

    actors: Actors
    db: Connection
    steps: Steps = field(default_factory=Steps)
    seed: int = 100
    is_sound: bool = False

    @property
    def conninfo(self) -> str:
        return self.actors.conninfo

    def fill(self) -> None:
        """Let something be pending for both hours of `DAY`, also where buckets are final."""
        self.seed += 1
        self.actors.land("setup", [*sent(HOUR, self.seed, 8), *sent(NEXT, -self.seed, 8)])

    def check(self) -> None:
        """Nobody holds or waits for anything any more, and the numbers are right: others may go on from here."""
        check_truth(self.db)
        check_idle(self.db)
        self.is_sound = True


@contextlib.contextmanager
def prepared(postgres: Postgres, template: str) -> Iterator[str]:
    """The name of a database to copy, with the hours of `prepare`; nobody stays connected to it."""
    with _copy(postgres, template) as conninfo:
        with connect(conninfo, name="test", autocommit=True) as connection:
            remember(connection)
        prepare(conninfo)
        yield str(conninfo_to_dict(conninfo)["dbname"])


@contextlib.contextmanager
def copied(postgres: Postgres, template: str) -> Iterator[World]:
    """A world of its own."""
    with (
        _copy(postgres, template) as conninfo,
        Actors(conninfo) as actors,
        connect(conninfo, name="test", autocommit=True) as db,
    ):
        yield World(actors, db)


class Shared:
    """One world for many cases; made anew after a case that did not leave it sound."""

    def __init__(self, postgres: Postgres, template: str) -> None:
        self._postgres, self._template = postgres, template
        self._stack = contextlib.ExitStack()
        self._world: World | None = None

    @contextlib.contextmanager
    def borrowed(self, steps: Steps) -> Iterator[World]:
        if self._world is None:
            self._world = self._stack.enter_context(copied(self._postgres, self._template))
        self._world.steps, self._world.is_sound = steps, False
        try:
            yield self._world
        finally:
            steps.release_all()
            if not self._world.is_sound:
                self.close()

    def close(self) -> None:
        self._world = None
        self._stack.close()
