"""The desk of operators: runs the domain code that the command line runs too, which blocks, in a few threads.

Belongs here: a connection for one piece of work, how many run at once, and what their errors mean to a caller.
Does not belong here: the work (`analytics_pipeline.storage`), the pools of everything else (`database`).

Operators ask seldom, so a connection is opened for each piece of work.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from analytics_pipeline import telemetry
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.settings import Settings
from analytics_pipeline.storage.connection import Connection, connection
from api.database import Database, problem_of
from api.errors import Unavailable
from api.turns import Turns
from api.versions import cut

MOST_READS = 4
"""Pieces of work that read at once, in this process, half of them of one caller; of those that write, one."""

_WRITE_TIME = "4s"
_CONNECT_TIME = "2"

Result = TypeVar("Result")


class Desk:
    """Of one process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        """Take the settings, and who knows whether Postgres answers."""
        self._conninfo = make_conninfo(settings.database.conninfo(), connect_timeout=_CONNECT_TIME)
        self._patience = f"{int(settings.analytics.query.timeout.total_seconds() * 1000)}ms"
        self._database = database
        self._read_turns = Turns(MOST_READS, MOST_READS // 2)
        self._write_turn = Turns(1, 1)
        self._threads = ThreadPoolExecutor(MOST_READS + 1, thread_name_prefix="desk")
        self._reading: set[Connection] = set()

    def close(self) -> None:
        """Take nothing any more, end what reads; what writes ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for opened in list(self._reading):
            cut(opened)

    async def read(self, query: str, work: Callable[[Connection], Result]) -> Result:
        """Do work that only reads, with a connection in autocommit; `query` names it in Prometheus.

        Raises:
            Unavailable: Postgres is down or does not answer in time, or too many wait already.
            TooManyRequests: too many of these are the caller's own.
        """
        settings = {"statement_timeout": self._patience, "default_transaction_read_only": "on", "jit": "off"}

        def reading(opened: Connection) -> Result:
            self._reading.add(opened)
            try:
                return work(opened)
            finally:
                self._reading.discard(opened)

        return await self._run(self._read_turns, query, reading, **settings)

    async def write(self, query: str, work: Callable[[Connection], Result]) -> Result:
        """The same for work that writes, in transactions of its own; it goes on if the caller goes away."""
        return await self._run(self._write_turn, query, work, statement_timeout=_WRITE_TIME)

    async def _run(
        self, turns: Turns, query: str, work: Callable[[Connection], Result], **settings: str
    ) -> Result:
        self._database.refuse_if_down()
        end_turn = await turns.take()

        def in_thread() -> Result:
            started = time.perf_counter()
            try:
                with (
                    connection(self._conninfo, name="api-desk", autocommit=True, **settings) as opened,
                    self._database.watched(opened),
                ):
                    return work(opened)
            finally:
                telemetry.QUERY_DURATION.labels(query).observe(time.perf_counter() - started)

        def finish(done: "asyncio.Future[Result]") -> None:
            end_turn()
            if not done.cancelled():
                done.exception()  # seen, also where nobody waits for it any more

        running = asyncio.get_running_loop().run_in_executor(self._threads, in_thread)
        # Whoever asked may be gone: the turn is over when the thread is.
        running.add_done_callback(finish)
        try:
            return await asyncio.shield(running)
        except EnvironmentFault:
            raise Unavailable("Postgres is not reachable.", kind="database-unavailable") from None
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise problem_of(error) from error
