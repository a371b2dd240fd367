"""Reading what was just written: `after` names something sent, and the read waits until that has landed.

Belongs here: the parameter, waiting together, and refusals. Does not belong here: whether it has landed
(`storage.arrivals`), the answers (the features).

However many wait, one query every `LOOK` seconds asks for all of them. When the wait is over, the versions of the data
are those of a later reading, so a cached answer from before is not valid any more.
"""

import asyncio
import re
import time
from contextvars import Context

import structlog

from analytics_pipeline.events.messages import HTTP_SOURCE, Offset
from analytics_pipeline.storage.arrivals import Arrival, Sent, arrivals
from analytics_pipeline.storage.inbox import Landing
from api.database import Database
from api.errors import Conflict, Problem, Unavailable, internal_problem, invalid_parameter
from api.parameters import AFTER, MOST_SECONDS, Query

LOOK = 0.05
"""Seconds between two looks, while somebody waits."""

MOST_WAITING = 1_000
"""Reads that wait in one process; each look asks for all of them."""

_log = structlog.get_logger()
_OFFSET = re.compile(r"([A-Za-z0-9._-]{1,249}):([0-9]{1,9}):([0-9]{1,18})")


def read_after(query_string: bytes) -> Sent | None:
    """What a query string asks to wait for.

    Raises:
        BadRequest: it is no token and no offset.
    """
    # Nearly all ask for nothing of the kind; `%6` and `%7` are how its letters could be written as well.
    if b"after" not in query_string and b"%6" not in query_string and b"%7" not in query_string:
        return None
    text = Query(query_string, (AFTER,), is_all=False).text(AFTER)
    if text is None:
        return None
    match = _OFFSET.fullmatch(text)
    sent = Offset(match[1], int(match[2]), int(match[3])) if match else Landing.parse(text)
    if isinstance(sent, Offset) and sent.topic == HTTP_SOURCE:
        sent = None  # the ledger's name for posted events is no topic
    if sent is None or (isinstance(sent, Landing) and sent.row > _LARGEST):
        raise invalid_parameter(
            AFTER.name, "is neither the landing token of a POST nor topic:partition:offset of a message"
        )
    return sent


_LARGEST = 1 << 62
"""Rows beyond were never given; offsets in them would be too large for Postgres."""


class _Waiter:
    """One read that waits."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.found: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()


class Arrivals:
    """All reads of one process that wait for something to land."""

    def __init__(self, database: Database, topics: list[str]) -> None:
        """Take the database and the topics that are read, of which some may not have been read so far."""
        self._database = database
        self._topics = frozenset(topics)
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many reads wait at the moment."""
        return len(self._waiters)

    async def wait(self, sent: Sent, *, sees_everything: bool) -> None:
        """Return when it has landed, and the versions of the data that are known are those of later.

        Args:
            sent: what to wait for.
            sees_everything: whether the caller may know why an event became a dead letter, and of messages in Kafka,
                which may be anybody's, that they did.

        Raises:
            BadRequest: there can be no such thing.
            Conflict: all of it became dead letters.
            Unavailable: the time is up, too many wait already, or Postgres is away.
        """
        if len(self._waiters) >= MOST_WAITING:
            raise Unavailable(
                f"{MOST_WAITING:,} reads wait for events to land; try again shortly.", kind="overloaded"
            )
        waiter = _Waiter(sent)
        self._waiters.add(waiter)
        if self._task is None or self._task.done():
            # In no request's context: its time is that of all who wait.
            self._task = asyncio.create_task(self._look(), context=Context())
        try:
            async with asyncio.timeout(MOST_SECONDS):
                arrival = await waiter.found
                # First, as no version has to be waited for to refuse.
                _refuse(sent, arrival, sees_everything=sees_everything)
                await self._database.watcher.since(time.monotonic())
        except TimeoutError:
            raise Unavailable(
                f"What `after` names has not landed within {MOST_SECONDS:g} seconds; if it was sent, ask again.",
                kind="not-landed-yet",
            ) from None
        finally:
            self._waiters.discard(waiter)

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while self._waiters:
            asked = [one for one in self._waiters if not one.found.done()]
            try:
                async with self._database.read("after") as connection:
                    known = await arrivals(connection, {one.sent for one in asked})
            except Problem as problem:
                _fail(asked, problem)
            except Exception:  # noqa: BLE001 - the edge of this task: log it, answer, go on with those who come next
                _log.exception("arrivals_failed")
                _fail(asked, internal_problem())
            else:
                for one in asked:
                    if not one.found.done() and self._is_decided(one.sent, known[one.sent]):
                        one.found.set_result(known[one.sent])
            await asyncio.sleep(LOOK)

    def _is_decided(self, sent: Sent, arrival: Arrival) -> bool:
        is_expected = isinstance(sent, Offset) and sent.topic in self._topics
        return arrival.has_landed or not (arrival.is_known or is_expected)


def _fail(waiters: list[_Waiter], problem: Problem) -> None:
    for one in waiters:
        if not one.found.done():
            one.found.set_exception(problem)


def _refuse(sent: Sent, arrival: Arrival, *, sees_everything: bool) -> None:
    if not arrival.has_landed or not arrival.is_known:
        raise invalid_parameter(AFTER.name, "no request was given this token, or no such topic is read")
    if arrival.dead < (1 if isinstance(sent, Offset) else sent.events):
        return
    if isinstance(sent, Offset) and not sees_everything:
        return
    raise Conflict(
        "What `after` names became a dead letter, so no answer will hold it.",
        kind="dead-letter",
        title="Became a dead letter",
        extra={"reasons": list(arrival.reasons)} if sees_everything else None,
    )
