"""What became of every message of a range of time, per partition: sums of the ledger, its gaps, and where it stands.

Belongs here: the ledger by source and partition. Does not belong here: the proof over the whole of it, tables included
(`storage.audit`), single lines (`storage.batches`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row

from analytics_pipeline.storage.audit import snapshot
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.standings import Standing, read_standings
from analytics_pipeline.storage.verdicts import MOST_PLACES

# Batches of a partition follow one another by their ids; the first of the range follows the last before it.
_LINES = """
WITH lines AS (
    SELECT *,
        lag(next_offset) OVER sequence AS previous_end, lag(batch_id) OVER sequence AS previous_id
    FROM ingest_batches
    WHERE committed_at >= %(since)s AND committed_at < %(until)s
        AND (%(source)s::text IS NULL OR source = %(source)s)
        AND (%(partition)s::integer IS NULL OR partition = %(partition)s)
    WINDOW sequence AS (PARTITION BY source, partition, first_offset IS NULL ORDER BY batch_id)
),
chained AS (
    SELECT lines.*, coalesce(lines.previous_end, before.next_offset) AS expected,
        coalesce(lines.previous_id, before.batch_id) AS after_batch
    FROM lines
    LEFT JOIN LATERAL (
        SELECT earlier.next_offset, earlier.batch_id FROM ingest_batches AS earlier
        WHERE lines.previous_id IS NULL AND lines.first_offset IS NOT NULL
            AND earlier.source = lines.source AND earlier.partition = lines.partition
            AND earlier.batch_id < lines.batch_id AND earlier.first_offset IS NOT NULL
        ORDER BY earlier.batch_id DESC LIMIT 1
    ) AS before ON true
)
"""
_SUMS = f"""
{_LINES}
SELECT source, partition, count(*) AS lines, min(first_offset) AS first_offset, max(next_offset) AS next_offset,
    sum(read)::bigint AS read, sum(stored)::bigint AS stored, sum(duplicate)::bigint AS duplicate,
    sum(dead)::bigint AS dead, sum(skipped)::bigint AS skipped, count(note) AS decisions,
    count(*) FILTER (WHERE first_offset <> expected) AS gaps,
    count(*) FILTER (WHERE read <> stored + duplicate + dead) AS unbalanced,
    count(*) FILTER (WHERE next_offset - first_offset <> read + skipped) AS uncounted,
    min(committed_at) AS first_at, max(committed_at) AS last_at
FROM chained GROUP BY source, partition ORDER BY source, partition
"""  # noqa: S608  (constants of this module)
_GAPS = f"""
{_LINES}
SELECT source, partition, expected, first_offset, after_batch, batch_id
FROM chained WHERE first_offset <> expected ORDER BY batch_id DESC LIMIT %(most)s
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Conserved:
    """The lines of one partition in a range.

    Attributes:
        lines: batches with messages of it, and decisions of operators.
        first_offset: the lowest that they took, None where there are no offsets (`http`, `_replay`).
        next_offset: behind the highest.
        read: messages, each of which is one of `stored`, `duplicate` and `dead`.
        skipped: offsets without a message, and those that an operator left out.
        decisions: lines by which an operator moved the partition.
        gaps: lines that do not begin where the one before them ended.
        unbalanced: lines whose messages are not all accounted for.
        uncounted: lines whose offsets are not all read or skipped.
        first_at: commit of the first of the lines.
        last_at: commit of the last.
    """

    source: str
    partition: int
    lines: int
    first_offset: int | None
    next_offset: int | None
    read: int
    stored: int
    duplicate: int
    dead: int
    skipped: int
    decisions: int
    gaps: int
    unbalanced: int
    uncounted: int
    first_at: datetime
    last_at: datetime

    @property
    def holds(self) -> bool:
        """Whether nothing is lost or doubled."""
        return not (self.gaps or self.unbalanced or self.uncounted)


class Gap(NamedTuple):
    """A batch that does not begin where the one before it ended: behind it, offsets are missing; before it, doubled."""

    source: str
    partition: int
    expected: int
    first_offset: int
    after_batch: int
    batch_id: int


class Conservation(NamedTuple):
    """All that is known of a range: sums by partition, the newest gaps, and where partitions stand now."""

    partitions: list[Conserved]
    gaps: list[Gap]
    standings: list[Standing]


def conservation(
    connection: Connection,
    *,
    since: datetime,
    until: datetime,
    source: str | None = None,
    partition: int | None = None,
) -> Conservation:
    """Add up the ledger of `[since, until)`, by commit, in one snapshot.

    Args:
        connection: idle.
        since: from then on.
        until: before then.
        source: only this topic, or `http` or `_replay`.
        partition: only this number.
    """
    values: dict[str, Any] = {
        "since": since, "until": until, "source": source, "partition": partition, "most": MOST_PLACES,
    }  # fmt: skip
    with snapshot(connection):
        with connection.cursor(row_factory=class_row(Conserved)) as cursor:
            partitions = cursor.execute(_SUMS, values).fetchall()
        gaps = (
            [Gap(*row) for row in connection.execute(_GAPS, values)]
            if any(p.gaps for p in partitions)
            else []
        )
        standings = [one for one in read_standings(connection, source) if partition in (None, one.partition)]
    return Conservation(partitions, gaps, standings)
