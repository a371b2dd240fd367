"""What is looked over: the settings, which servers are embedded, and whether a stack runs here.

Belongs here: finding that out, and connections for checks. Does not belong here: judging.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.local_stack.detached import join
from analytics_pipeline.local_stack.plan import embedded_servers
from analytics_pipeline.local_stack.state import StateFolder
from analytics_pipeline.settings import Settings, config_file, settings
from analytics_pipeline.storage.connection import Connection, connection

DEFAULT_FILE = Path("config.yaml")
_STATEMENT_TIME = "5s"
_REDIS_TIME = 3.0


@dataclass(frozen=True)
class Installation:
    """One installation.

    Attributes:
        settings: with the addresses of the stack that runs here, if one does.
        written: as the configuration says.
        embedded: the servers that `analytics up` starts itself.
        is_running: whether a stack runs in the state folder.
        config: the configuration file, if there is one.
    """

    settings: Settings
    written: Settings
    embedded: frozenset[str]
    is_running: bool
    config: Path | None

    @property
    def folder(self) -> StateFolder:
        """The state folder of `analytics up`."""
        return StateFolder(self.settings.local_stack.state_folder)

    def is_asleep(self, server: str) -> bool:
        """Whether this server is one that only a running stack has."""
        return server in self.embedded and not self.is_running

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing of the product can run: the database is that of a stack, and none runs."""
        return self.is_asleep("postgres")

    def now(self) -> datetime:
        """By the clock of this machine."""
        return datetime.now(UTC)

    @contextmanager
    def postgres(self) -> Iterator[Connection]:
        """A connection that answers soon or never.

        Raises:
            EnvironmentFault: the server cannot be reached or refuses.
        """
        conninfo = self.settings.database.conninfo()
        with connection(
            conninfo, name="doctor", autocommit=True, statement_timeout=_STATEMENT_TIME
        ) as opened:
            yield opened

    @contextmanager
    def redis(self) -> Iterator["Redis"]:
        """A client that asks once."""
        client = Redis(
            **self.settings.redis.address(),
            socket_timeout=_REDIS_TIME,
            socket_connect_timeout=_REDIS_TIME,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            yield client


def look_around() -> tuple[Installation | None, tuple[str, ...]]:
    """The installation of this process's settings; None where these have problems, which are returned too."""
    try:
        written = settings()
        embedded = embedded_servers(written)
        join(written)
        found = settings()
    except ConfigurationError as error:
        return None, error.problems
    folder = StateFolder(found.local_stack.state_folder)
    return Installation(found, written, embedded, folder.is_locked, used_file()), ()


def used_file() -> Path | None:
    """The configuration file that is read, if there is one."""
    named = config_file() or DEFAULT_FILE
    return named if named.exists() else None
