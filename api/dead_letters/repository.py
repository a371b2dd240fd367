"""Work on dead letters, on the desk of operators.

Belongs here: bounds of one request. Does not belong here: statements (`analytics_pipeline.storage.dead_letters` and its
neighbours, which the command line uses too).
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace

from analytics_pipeline.settings import Settings
from analytics_pipeline.storage import dead_letter_export, dead_letters, replay_runs
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dead_letters import Content, Filter, Group, Letter, Status
from analytics_pipeline.storage.replays import Replayed
from api.desk import Desk

_QUERY = "dead_letters"


async def list_letters(desk: Desk, which: Filter, *, limit: int, before: int | None) -> list[Letter]:
    """The newest first, one more than `limit` if there are more."""
    return await desk.read(
        _QUERY, lambda opened: dead_letters.find(opened, which, limit=limit + 1, before=before)
    )


async def list_groups(desk: Desk, which: Filter, *, limit: int) -> list[Group]:
    """The largest first."""
    return await desk.read(_QUERY, lambda opened: dead_letters.groups(opened, which, limit=limit))


async def read_letter(desk: Desk, number: int, which: Filter) -> tuple[Letter, Content] | None:
    """One letter with its message, if it is there and may be seen."""
    return await desk.read(_QUERY, lambda opened: dead_letters.read(opened, number, reach=which.reach))


async def export_lines(
    desk: Desk, which: Filter, *, limit: int | None, has_headers: bool
) -> AsyncIterator[bytes]:
    """Letters that are there now as NDJSON, a few at a time; each piece is a read of its own, so nothing is held.

    Raises:
        Unavailable: Postgres cannot answer; the stream breaks off.
    """
    last = await desk.read(_QUERY, dead_letter_export.last_id)
    after, left = 0, limit
    while left is None or left > 0:

        def part(opened: Connection, after: int = after, left: int | None = left) -> tuple[bytes, int, int]:
            found = dead_letter_export.export_part(opened, which, after=after, last=last, limit=left)
            lines = "".join(_line(*one, has_headers=has_headers) for one in found)
            return lines.encode(), len(found), found[-1][0].id if found else last

        lines, count, after = await desk.read(_QUERY, part)
        if not count:
            return
        left = None if left is None else left - count
        yield lines


def _line(letter: Letter, content: Content, *, has_headers: bool) -> str:
    record = dead_letter_export.as_record(letter, content)
    if not has_headers:
        record["headers_base64"] = None
    return json.dumps(record) + "\n"


async def replay_letters(
    desk: Desk,
    settings: Settings,
    which: Filter,
    *,
    is_dry_run: bool,
    limit: int,
    after: int,
    seconds: float,
) -> tuple[Replayed, bool]:
    """Replay until all are tried, `limit` of them, or `seconds` have passed; and whether some may be left."""

    def work(opened: Connection) -> tuple[Replayed, bool]:
        done, end = Replayed(), time.monotonic() + seconds
        batches = replay_runs.run(opened, settings, which, is_dry_run=is_dry_run, limit=limit, after=after)
        with closing(batches):
            for batch in batches:
                done.add(batch)
                if time.monotonic() >= end:
                    return done, True
        return done, done.tried >= limit

    return await desk.write(_QUERY, work)


async def discard_letters(desk: Desk, which: Filter, *, note: str, limit: int) -> int:
    """Say of open letters that they will not be replayed; how many."""
    return await desk.write(
        _QUERY, lambda opened: dead_letters.discard(opened, which, note=note, limit=limit)
    )


async def count_open(desk: Desk, which: Filter) -> int:
    """How many open letters match."""
    open_ones = replace(which, statuses=(Status.OPEN,))
    return await desk.read(_QUERY, lambda opened: dead_letters.count(opened, open_ones).total())
