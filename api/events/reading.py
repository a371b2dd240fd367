"""Lists of events as answers: a page with its cursors and total, or a stream of any size.

Belongs here: what follows from a page. Does not belong here: SQL (`pages`), the query string (`listing`), the shape of
a row (`rows`).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from api.database import Reader
from api.errors import BadRequest, NotFound
from api.events.cursors import Row
from api.events.listing import EventList, Filters, Total
from api.events.pages import Page, count_matching, estimate_matching, read_page
from api.events.rows import encoder, json_rows
from api.metrics.service import MetricService
from api.times import format_time

_CHUNK = 5_000
"""Events a stream reads at once, where they are small."""
_CHUNK_BYTES = 4 * 2**20
"""Of their properties, and one event more: the memory of a stream."""
_PAGE_BYTES = 16 * 2**20
"""The same of a page, which is in memory as a whole, several times over."""


@dataclass(frozen=True)
class EventReader:
    """Answers lists of events.

    Attributes:
        database: read from.
        most_seen: how many events one search without an index may look at.
        versions: of the metric that counts events.
    """

    database: Reader
    most_seen: int
    versions: MetricService

    async def page(self, wanted: EventList) -> dict[str, Any]:
        """The answer to one page.

        Raises:
            BadRequest: the search found nothing within its budget; the answer has the cursor to go on from.
            Unavailable: Postgres cannot answer.
        """
        page = await read_page(self.database, wanted, most_seen=self.most_seen, most_bytes=_PAGE_BYTES)
        cursors = _cursors(wanted, page)
        warnings = []
        if page.seen_until is not None:
            sentence = (
                f"No index leads to these events; {self.most_seen:,} were looked at"
                " (analytics.query.max_scanned). Shorten the range or name an event_type, or go on from the cursor."
            )
            if not page.events:
                raise BadRequest(
                    sentence,
                    kind="scan-budget",
                    title="Too many events to search",
                    extra=cursors,
                )
            warnings.append(sentence)
        content: dict[str, Any] = {
            "events": json_rows(page.events, wanted.fields),
            "count": len(page.events),
            "start_time": format_time(wanted.filters.start),
            "end_time": format_time(wanted.filters.end),
        } | cursors
        if wanted.total is not None:
            content["total"] = await self._total(wanted.filters, wanted.total)
        if warnings:
            content["warnings"] = warnings
        return content

    async def single(self, wanted: EventList) -> dict[str, Any]:
        """The first of the events, by itself.

        Raises:
            NotFound: there is none, or none that may be seen.
            Unavailable: Postgres cannot answer.
        """
        page = await read_page(self.database, wanted, most_seen=self.most_seen)
        if not page.events:
            raise NotFound(
                "There is no event of this id at its timestamp, or near the time inside the id if none was given.",
                title="Event not found",
            )
        [found] = json_rows(page.events, wanted.fields)
        return found

    async def stream(self, wanted: EventList) -> AsyncIterator[bytes]:
        """All events that fit, written piece by piece; each piece is a read of its own, so nothing is held meanwhile.

        Raises:
            Unavailable: Postgres cannot answer; the stream breaks off, which each format and HTTP itself show.
        """
        pieces = encoder(wanted.format, wanted.fields)
        here = replace(wanted, limit=_CHUNK)
        yield pieces.begin()
        while True:
            page = await read_page(self.database, here, most_seen=self.most_seen, most_bytes=_CHUNK_BYTES)
            if page.events:
                yield pieces.rows(page.events)
            if not page.has_more:
                break
            # Where events are large, Postgres need not look at thousands of them for each piece of a few.
            rows = _CHUNK if page.seen_until else min(_CHUNK, 2 * len(page.events))
            here = replace(here, after=page.seen_until or page.events[-1].row, limit=rows)
        yield pieces.end()

    async def _total(self, filters: Filters, how: Total) -> dict[str, Any]:
        if filters.is_counted_by_rollups:
            # Here alone: the other lists of the command line need no metric, and go on where one is declared wrongly.
            from analytics_pipeline.rollups.cardinality import OTHER
            from api.events.repository import COUNTED, count_events
            from api.events.statistics import Statistics

            served = self.versions.of(COUNTED)
            counts = await count_events(self.database, Statistics(filters.start, filters.end), served)
            # Of types that share a place nothing tells how many are of which.
            if filters.has_every_type or OTHER not in counts:
                of_types = [count for name, count in counts.items() if filters.has_type(name)]
                return {"value": sum(of_types), "is_exact": True}
        if how is Total.EXACT:
            return {"value": await count_matching(self.database, filters), "is_exact": True}
        return {"value": await estimate_matching(self.database, filters), "is_exact": False}


def _cursors(wanted: EventList, page: Page) -> dict[str, str]:
    """Cursors to the next and the previous page, in the order asked for, where there is one."""
    first = page.events[0].row if page.events else None
    last = page.events[-1].row if page.events else None
    before: Row | None
    behind: Row | None
    if wanted.is_back:
        before = (page.seen_until or first) if page.has_more else None
        behind = last or page.seen_until or wanted.beginning
    else:
        before = None if wanted.after is None else first or wanted.after
        behind = (page.seen_until or last) if page.has_more else None
    found = {}
    if behind is not None:
        found["next_cursor"] = wanted.cursor(behind, is_back=False)
    if before is not None:
        found["previous_cursor"] = wanted.cursor(before, is_back=True)
    return found
