"""`ingest_offsets`: the truth of what has landed, and who may land more.

Belongs here: claiming a partition, the compare-and-set that moves it, and what operators decide about it.
Does not belong here: what else is noted of a partition (`storage.standings`); Kafka's own group offsets, which are only
for lag tools.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.storage.backends import backend_of, blockers_ended
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.copying import Cursor

_CLAIM = """
UPDATE ingest_offsets SET
    epoch = epoch + 1, is_retired = false, kafka_silent_since = NULL,
    owner = current_setting('application_name'), updated_at = clock_timestamp()
WHERE source = %s AND partition = %s
RETURNING next_offset, epoch
"""
_LOCK_SOURCE = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"
_BEGIN = """
INSERT INTO ingest_offsets (source, partition, next_offset, epoch)
SELECT %s, first.number, first.next_offset, 0
FROM unnest(%s::integer [], %s::bigint []) AS first (number, next_offset)
ON CONFLICT DO NOTHING
"""
_FORGET_TOPIC = """
UPDATE ingest_offsets SET topic_id = NULL, stop_reason = NULL, stopped = NULL WHERE source = %s AND partition = %s
"""
_IS_KNOWN_SOURCE = "SELECT EXISTS (SELECT FROM ingest_offsets WHERE source = %s)"
_READ = """
SELECT row.source, row.partition, row.next_offset, row.epoch
FROM ingest_offsets AS row
INNER JOIN unnest(%s::text [], %s::integer []) AS wanted (source, partition)
    ON row.source = wanted.source AND row.partition = wanted.partition
"""
_ADVANCE = """
UPDATE ingest_offsets AS row SET
    next_offset = step.next_offset,
    caught_up_at = greatest(row.caught_up_at, step.caught_up_at),
    updated_at = clock_timestamp()
FROM unnest(
    %s::text [], %s::integer [], %s::bigint [], %s::bigint [], %s::bigint [], %s::timestamptz []
) AS step (source, partition, first_offset, next_offset, epoch, caught_up_at)
WHERE row.source = step.source AND row.partition = step.partition
    AND row.next_offset = step.first_offset AND row.epoch = step.epoch
