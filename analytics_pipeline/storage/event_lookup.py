"""Finding events that no index leads to, by reading the times at which they can be.

Belongs here: the statements, for any number of events at once. Does not belong here: knowing those times (`fates`).
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.messages import Offset
from analytics_pipeline.storage.connection import Connection

_STORED = """
event.source, event.source_partition, event.source_offset, event.id, event.timestamp, event.event_type, event.created_at
"""
# OFFSET 0: each span is read by itself, so that only its own days are, whatever the planner expects to find there.
_BY_OFFSET = f"""
SELECT {_STORED}
FROM unnest(%(firsts)s::timestamptz [], %(untils)s::timestamptz []) AS span (first, until)
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE timestamp >= span.first AND timestamp < span.until AND source = ANY(%(known)s::text [])
    OFFSET 0
) AS event
INNER JOIN unnest(%(topics)s::text [], %(partitions)s::integer [], %(offsets)s::bigint [])
    AS asked (source, partition, source_offset)
    ON event.source = asked.source AND event.source_partition = asked.partition
    AND event.source_offset = asked.source_offset
ORDER BY event.created_at
"""  # noqa: S608 - constants only
_BY_ID = f"""
SELECT {_STORED}
FROM unnest(%(firsts)s::timestamptz [], %(untils)s::timestamptz []) AS span (first, until)
CROSS JOIN LATERAL (
    SELECT * FROM events WHERE timestamp >= span.first AND timestamp < span.until OFFSET 0
) AS event
INNER JOIN unnest(%(ids)s::uuid []) AS asked (id) ON event.id = asked.id
ORDER BY event.timestamp
"""  # noqa: S608 - constants only
_BY_KEY = f"""
SELECT {_STORED}
FROM unnest(%(times)s::timestamptz [], %(ids)s::uuid []) AS asked (timestamp, id)
CROSS JOIN LATERAL (
    SELECT * FROM events WHERE timestamp = asked.timestamp AND id = asked.id OFFSET 0
) AS event
"""  # noqa: S608 - constants only

Span = tuple[datetime, datetime]
"""Times `[first, until)`."""


class Stored(NamedTuple):
    """A row of `events`; without a source where somebody wrote it by SQL."""

    source: str | None
    partition: int | None
    offset: int | None
    id: UUID
    timestamp: datetime
    event_type: str
    created_at: datetime


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same times, each in one span, in order."""
    found: list[Span] = []
    for first, until in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(until, found[-1][1])
        else:
            found.append((first, until))
    return found


def by_offset(connection: Connection, asked: Collection[Offset], spans: Iterable[Span]) -> list[Stored]:
    """The events of messages whose times are in the spans, oldest landing first."""
    if not asked or not (bounds := _bounds(spans))["firsts"]:
        return []
    columns = {
        "topics": [one.topic for one in asked],
        "partitions": [one.partition for one in asked],
        "offsets": [one.offset for one in asked],
        "known": list({one.topic for one in asked}),
    }
    return [Stored(*row) for row in connection.execute(_BY_OFFSET, bounds | columns)]


def by_id(connection: Connection, ids: Collection[UUID], spans: Iterable[Span]) -> list[Stored]:
    """The events of these ids whose times are in the spans, in the order of their times."""
    if not ids:
        return []
    return [Stored(*row) for row in connection.execute(_BY_ID, _bounds(spans) | {"ids": list(ids)})]


def by_key(connection: Connection, keys: Collection[tuple[datetime, UUID]]) -> list[Stored]:
    """The events of these timestamps and ids; this alone an index leads to."""
    if not keys:
        return []
    columns = {"times": [time for time, _ in keys], "ids": [event_id for _, event_id in keys]}
    return [Stored(*row) for row in connection.execute(_BY_KEY, columns)]


def _bounds(spans: Iterable[Span]) -> dict[str, object]:
    found = merged(spans)
    return {"firsts": [first for first, _ in found], "untils": [until for _, until in found]}
