"""The proof that nothing was lost or doubled: every balance of the ledger, with its numbers and broken places.

Belongs here: the questions, asked in one snapshot, so that landings in between don't count, and their answers as
plain values. Does not belong here: sums against the tables (`storage.audit_tables`), sums of a range
(`storage.conservation`), writing the ledger (`storage.ledger`), rollups and freshness (`storage.books`).

Batches of a partition follow one another in the order of their ids: an owner takes the next id only after it has
read what the batch before committed. (Not in the order of offsets, because an operator may go back.)

Every sum is aggregated by the server; only broken places are fetched, `MOST_PLACES` of each kind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from analytics_pipeline.storage.audit_tables import of_tables
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.verdicts import BEGINNING, MOST_PLACES, Check, Place, Values, judged, one_row

_BATCHES = """
SELECT count(*), count(DISTINCT (batch.source, batch.partition)),
    coalesce(sum(read), 0)::bigint, coalesce(sum(stored), 0)::bigint, coalesce(sum(duplicate), 0)::bigint,
    coalesce(sum(dead), 0)::bigint, coalesce(sum(skipped), 0)::bigint,
    coalesce(sum(next_offset - first_offset), 0)::bigint,
    coalesce(sum(read) FILTER (WHERE first_offset IS NOT NULL), 0)::bigint
FROM ingest_batches AS batch WHERE batch.committed_at >= %(since)s
"""
_CHAIN = """
WITH start AS (
    SELECT source, partition, min(batch_id) AS batch_id
    FROM ingest_batches WHERE committed_at >= %(since)s AND first_offset IS NOT NULL GROUP BY source, partition
),
chain AS (
    SELECT batch.source, batch.partition, batch.batch_id, batch.first_offset,
        lag(batch.batch_id) OVER sequence AS previous_id, lag(batch.next_offset) OVER sequence AS expected
    FROM start
    CROSS JOIN LATERAL (
        (SELECT * FROM ingest_batches AS earlier
        WHERE earlier.source = start.source AND earlier.partition = start.partition
            AND earlier.batch_id < start.batch_id AND earlier.first_offset IS NOT NULL
        ORDER BY earlier.batch_id DESC LIMIT 1)
        UNION ALL
        (SELECT * FROM ingest_batches AS present
        WHERE present.source = start.source AND present.partition = start.partition
            AND present.batch_id >= start.batch_id AND present.first_offset IS NOT NULL)
    ) AS batch
    WINDOW sequence AS (PARTITION BY batch.source, batch.partition ORDER BY batch.batch_id)
)
SELECT source, partition, expected, first_offset, previous_id, batch_id, count(*) OVER ()
FROM chain WHERE first_offset <> expected
ORDER BY batch_id LIMIT %(most)s
"""
_UNBALANCED = """
SELECT source, partition, first_offset, next_offset, batch_id, read, stored, duplicate, dead, skipped, count(*) OVER ()
FROM ingest_batches WHERE committed_at >= %(since)s AND read <> stored + duplicate + dead
ORDER BY batch_id LIMIT %(most)s
"""
_UNCOUNTED = """
SELECT source, partition, first_offset, next_offset, batch_id, read, skipped, count(*) OVER ()
FROM ingest_batches WHERE committed_at >= %(since)s AND next_offset - first_offset <> read + skipped
ORDER BY batch_id LIMIT %(most)s
"""
_ENDS = """
SELECT row.source, row.partition, last.next_offset, row.next_offset, last.batch_id, count(*) OVER ()
FROM ingest_offsets AS row
CROSS JOIN LATERAL (
    SELECT batch.next_offset, batch.batch_id FROM ingest_batches AS batch
    WHERE batch.source = row.source AND batch.partition = row.partition AND batch.first_offset IS NOT NULL
    ORDER BY batch.batch_id DESC LIMIT 1
) AS last
WHERE last.next_offset <> row.next_offset
ORDER BY row.source, row.partition LIMIT %(most)s
"""
_PARTITIONS = "SELECT count(*) FROM ingest_offsets"
_POSTED = """
SELECT
    (SELECT coalesce(sum(accepted), 0)::bigint FROM http_accepted),
    (SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches WHERE source = 'http'),
    (SELECT coalesce(sum(events), 0)::bigint FROM http_inbox)
