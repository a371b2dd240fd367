"""Dead letters for people: finding, grouping, reading, discarding, and the proof that none is missing.

Belongs here: the statements on `dead_letter_events`, and plain values as answers, for the command line and REST alike.
Does not belong here: writing new dead letters (`storage.ledger`), landing them again (`storage.replays`), taking them
out with their bytes (`storage.dead_letter_export`).
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg.rows import class_row

from analytics_pipeline.events.fingerprint import MOST_BYTES, shape_of
from analytics_pipeline.events.messages import Headers, decode_headers
from analytics_pipeline.events.reach import EVERYTHING, Reach
from analytics_pipeline.storage.connection import Connection

CONSERVED = """
WITH ledger AS (
    SELECT
        coalesce(sum(dead), 0)::bigint AS dead,
        coalesce(sum(read) FILTER (WHERE source = '_replay'), 0)::bigint AS replayed
    FROM ingest_batches
),
letters AS (
    SELECT
        count(*) AS all_of_them,
        count(*) FILTER (WHERE status = 'replayed') AS replayed
    FROM dead_letter_events
)
SELECT balance.name, balance.by_ledger, balance.by_table
FROM ledger CROSS JOIN letters CROSS JOIN LATERAL (VALUES
    ('dead letters', ledger.dead, letters.all_of_them),
    ('replayed dead letters', ledger.replayed, letters.replayed)
) AS balance (name, by_ledger, by_table)
"""
"""Two rows (name, by the ledger, by the table); the two numbers of each are equal at every moment.

A letter is counted dead once, when it is read; it stays in the table whatever becomes of it. A replay's line (source
`_replay`) counts the letters that it settled, read = stored + duplicate; one that is still bad is in no line again.
"""

MOST_PRODUCERS = 10
"""Producers that are named of a group."""

MATCHING = """
    (%(ids)s::bigint [] IS NULL OR id = ANY(%(ids)s))
    AND (%(reasons)s::text [] IS NULL OR reason = ANY(%(reasons)s))
    AND (
        %(event_types)s::text [] IS NULL OR event_type = ANY(%(event_types)s)
        OR event_type ^@ ANY(%(type_prefixes)s::text [])
    )
    AND (
        %(seen_types)s::text [] IS NULL OR event_type = ANY(%(seen_types)s)
        OR event_type ^@ ANY(%(seen_prefixes)s::text [])
    )
    AND (%(sources)s::text [] IS NULL OR source = ANY(%(sources)s))
    AND (%(producers)s::text [] IS NULL OR producer = ANY(%(producers)s))
    AND (%(groups)s::text [] IS NULL OR fingerprint = ANY(%(groups)s))
    AND (%(statuses)s::text [] IS NULL OR status = ANY(%(statuses)s))
    AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s)
"""
COLUMNS = """
    id, source, partition, source_offset AS offset, reason, detail, event_type, producer, fingerprint AS group, status,
    attempts, created_at, message_timestamp, attempted_at, settled_at, replay_batch_id, note,
    coalesce(octet_length(value), 0) AS size
"""
_FIND = f"""
SELECT {COLUMNS} FROM dead_letter_events
WHERE (%(before)s::bigint IS NULL OR id < %(before)s) AND {MATCHING}
ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608  (constants of this module)
_CONTENT = "SELECT key, value, headers FROM dead_letter_events WHERE id = %s"
_GROUPS = f"""
SELECT
    sample.fingerprint AS group, sample.reason, sample.event_type, sample.detail, counted.producers,
    counted.letters AS count, counted.open, counted.first_seen, counted.last_seen, counted.newest AS sample,
    CASE WHEN octet_length(sample.value) <= %(most_bytes)s THEN sample.value END AS value,
    octet_length(sample.value) > %(most_bytes)s AS is_large
FROM (
    SELECT
        fingerprint, sum(letters)::bigint AS letters, sum(open)::bigint AS open, max(newest) AS newest,
        min(first_seen) AS first_seen, max(last_seen) AS last_seen,
        (array_agg(producer ORDER BY letters DESC, producer) FILTER (WHERE producer IS NOT NULL))
        [:{MOST_PRODUCERS}] AS producers
    FROM (
        SELECT
            fingerprint, producer, count(*) AS letters, count(*) FILTER (WHERE status = 'open') AS open,
            max(id) AS newest, min(created_at) AS first_seen, max(created_at) AS last_seen
        FROM dead_letter_events WHERE {MATCHING} GROUP BY fingerprint, producer
    ) AS of_producer
    GROUP BY fingerprint ORDER BY sum(letters) DESC, max(newest) DESC LIMIT %(limit)s
) AS counted
INNER JOIN dead_letter_events AS sample ON sample.id = counted.newest
ORDER BY counted.letters DESC, counted.newest DESC
"""  # noqa: S608
_COUNT_GROUPS = f"""
SELECT count(DISTINCT fingerprint) FROM dead_letter_events WHERE {MATCHING}
"""  # noqa: S608
_COUNT = f"""
SELECT reason, count(*) FROM dead_letter_events WHERE {MATCHING} GROUP BY reason ORDER BY reason
"""  # noqa: S608
_DISCARD = f"""
UPDATE dead_letter_events SET status = 'discarded', settled_at = clock_timestamp(), note = %(note)s
WHERE status = 'open' AND id = ANY(ARRAY(
    SELECT id FROM dead_letter_events WHERE status = 'open' AND {MATCHING} ORDER BY id LIMIT %(limit)s
))
"""  # noqa: S608
# Batches of a partition follow one another by their ids. A line with a note is a decision of an operator.
_HISTORY = """
SELECT read, dead FROM ingest_batches
WHERE source = %(source)s AND partition = %(partition)s AND read > 0
    AND batch_id > coalesce((
        SELECT max(decided.batch_id) FROM ingest_batches AS decided
        WHERE decided.source = %(source)s AND decided.partition = %(partition)s AND decided.note IS NOT NULL
    ), 0)
ORDER BY batch_id DESC LIMIT %(most)s
"""
_MOST_BATCHES = 1_000


