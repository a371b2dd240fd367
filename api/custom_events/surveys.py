"""What a schema would have done to stored events of a type.

Belongs here: judging them beside the event loop, one request at a time: the worst schema that may be registered takes
half a second for an event. Does not belong here: the judging itself (`analytics_pipeline.events`), which schema
(`trials`, `endpoints`).
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from analytics_pipeline.events.compatibility import StoredEvent, Survey
from analytics_pipeline.events.definitions import compile_definition
from analytics_pipeline.events.json_schema import Schema
from analytics_pipeline.storage.definitions import RECENT
from api.dependencies import Services
from api.errors import Unavailable
from api.turns import QUEUE_TIME

_AT_ONCE = 50


async def survey(
    services: Services, name: str, version: int, schema: Schema | str, *, last: int
) -> dict[str, Any]:
    """The report on the `last` newest events, as it is answered.

    Raises:
        Unavailable: others take too long.
    """
    async with turn(services):
        found = Survey(await asyncio.to_thread(compile_definition, name, version, schema))
        is_complete = await _judge_stored(services, found, name, last)
    report = found.report()
    return {
        "name": name,
        "is_compatible": report.is_compatible,
        "is_complete": is_complete,
        "judged": report.judged,
        "refused": report.refused,
        "kinds": [kind._asdict() for kind in report.kinds],
        "oldest": report.oldest,
        "newest": report.newest,
    }


@asynccontextmanager
async def turn(services: Services) -> AsyncIterator[None]:
    """One at a time in a process.

    Raises:
        Unavailable: others take too long.
    """
    try:
        async with asyncio.timeout(QUEUE_TIME):
            await services.trials.acquire()
    except TimeoutError:
        raise Unavailable("Another schema is being tried; try again shortly.", kind="overloaded") from None
    try:
        yield
    finally:
        services.trials.release()


async def _judge_stored(services: Services, survey: Survey, name: str, last: int) -> bool:
    """Whether all of them were judged in time; they are read as they are judged."""
    until = time.monotonic() + services.settings.analytics.query.timeout.total_seconds() * 0.8

    def judge(events: list[StoredEvent]) -> None:
        survey.judge(itertools.takewhile(lambda _: time.monotonic() < until, events))

    read = 0
    async with (
        services.database.read("custom_events") as connection,
        connection.transaction(),
        connection.cursor("recent_events") as cursor,
    ):
        await cursor.execute(RECENT, (name, last))
        while time.monotonic() < until:
            rows = await cursor.fetchmany(_AT_ONCE)
            if not rows:
                return survey.judged == read
            read += len(rows)
            await asyncio.to_thread(judge, [StoredEvent(*row) for row in rows])
    return False