"""


def verify(connection: Connection, *, since: datetime = BEGINNING) -> list[Check]:
    """All checks, in one snapshot: the ledger itself, and its sums against the tables.

    Args:
        connection: idle.
        since: look at batches from then on; what was accepted over REST is always counted as a whole.
    """
    with snapshot(connection):
        values = {"since": since, "most": MOST_PLACES}
        return [*_of_ledger(connection, values), *of_tables(connection, values)]


def verify_ledger(connection: Connection, *, since: datetime = BEGINNING) -> list[Check]:
    """Those checks that need no look at the events: cheap enough for every few minutes."""
    with snapshot(connection):
        return _of_ledger(connection, {"since": since, "most": MOST_PLACES})


def breaks(connection: Connection, *, since: datetime) -> tuple[int, int]:
    """Of those checks, the two for every few seconds: how many batches do not begin where the one before ended, which
    may be older than `since`, and how many do not add up.

    Args:
        connection: in a snapshot.
        since: look at batches from then on.
    """
    rows = [
        connection.execute(statement, {"since": since, "most": 1}).fetchone()
        for statement in (_CHAIN, _UNBALANCED)
    ]
    gaps, unbalanced = (0 if row is None else int(row[-1]) for row in rows)
    return gaps, unbalanced


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """One transaction that only reads, and sees one moment."""
    connection.rollback()
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _of_ledger(connection: Connection, values: Values) -> list[Check]:
    [lines, partitions, *totals] = one_row(connection, _BATCHES, values)
    read, stored, duplicate, dead, skipped, offsets, read_there = totals
    return [
        judged(
            "offsets_follow_one_another",
            "each batch begins where the one before it ended",
            {"partitions": partitions, "lines": lines},
            connection.execute(_CHAIN, values).fetchall(),
            lambda source, partition, expected, first, before, batch: Place(
                f"batch {before} ended at {expected}, batch {batch} begins at {first}",
                source, partition, min(expected, first), max(expected, first), (before, batch),
            ),
        ),
        judged(
            "offsets_are_read_or_skipped",
            "next offset - first offset = read + skipped",
            {"offsets": offsets, "read": read_there, "skipped": skipped},
            connection.execute(_UNCOUNTED, values).fetchall(),
            lambda source, partition, first, following, batch, read, skipped: Place(
                f"{following - first} offsets, but {read} read and {skipped} skipped",
                source, partition, first, following, (batch,),
            ),
        ),
        judged(
            "messages_are_accounted_for",
            "read = stored + duplicate + dead",
            {"read": read, "stored": stored, "duplicate": duplicate, "dead": dead},
            connection.execute(_UNBALANCED, values).fetchall(),
            lambda source, partition, first, following, batch, read, stored, duplicate, dead, _skipped: Place(
                f"{read} read, but {stored} stored, {duplicate} duplicate and {dead} dead",
                source, partition, first, following, (batch,),
            ),
        ),
        judged(
            "offsets_are_the_ledgers",
            "every partition stands where its last batch ended",
            {"partitions": int(one_row(connection, _PARTITIONS, values)[0])},
            connection.execute(_ENDS, values).fetchall(),
            lambda source, partition, end, at, batch: Place(
                f"the last batch, {batch}, ended at {end}, but the partition stands at {at}",
                source, partition, min(end, at), max(end, at), (batch,),
            ),
        ),
        _posted(connection, values),
    ]  # fmt: skip


def _posted(connection: Connection, values: Values) -> Check:
    accepted, read, waiting = one_row(connection, _POSTED, values)
    found = Check(
        "posted_events_are_read_or_wait",
        "accepted over REST = read + waiting in the inbox",
        {"accepted": accepted, "read": read, "waiting": waiting},
    )
    if accepted != read + waiting:
        found.broken = 1
        found.places = [Place(f"{accepted} accepted, but {read} read and {waiting} waiting", "http")]
    return found
