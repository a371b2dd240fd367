"""Whether what was sent has landed, for any number of senders in one query.

Belongs here: the statement. Does not belong here: waiting, and the words for senders (`api.arrivals`).

A landing removes rows of the inbox, or moves `next_offset`, in the transaction that stores its events and deltas: who
sees the one sees the other.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import psycopg

from analytics_pipeline.events.messages import HTTP_SOURCE, Offset
from analytics_pipeline.storage.inbox import Landing

# A replayed letter was stored after all. `next_offset` is null where landing has not read the partition.
_ARRIVED = """
WITH sent AS (
    SELECT * FROM unnest(
        %(sources)s::text [], %(partitions)s::integer [], %(rows)s::bigint [], %(firsts)s::bigint [],
        %(ends)s::bigint []
    ) WITH ORDINALITY AS sent (source, partition, row, first, until, place)
)
SELECT
    CASE
        WHEN sent.source = %(http)s THEN sent.row <= (SELECT last_value FROM http_inbox_id_seq)
        ELSE EXISTS (SELECT FROM ingest_offsets AS known WHERE known.source = sent.source)
    END,
    CASE
        WHEN sent.source = %(http)s THEN NOT EXISTS (SELECT FROM http_inbox AS waiting WHERE waiting.id = sent.row)
        ELSE coalesce((
            SELECT reached.next_offset >= sent.until FROM ingest_offsets AS reached
            WHERE reached.source = sent.source AND reached.partition = sent.partition
        ), false)
    END,
    letters.count,
    letters.reasons
FROM sent
CROSS JOIN LATERAL (
    SELECT count(*) AS count, array_agg(DISTINCT letter.reason ORDER BY letter.reason) AS reasons
    FROM dead_letter_events AS letter
    WHERE letter.source = sent.source AND letter.partition = sent.partition AND letter.status <> 'replayed'
        AND letter.source_offset >= sent.first AND letter.source_offset < sent.until
) AS letters
ORDER BY sent.place
"""

_BATCH = """
SELECT batch_id FROM (
    SELECT batch_id, next_offset FROM ingest_batches
    WHERE source = %(source)s AND partition = %(partition)s AND first_offset <= %(offset)s
    ORDER BY first_offset DESC, batch_id DESC LIMIT 1
) AS newest
WHERE next_offset > %(offset)s
"""

Sent = Landing | Offset
"""Events of one POST, or one message."""


class Arrival(NamedTuple):
    """What is known of something that was sent.

    Attributes:
        is_known: whether there can be such a thing: the token was given, the topic is read.
        has_landed: whether it has been read and what came of it is committed.
        dead: how many of its events are dead letters.
        reasons: why, each reason once.
    """

    is_known: bool
    has_landed: bool
    dead: int
    reasons: tuple[str, ...]


async def arrivals(connection: psycopg.AsyncConnection[Any], sent: Collection[Sent]) -> dict[Sent, Arrival]:
    """What is known of each, in one snapshot."""
    spans = [_span(one) for one in sent]
    columns = zip(*spans, strict=True) if spans else [()] * 5
    names = ("sources", "partitions", "rows", "firsts", "ends")
    parameters: dict[str, Any] = {name: list(column) for name, column in zip(names, columns, strict=True)}
    cursor = await connection.execute(_ARRIVED, parameters | {"http": HTTP_SOURCE})
    return {
        one: Arrival(is_known, has_landed, dead, tuple(reasons or ()))
        for one, (is_known, has_landed, dead, reasons) in zip(sent, await cursor.fetchall(), strict=True)
    }


async def batch_of(connection: psycopg.AsyncConnection[Any], message: Offset) -> int | None:
    """The batch that a message was last read in; None where the ledger has none."""
    asked = {"source": message.topic, "partition": message.partition, "offset": message.offset}
    row = await (await connection.execute(_BATCH, asked)).fetchone()
    return None if row is None else int(row[0])


def _span(sent: Sent) -> tuple[str, int, int, int, int]:
    """Source, partition, row of the inbox, and the offsets from the first on to behind the last."""
    if isinstance(sent, Offset):
        return sent.topic, sent.partition, 0, sent.offset, sent.offset + 1
    first = sent.row + sent.first
    return HTTP_SOURCE, 0, sent.row, first, first + sent.events