class Status(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    """Its event is stored: by a replay, or it was there already."""
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters: all conditions hold; an empty one holds always.

    An event type that ends in `*` stands for all that begin so. `since` and `until` are about when the letter was
    written, `[since, until)`. `reach` is what may be seen: with event types, no letter whose type is not known.
    """

    ids: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    producers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    reach: Reach = EVERYTHING

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything through."""
        return self == Filter()

    def parameters(self) -> dict[str, Any]:
        """Values of the statements here and in `storage.replays`."""
        seen = self.reach
        return {
            "ids": list(self.ids) or None,
            "reasons": list(self.reasons) or None,
            "event_types": list(self.event_types) or None,
            "type_prefixes": [name[:-1] for name in self.event_types if name.endswith("*")],
            "seen_types": None if seen.event_types is None else list(seen.names),
            "seen_prefixes": list(seen.prefixes),
            "sources": list(self.sources) or None,
            "producers": list(self.producers) or None,
            "groups": list(self.groups) or None,
            "statuses": [status.value for status in self.statuses] or None,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter without its bytes; `size` is the length of its value, `producer` None where nobody gave a name."""

    id: int
    source: str
    partition: int
    offset: int | None
    reason: str
    detail: str
    event_type: str | None
    producer: str | None
    group: str
    status: str
    attempts: int
    created_at: datetime
    message_timestamp: datetime | None
    attempted_at: datetime | None
    settled_at: datetime | None
    replay_batch_id: int | None
    note: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """The message as it came."""

    key: bytes | None
    value: bytes | None
    headers: Headers = field(default=())


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one fingerprint; `sample` is the id of the newest, whose reason, detail and shape are shown.

    `producers` are those that gave a name, the one with the most letters first, at most 10.
    """

    group: str
    reason: str
    event_type: str | None
    detail: str
    shape: str
    producers: tuple[str, ...]
    count: int
    open: int
    first_seen: datetime
    last_seen: datetime
    sample: int


def find(connection: Connection, which: Filter, *, limit: int, before: int | None = None) -> list[Letter]:
    """The newest first; `before` is the last id of the page before."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        return cursor.execute(_FIND, {**which.parameters(), "before": before, "limit": limit}).fetchall()


def read(connection: Connection, number: int, *, reach: Reach = EVERYTHING) -> tuple[Letter, Content] | None:
    """One dead letter with its bytes, or None if there is none that may be seen."""
    which = Filter(ids=(number,), reach=reach)
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        letter = cursor.execute(_FIND, {**which.parameters(), "before": None, "limit": 1}).fetchone()
    content = connection.execute(_CONTENT, (number,)).fetchone()
    return (letter, content_of(*content)) if letter is not None and content is not None else None


def groups(connection: Connection, which: Filter, *, limit: int) -> list[Group]:
    """The largest first."""
    values = {**which.parameters(), "limit": limit, "most_bytes": MOST_BYTES}
    return [
        Group(group, reason, kind, detail, _shape(value, is_large), tuple(producers or ()), *counts)
        for group, reason, kind, detail, producers, *counts, value, is_large in (
            connection.execute(_GROUPS, values)
        )
    ]


def count_groups(connection: Connection, which: Filter) -> int:
    """How many groups there are."""
    [(found,)] = connection.execute(_COUNT_GROUPS, which.parameters()).fetchall()
    return int(found)


def count(connection: Connection, which: Filter) -> Counter[str]:
    """How many, by reason."""
    return Counter(dict(connection.execute(_COUNT, which.parameters()).fetchall()))


def discard(connection: Connection, which: Filter, *, note: str, limit: int | None = None) -> int:
    """Say of open letters that they will not be replayed; their bytes stay. Returns how many, commits."""
    with connection.transaction():
        return connection.execute(_DISCARD, {**which.parameters(), "note": note, "limit": limit}).rowcount


def history(connection: Connection, partition: tuple[str, int]) -> list[tuple[int, int]]:
    """What became of the last messages of a (topic, partition): (read, dead) of up to 1,000 batches, oldest first.

    Batches from before an operator's last decision about the partition are left out.
    """
    source, number = partition
    values = {"source": source, "partition": number, "most": _MOST_BATCHES}
    return [(read, dead) for read, dead in reversed(connection.execute(_HISTORY, values).fetchall())]


def content_of(key: bytes | None, value: bytes | None, headers: bytes | None) -> Content:
    """A message of its stored columns."""
    return Content(key, value, decode_headers(headers))


def _shape(value: bytes | None, is_large: bool | None) -> str:
    return f"more than {MOST_BYTES} bytes" if is_large else shape_of(value)