"""
_RECORD_SKIP = """
INSERT INTO ingest_batches (
    batch_id, source, partition, first_offset, next_offset, read, stored, duplicate, dead, skipped,
    catalog_version, note
) VALUES (nextval('ingest_batch_id_seq'), %s, %s, %s, %s, 0, 0, 0, 0, %s, '', %s)
"""
_RETIRE = """
UPDATE ingest_offsets AS row SET is_retired = true, updated_at = clock_timestamp()
FROM unnest(%s::text [], %s::integer [], %s::bigint []) AS wanted (source, partition, epoch)
WHERE row.source = wanted.source AND row.partition = wanted.partition AND row.epoch = wanted.epoch
"""
_CLAIM_TIMEOUT = "20s"

Partition = tuple[str, int]
"""(source, partition number)."""


class Claim(NamedTuple):
    """Where to go on, and the epoch that every landing of this owner must carry."""

    next_offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Span:
    """What a batch takes from one partition: offsets `[first_offset, next_offset)`, of which `read` held messages.

    `caught_up_at`: everything that Kafka held at this time lies before `next_offset`.
    """

    source: str
    partition: int
    first_offset: int
    next_offset: int
    read: int
    epoch: int
    caught_up_at: datetime | None = None

    @property
    def key(self) -> Partition:
        """(source, partition)."""
        return self.source, self.partition

    @property
    def skipped(self) -> int:
        """Offsets without a message: compacted, aborted, or control records."""
        return self.next_offset - self.first_offset - self.read


class Moved(AnalyticsError):
    """Other offsets or epochs are in the table than this owner expects: nothing was landed.

    Attributes:
        lost: partitions that have a new owner (or no row any more); their buffers are worthless.
        elsewhere: partitions that are still ours, with the offset at which to go on.
    """

    def __init__(self, lost: set[Partition], elsewhere: dict[Partition, int]) -> None:
        super().__init__(f"lost {sorted(lost)}, moved {sorted(elsewhere.items())}")
        self.lost = lost
        self.elsewhere = elsewhere


def claim(
    connection: Connection,
    conninfo: str,
    partition: Partition,
    first_offset: int,
    of_new_source: Mapping[int, int] | None = None,
) -> Claim:
    """Become the owner of a partition, in a transaction of its own.

    Waits for the previous owner's open transaction; one that is stuck is ended after 2 s.

    Args:
        connection: idle.
        conninfo: for ending what blocks the claim.
        partition: what to own.
        first_offset: where to begin if it has never been claimed.
        of_new_source: where each partition that the source has now begins instead, if none of them has ever been
            claimed; those that come later begin at the `first_offset` of their own claim.

    Raises:
        psycopg.Error: Postgres.
    """
    own_name = connection.info.parameter_status("application_name") or ""
    with blockers_ended(conninfo, backend_of(connection).pid, own_name):
        connection.rollback()
        while True:
            with connection.transaction():
                connection.execute(f"SET LOCAL statement_timeout = '{_CLAIM_TIMEOUT}'")
                row = connection.execute(_CLAIM, partition).fetchone()
            if row is not None:
                return Claim(*row)
            _begin(connection, partition, first_offset, of_new_source or {})


def _begin(
    connection: Connection, partition: Partition, first_offset: int, of_new_source: Mapping[int, int]
) -> None:
    """Note where a partition begins that nobody has claimed; if its source is new, where all of them do.

    All in one transaction and one after the other: the first row makes the source known, so whoever claims the next
    partition could not tell it from one that was added later.
    """
    source, number = partition
    with connection.transaction():
        connection.execute(_LOCK_SOURCE, (Lock.SOURCE, source))
        known = connection.execute(_IS_KNOWN_SOURCE, (source,)).fetchone()
        is_known = bool(known and known[0])
        first = {number: first_offset} if is_known else {number: first_offset, **of_new_source}
        connection.execute(_BEGIN, (source, list(first), list(first.values())))


def read(connection: Connection | Cursor, partitions: Iterable[Partition]) -> Mapping[Partition, Claim]:
    """The rows of some partitions; those without a row are left out."""
    sources, numbers = columns_of(partitions)
    return {
        (source, number): Claim(next_offset, epoch)
        for source, number, next_offset, epoch in connection.execute(_READ, (sources, numbers)).fetchall()
    }


def verify(connection: Connection | Cursor, spans: Sequence[Span]) -> None:
    """Make sure that a batch could still be landed.

    Raises:
        Moved: it could not.
    """
    rows = read(connection, [span.key for span in spans])
    lost, elsewhere = set(), {}
    for span in spans:
        row = rows.get(span.key)
        if row is None or row.epoch != span.epoch:
            lost.add(span.key)
        elif row.next_offset != span.first_offset:
            elsewhere[span.key] = row.next_offset
    if lost or elsewhere:
        raise Moved(lost, elsewhere)


def advance(cursor: Cursor, spans: Sequence[Span]) -> bool:
    """Compare-and-set all partitions of a batch, inside the landing transaction.

    Returns:
        Whether every one of them matched; if not, the caller must roll back and `verify`.
    """
    if not spans:
        return True
    sources, numbers = columns_of(span.key for span in spans)
    firsts, nexts = [span.first_offset for span in spans], [span.next_offset for span in spans]
    epochs, caught_up = [span.epoch for span in spans], [span.caught_up_at for span in spans]
    cursor.execute(_ADVANCE, (sources, numbers, firsts, nexts, epochs, caught_up))
    return cursor.rowcount == len(spans)


def skip_to(
    connection: Connection,
    conninfo: str,
    partition: Partition,
    target: int,
    *,
    note: str,
    check: Callable[[int], None] = lambda _next_offset: None,
) -> Claim:
    """Go on reading a partition at `target`, and record in the ledger what was skipped (or is read again).

    Takes the partition from whoever owns it; a running `analytics ingest` goes on from there.

    Args:
        connection: idle.
        conninfo: see `claim`.
        partition: which.
        target: the offset to go on at.
        note: why and by whom, for the ledger.
        check: given where the partition really stands once nobody can move it any more; raises to call it off.

    Returns:
        Where it stood before, and the new epoch.

    Raises:
        Moved: somebody else has claimed it in between; try again.
    """
    owner = claim(connection, conninfo, partition, target)
    check(owner.next_offset)
    span = Span(*partition, owner.next_offset, target, 0, owner.epoch)
    # To go on where it stands is a decision too; without offsets its line is no link in the chain of them.
    ends = (owner.next_offset, target) if span.skipped else (None, None)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_RECORD_SKIP, (*partition, *ends, span.skipped, note))
        if not advance(cursor, [span]):
            raise Moved({partition}, {})
        # Whoever decides about offsets decides about the topic of this name as it is now.
        cursor.execute(_FORGET_TOPIC, partition)
    return owner


def retire(connection: Connection, epochs: Mapping[Partition, int], *, note: str) -> None:
    """Say of partitions that nobody reads them any more, so that no bucket waits for them; a claim takes that back.

    Args:
        connection: idle.
        epochs: of each, as it stands.
        note: why and by whom, for the ledger.

    Raises:
        Moved: somebody claimed one of them meanwhile; nothing was changed.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_RETIRE, (*columns_of(epochs), list(epochs.values())))
        if cursor.rowcount != len(epochs):
            raise Moved(set(epochs), {})
        cursor.executemany(_RECORD_SKIP, [(*key, None, None, 0, note) for key in epochs])


def columns_of(partitions: Iterable[Partition]) -> tuple[list[str], list[int]]:
    """Their sources and their numbers."""
    found = list(partitions)
    return [source for source, _ in found], [number for _, number in found]
