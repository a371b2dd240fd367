"""The readings of a message: the batch that read it, the dead letter that it became, the batch that replayed that.

Belongs here: the questions to ledger and dead letters, for any number of messages at once. Does not belong here: what
follows from the answers (`fates`).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.ids import time_of_uuid7
from analytics_pipeline.events.messages import Offset
from analytics_pipeline.events.times import parse_time
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.event_lookup import Span

_ASKED = """
asked AS (
    SELECT * FROM unnest(%(topics)s::text [], %(partitions)s::integer [], %(offsets)s::bigint [])
        AS asked (source, partition, source_offset)
)
"""
_LINE = """batch_id, began_at, committed_at, stored, duplicate, skipped, note,
    coalesce((SELECT raw_floor FROM retention_state) <= ALL(hours), false)"""
# Each line of a partition begins where the one before ended, but for decisions of operators, which have a note and may
# lead back: between two decisions offsets rise with the ids of batches, and one step down an index finds the line.
_LINES = f"""
WITH {_ASKED}, partitions AS (SELECT DISTINCT source, partition FROM asked), decisions AS (
    SELECT source, partition, 0::bigint AS batch_id, 0::bigint AS first_offset, 0::bigint AS next_offset FROM partitions
    UNION ALL
    SELECT decided.source, decided.partition, decided.batch_id, decided.first_offset, decided.next_offset
    FROM partitions
    INNER JOIN ingest_batches AS decided
        ON decided.source = partitions.source AND decided.partition = partitions.partition
    WHERE decided.note IS NOT NULL AND decided.first_offset IS NOT NULL
), runs AS (
    SELECT decisions.*, lead(decisions.batch_id, 1, 9223372036854775807) OVER chain AS until_batch,
        lead(decisions.first_offset, 1, coalesce(standing.next_offset, 0)) OVER chain AS until_offset
    FROM decisions
    LEFT JOIN ingest_offsets AS standing
        ON standing.source = decisions.source AND standing.partition = decisions.partition
    WINDOW chain AS (PARTITION BY decisions.source, decisions.partition ORDER BY decisions.batch_id)
)
SELECT asked.source, asked.partition, asked.source_offset, line.*
FROM asked
INNER JOIN runs ON asked.source = runs.source AND asked.partition = runs.partition
CROSS JOIN LATERAL (
    SELECT {_LINE} FROM ingest_batches
    WHERE batch_id = runs.batch_id AND source = asked.source AND partition = asked.partition
        AND first_offset <= asked.source_offset AND next_offset > asked.source_offset
    UNION ALL (
        SELECT {_LINE} FROM ingest_batches
        WHERE source = asked.source AND partition = asked.partition
            AND first_offset <= asked.source_offset AND next_offset > asked.source_offset
            AND batch_id > runs.batch_id AND batch_id < runs.until_batch
            AND asked.source_offset >= runs.next_offset AND asked.source_offset < runs.until_offset
        ORDER BY first_offset DESC LIMIT 1
    )
) AS line
ORDER BY line.batch_id
"""  # noqa: S608  (constants of this module)
# The event's time and id as they stand in its value, to be looked at first; they may be a property's.
_LETTERS = rf"""
WITH {_ASKED}
SELECT letter.source, letter.partition, letter.source_offset, letter.id, letter.batch_id, letter.reason, letter.detail,
    letter.status, letter.event_type, letter.created_at, coalesce(letter.message_timestamp, letter.created_at),
    replay.batch_id, replay.began_at, replay.duplicate,
    CASE WHEN replay.batch_id IS NOT NULL THEN
        substring(encode(substr(letter.value, 1, 65536), 'escape') FROM '"timestamp"\s*:\s*"([^"]+)"') END,
    CASE WHEN replay.batch_id IS NOT NULL THEN
        substring(encode(substr(letter.value, 1, 65536), 'escape') FROM '"id"\s*:\s*"([^"]+)"') END
FROM asked
INNER JOIN dead_letter_events AS letter
    ON letter.source = asked.source AND letter.partition = asked.partition
    AND letter.source_offset = asked.source_offset
LEFT JOIN ingest_batches AS replay ON replay.batch_id = letter.replay_batch_id AND replay.source = '_replay'
ORDER BY letter.id
"""  # noqa: S608  (constants of this module)
_HOURS = """
SELECT DISTINCT touched.hour FROM ingest_batches AS batch CROSS JOIN unnest(batch.hours) AS touched (hour)
WHERE batch.batch_id = ANY(%s)
"""


class Line(NamedTuple):
    """What the ledger says of the batch that read a message."""

    batch_id: int
    began_at: datetime
    committed_at: datetime
    stored: int
    duplicate: int
    skipped: int
    note: str | None
    is_kept: bool
    """Whether retention has left every hour of its events."""


class Letter(NamedTuple):
    """A dead letter, and the batch that replayed it."""

    id: int
    batch_id: int
    reason: str
    detail: str
    status: str
    event_type: str | None
    created_at: datetime
    reached: datetime
    replay_batch_id: int | None
    replayed_at: datetime | None
    replay_duplicates: int | None
    time_inside: str | None
    id_inside: str | None

    @property
    def event_time(self) -> datetime:
        """What the timestamp of its event probably is."""
        try:
            return parse_time(self.time_inside)
        except Rejected:
            pass
        try:
            inside = time_of_uuid7(UUID(self.id_inside or ""))
        except ValueError:
            inside = None
        return inside or self.reached


def lines_of(connection: Connection, asked: Collection[Offset]) -> Mapping[Offset, list[Line]]:
    """The lines of the ledger that cover each offset, oldest first; nothing where there is none."""
    found: dict[Offset, list[Line]] = defaultdict(list)
    for row in connection.execute(_LINES, _columns(asked)):
        found[Offset(*row[:3])].append(Line(*row[3:]))
    return found


def letters_of(connection: Connection, asked: Collection[Offset]) -> Mapping[Offset, list[Letter]]:
    """The dead letters of each offset, oldest first."""
    found: dict[Offset, list[Letter]] = defaultdict(list)
    for row in connection.execute(_LETTERS, _columns(asked)):
        found[Offset(*row[:3])].append(Letter(*row[3:]))
    return found


def hours_of(connection: Connection, batch_ids: Collection[int]) -> list[Span]:
    """All hours in which these batches stored events."""
    rows = connection.execute(_HOURS, (list(batch_ids),)).fetchall()
    return [(hour, hour + timedelta(hours=1)) for [hour] in rows]


def _columns(asked: Collection[Offset]) -> dict[str, object]:
    return {
        "topics": [one.topic for one in asked],
        "partitions": [one.partition for one in asked],
        "offsets": [one.offset for one in asked],
    }
