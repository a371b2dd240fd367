"""What must be in the tables after any fault: exactly what Kafka has accepted, once."""

from collections import Counter, defaultdict
from typing import Any

import psycopg

from analytics_pipeline.storage.rollups import merge_hour, pending_hours
from tests.chaos.load import Load, id_of
from tests.integration.landing_rig import check_books, rows

_EVENTS = "SELECT id::text, source_partition, source_offset FROM events WHERE source = %s"
_DEAD = "SELECT partition, source_offset, value FROM dead_letter_events WHERE source = %s"
_LEDGER = """
SELECT partition, min(first_offset), max(next_offset), sum(read), sum(stored), sum(duplicate), sum(dead), sum(skipped)
FROM ingest_batches WHERE source = %s GROUP BY partition ORDER BY partition
"""


def check(database: str, load: Load, *, skipped: Counter[int] | None = None) -> None:
    """Compare the multiset that was sent with what is stored; then the ledger; then the metrics, twice.

    `skipped`: offsets by partition that a person has decided to leave out.
    """
    topic = load.topic
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    dead = []
    for one in load.delivered:
        if one.message.kind.is_dead:
            dead.append((one.partition, one.offset, one.message.value))
        else:
            places[id_of(topic, one)].append((one.partition, one.offset))

    stored = rows(database, _EVENTS, topic)
    compare("events", Counter(row[0] for row in stored), Counter(places.keys()))
    for event_id, partition, offset in stored:
        copies = [at for number, at in places[event_id] if number == partition]
        assert copies, f"{event_id} is stored as of {partition}@{offset}, where it was never sent"
        assert offset == min(copies), f"{event_id}: not the first of {places[event_id]} stayed, but {offset}"
    found = [(number, offset, value) for number, offset, value in rows(database, _DEAD, topic)]
    compare("dead letters", Counter(found), Counter(dead))

    sent = Counter(one.partition for one in load.delivered)
    ends = load.ends()
    ledger = rows(database, _LEDGER, topic)
    left_out = skipped or Counter()
    assert [(number, first, end, read, passed) for number, first, end, read, _, _, _, passed in ledger] == [
        (number, 0, ends[number], sent[number], left_out[number]) for number in sorted(ends)
    ]
    assert sum(row[4] for row in ledger) == len(places)
    assert sum(row[6] for row in ledger) == len(dead)
    assert sum(row[5] for row in ledger) == len(load.delivered) - len(places) - len(dead)

    check_books(database)
    merge_everything(database)
    check_books(database)


def merge_everything(database: str) -> None:
    """What Dagster's live run does with pending deltas."""
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC") as connection:
        while hours := pending_hours(connection):
            for pending in hours:
                merge_hour(connection, pending.hour, run_id="chaos")


def compare(what: str, found: Counter[Any], expected: Counter[Any]) -> None:
    """Two multisets: nothing lost, nothing doubled."""
    lost, doubled = expected - found, found - expected
    assert not lost, f"{lost.total()} {what} lost, such as {list(lost.items())[:3]}"
    assert not doubled, f"{doubled.total()} {what} too many, such as {list(doubled.items())[:3]}"
