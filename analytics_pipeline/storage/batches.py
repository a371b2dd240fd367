"""Reading the ledger: which batches landed, what became of their messages, who moved an offset and why.

Belongs here: the list with its filters.
Does not belong here: writing it (`storage.ledger`), proving it (`storage.audit`).
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row

from analytics_pipeline.storage.connection import Connection

_LIST = """
SELECT batch_id, source, partition, first_offset, next_offset, read, stored, duplicate, dead, skipped, seconds,
    committed_at, note
FROM ingest_batches
WHERE (%(source)s::text IS NULL OR source = %(source)s)
    AND (%(partition)s::integer IS NULL OR partition = %(partition)s)
    AND (%(offset)s::bigint IS NULL OR (first_offset <= %(offset)s AND next_offset > %(offset)s))
    AND (%(batch)s::bigint IS NULL OR batch_id = %(batch)s)
    AND (%(since)s::timestamptz IS NULL OR committed_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR committed_at < %(until)s)
    AND (
        %(after_batch)s::bigint IS NULL OR batch_id < %(after_batch)s
        OR (batch_id = %(after_batch)s AND (source, partition) > (%(after_source)s, %(after_partition)s))
    )
    AND (NOT %(is_noted)s OR note IS NOT NULL)
    AND (NOT %(has_dead)s OR dead > 0)
    AND (NOT %(has_duplicates)s OR duplicate > 0)
    AND (NOT %(has_skipped)s OR skipped <> 0)
ORDER BY batch_id DESC, source, partition LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines; None and False ask for nothing. `offset`: the line that this offset of its partition lies in."""

    source: str | None = None
    partition: int | None = None
    offset: int | None = None
    batch: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_noted: bool = False
    has_dead: bool = False
    has_duplicates: bool = False
    has_skipped: bool = False
    limit: int = 50
    after: "Key | None" = None
    """Only lines behind this one."""


class Key(NamedTuple):
    """Which line of the ledger."""

    batch_id: int
    source: str
    partition: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One line of the ledger: a batch and one of its partitions; offsets are None where there are none."""

    batch_id: int
    source: str
    partition: int
    first_offset: int | None
    next_offset: int | None
    read: int
    stored: int
    duplicate: int
    dead: int
    skipped: int
    seconds: float
    committed_at: datetime
    note: str | None

    @property
    def key(self) -> Key:
        """Which line it is."""
        return Key(self.batch_id, self.source, self.partition)


def batches(connection: Connection, wanted: Filter) -> list[Batch]:
    """The newest lines that match."""
    after = wanted.after or (None, None, None)
    values: dict[str, Any] = asdict(wanted) | dict(
        zip(("after_batch", "after_source", "after_partition"), after, strict=True)
    )
    with connection.cursor(row_factory=class_row(Batch)) as cursor:
        return cursor.execute(_LIST, values).fetchall()
