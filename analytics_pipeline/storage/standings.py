"""How each partition stands: what is noted of it in `ingest_offsets` beside its offset, and reading it back.

Belongs here: which topic its offsets count in, how fresh it is, whether it is stopped, whether Kafka is silent.
Does not belong here: owning a partition and moving its offset (`storage.offsets`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from psycopg.rows import class_row

from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.offsets import Claim, Partition, columns_of

_IDENTIFY = """
UPDATE ingest_offsets SET topic_id = coalesce(topic_id, %s) WHERE source = %s AND partition = %s AND epoch = %s
RETURNING topic_id
"""
_NOTE_STOPS = """
UPDATE ingest_offsets AS row SET
    stop_reason = note.stop_reason, stopped = note.stopped, updated_at = clock_timestamp()
FROM unnest(
    %s::text [], %s::integer [], %s::bigint [], %s::text [], %s::text []
) AS note (source, partition, epoch, stop_reason, stopped)
WHERE row.source = note.source AND row.partition = note.partition AND row.epoch = note.epoch
    AND row.stopped IS DISTINCT FROM note.stopped
"""
_NOTE_SILENCE = """
UPDATE ingest_offsets SET kafka_silent_since = %s
WHERE owner = current_setting('application_name') AND kafka_silent_since IS DISTINCT FROM %s
"""
_CAUGHT_UP = """
UPDATE ingest_offsets AS row SET caught_up_at = note.caught_up_at, updated_at = clock_timestamp()
FROM unnest(
    %s::text [], %s::integer [], %s::bigint [], %s::bigint [], %s::timestamptz []
) AS note (source, partition, next_offset, epoch, caught_up_at)
WHERE row.source = note.source AND row.partition = note.partition
    AND row.next_offset = note.next_offset AND row.epoch = note.epoch
    AND (row.caught_up_at IS NULL OR row.caught_up_at < note.caught_up_at)
"""
_STANDINGS = """
SELECT
    row.source, row.partition, row.next_offset, row.epoch, row.caught_up_at, row.is_retired, row.updated_at, row.owner,
    row.stop_reason, row.stopped, row.kafka_silent_since,
    EXISTS (
        SELECT FROM pg_stat_activity AS other
        WHERE other.application_name = row.owner AND other.datname = current_database()
    ) AS is_owner_connected
FROM ingest_offsets AS row
WHERE %(source)s::text IS NULL OR row.source = %(source)s
ORDER BY row.source, row.partition
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one partition stands; `owner` is the name of the connections of the process that claimed it last.

    `stop_reason` (a `StopReason`) and `stopped` (its text) are None while it is read.
    """

    source: str
    partition: int
    next_offset: int
    epoch: int
    caught_up_at: datetime | None
    is_retired: bool
    updated_at: datetime
    owner: str | None
    is_owner_connected: bool
    stop_reason: str | None = None
    stopped: str | None = None
    kafka_silent_since: datetime | None = None


class StopReason(StrEnum):
    """Why a partition is not read until a person has decided."""

    DEAD_LETTERS = "dead_letters"
    """It has passed the limit of dead letters."""
    TOPIC_RECREATED = "topic_recreated"
    """Its offsets stand for other messages, or for none."""
    MESSAGES_DELETED = "messages_deleted"
    """They were deleted before they were read."""


class Stop(NamedTuple):
    """A stop; `text` says why and which command resolves it, which lets the partition go on at `goes_on_at`."""

    reason: StopReason
    text: str
    goes_on_at: int


def read_standings(connection: Connection, source: str | None = None) -> list[Standing]:
    """All partitions, or those of one source, in order."""
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        return cursor.execute(_STANDINGS, {"source": source}).fetchall()


def identify(connection: Connection, partition: Partition, claimed: Claim, topic_id: str) -> str | None:
    """Note which topic the offsets of a partition count in, unless that is known already.

    Returns:
        The id that is known: another one than `topic_id` if the topic was made anew since. None when the
        claim is worth nothing any more.
    """
    with connection.transaction():
        row = connection.execute(_IDENTIFY, (topic_id, *partition, claimed.epoch)).fetchone()
    return row[0] if row else None


def note_caught_up(connection: Connection, notes: Mapping[Partition, tuple[Claim, datetime]]) -> None:
    """Say of idle partitions that all which Kafka held at a time has landed: one statement for all of them.

    Args:
        connection: autocommit or idle; committed here.
        notes: per partition, the offset and epoch at which that is true, and the time.
    """
    sources, numbers = columns_of(notes)
    offsets = [claimed.next_offset for claimed, _ in notes.values()]
    epochs = [claimed.epoch for claimed, _ in notes.values()]
    with connection.transaction():
        connection.execute(_CAUGHT_UP, (sources, numbers, offsets, epochs, [at for _, at in notes.values()]))


def note_stops(connection: Connection, notes: Mapping[Partition, tuple[Claim, Stop | None]]) -> None:
    """Write down which partitions are stopped, and which are not any more; others than the owner write nothing.

    Args:
        connection: autocommit or idle; committed here.
        notes: per partition, the claim of its owner, and why it is stopped or None.
    """
    sources, numbers = columns_of(notes)
    epochs = [claimed.epoch for claimed, _ in notes.values()]
    stops = [stop for _, stop in notes.values()]
    reasons, texts = [stop and stop.reason.value for stop in stops], [stop and stop.text for stop in stops]
    with connection.transaction():
        connection.execute(_NOTE_STOPS, (sources, numbers, epochs, reasons, texts))


def note_silence(connection: Connection, since: datetime | None) -> None:
    """Write down, at all partitions that this process has claimed last, since when Kafka does not answer it.

    Args:
        connection: with the name of the process; autocommit or idle; committed here.
        since: None if Kafka answers.
    """
    with connection.transaction():
        connection.execute(_NOTE_SILENCE, (since, since))
