"""The inbox of posted events: appended by the API, emptied by landing.

Belongs here: the statements on `http_inbox` and `http_accepted`. Does not belong here: validation
(`events.posted`), which has happened before, and landing, whose transaction the rows are taken in.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from analytics_pipeline.events.messages import PlainMessage
from analytics_pipeline.storage.copying import Cursor

CHANNEL = "inbox"

_APPEND = """
INSERT INTO http_inbox (payload, received_at)
SELECT item.payload, %s FROM unnest(%s::bytea []) WITH ORDINALITY AS item (payload, position) ORDER BY item.position
RETURNING id
"""
_COUNT = """
INSERT INTO http_accepted AS day (process_id, day, accepted) VALUES (%s, %s, %s)
ON CONFLICT (process_id, day) DO UPDATE SET accepted = day.accepted + excluded.accepted
"""
_NOTIFY = "NOTIFY inbox"
# No cursor over ids: they become visible out of order.
_TAKE = """
DELETE FROM http_inbox WHERE id = ANY(ARRAY(
    SELECT id FROM http_inbox ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
))
RETURNING id, payload, (extract(EPOCH FROM received_at) * 1000)::bigint
"""
_WAITING = "SELECT count(*), min(received_at) FROM http_inbox"


async def append(
    connection: psycopg.AsyncConnection, items: Sequence[bytes], *, process_id: UUID, now: datetime
) -> list[int]:
    """Append accepted events in one transaction; when this returns, they are durable.

    Args:
        connection: idle, not in a transaction.
        items: payloads made by `decode_posted`.
        process_id: of the API process, for the count of accepted events.
        now: arrival time.

    Returns:
        Their rows in the inbox, in the order given: the landing token.

    Raises:
        psycopg.Error: none of them was appended.
    """
    if not items:
        return []
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(_APPEND, (now, list(items)))
        rows = [int(row[0]) for row in await cursor.fetchall()]
        await cursor.execute(_COUNT, (process_id, now.astimezone(UTC).date(), len(rows)))
        await cursor.execute(_NOTIFY)
    return rows


def take(cursor: Cursor, limit: int) -> list[PlainMessage]:
    """Take up to `limit` events out of the inbox, oldest first, inside the landing transaction.

    Rows that another landing has taken are passed over; a rollback puts them back.
    """
    rows = cursor.execute(_TAKE, (limit,)).fetchall()
    return [
        PlainMessage(content=bytes(payload), position=row, millis=millis)
        for row, payload, millis in sorted(rows)
    ]
