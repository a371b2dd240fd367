"""Dead letters with their bytes, one after another: for files, and for producing the messages again.

Belongs here: reading them few at a time, and the two forms that they are written in. Does not belong here: which
letters there are and what becomes of them (`storage.dead_letters`).
"""

import base64
from collections.abc import Iterator
from typing import Any

from analytics_pipeline.events.times import format_time
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dead_letters import COLUMNS, MATCHING, Content, Filter, Letter, content_of

_EXPORT = f"""
SELECT {COLUMNS}, key, value, headers FROM dead_letter_events WHERE {MATCHING} ORDER BY id LIMIT %(limit)s
"""  # noqa: S608  (constants of ours)
# Sizes first, so that as many are read at once as fit into memory, and one at least.
_PART = f"""
WITH next AS (
    SELECT id, coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0)
        + coalesce(octet_length(headers), 0) AS size
    FROM dead_letter_events WHERE id > %(after)s AND id <= %(last)s AND {MATCHING} ORDER BY id LIMIT %(limit)s
),
summed AS (SELECT id, size, sum(size) OVER (ORDER BY id) AS total FROM next)
SELECT {COLUMNS}, key, value, headers FROM dead_letter_events
WHERE id = ANY(ARRAY(SELECT id FROM summed WHERE total <= %(most_bytes)s OR total = size)) ORDER BY id
"""  # noqa: S608
_LAST = "SELECT coalesce(max(id), 0) FROM dead_letter_events"
_AT_ONCE = 50
_PART_ROWS = 500
_PART_BYTES = 2 * 2**20


def export(
    connection: Connection, which: Filter, *, limit: int | None = None
) -> Iterator[tuple[Letter, Content]]:
    """The oldest first, in one snapshot, few of them in memory at a time.

    Args:
        connection: not in a transaction.
        which: the letters.
        limit: at most so many.
    """
    with connection.transaction(), connection.cursor(name="dead_letters") as cursor:
        cursor.itersize = _AT_ONCE
        for *columns, key, value, headers in cursor.execute(_EXPORT, {**which.parameters(), "limit": limit}):
            yield Letter(*columns), content_of(key, value, headers)


def last_id(connection: Connection) -> int:
    """The id of the newest letter, whichever it is; 0 if there is none."""
    [(found,)] = connection.execute(_LAST).fetchall()
    return int(found)


def export_part(
    connection: Connection, which: Filter, *, after: int, last: int, limit: int | None = None
) -> list[tuple[Letter, Content]]:
    """The next letters, the oldest first: about 2 MiB of messages, at most 500, one at least if any is left.

    Args:
        connection: in autocommit.
        which: the letters.
        after: of greater ids than this.
        last: none newer than this one.
        limit: at most so many.
    """
    rows = _PART_ROWS if limit is None else min(limit, _PART_ROWS)
    values = {**which.parameters(), "after": after, "last": last, "limit": rows, "most_bytes": _PART_BYTES}
    return [
        (Letter(*columns), content_of(key, value, headers))
        for *columns, key, value, headers in connection.execute(_PART, values)
    ]


def as_record(letter: Letter, content: Content) -> dict[str, Any]:
    """For NDJSON: every byte in base64, and what is known of the message."""
    at = letter.message_timestamp
    return {
        "id": letter.id,
        "source": letter.source,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "event_type": letter.event_type,
        "producer": letter.producer,
        "group": letter.group,
        "status": letter.status,
        "attempts": letter.attempts,
        "created_at": format_time(letter.created_at),
        "message_timestamp": None if at is None else format_time(at),
        "key_base64": _base64(content.key),
        "value_base64": _base64(content.value),
        "headers_base64": [[name, _base64(value)] for name, value in content.headers],
    }


def as_produce_request(content: Content) -> dict[str, Any]:
    """A record as the Kafka REST proxy takes it (`POST /v3/clusters/…/topics/…/records`), to be produced again."""
    request: dict[str, Any] = {
        "headers": [{"name": name, "value": _base64(value)} for name, value in content.headers],
    }
    for name, part in (("key", content.key), ("value", content.value)):
        if part is not None:
            request[name] = {"type": "BINARY", "data": _base64(part)}
    return request


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
