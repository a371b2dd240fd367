"""Whether a run stored what it was sent: without that its figure is refused.

Belongs here: what to expect of a workload, and the comparison. Does not belong here: timing.
"""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from benchmarks.workload import Workload
from tests.e2e.local import Pipe

READ = "SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches"
"""Messages that have been read, by the ledger."""
_LEDGER = """
SELECT coalesce(sum(read), 0)::bigint, coalesce(sum(stored), 0)::bigint, coalesce(sum(duplicate), 0)::bigint,
    coalesce(sum(dead), 0)::bigint, count(*) FILTER (WHERE read <> stored + duplicate + dead)
FROM ingest_batches
"""
_GAPS = """
SELECT count(*) FROM (
    SELECT first_offset - lag(next_offset, 1, 0::bigint) OVER (
        PARTITION BY source, partition ORDER BY first_offset
    ) AS gap FROM ingest_batches
) AS steps WHERE gap <> 0
"""
_ENDS = "SELECT coalesce(sum(next_offset), 0)::bigint FROM ingest_offsets"
_EVENTS = "SELECT count(*) FROM events"
_DEAD = "SELECT count(*) FROM dead_letter_events"
_REGISTERED = "SELECT coalesce(sum(count), 0)::bigint FROM rollup_deltas WHERE kind = 'register'"
_UNMATCHED = """
SELECT count(*) FROM (SELECT DISTINCT hour, batch_id FROM rollup_deltas) AS deltas
FULL JOIN pending_batches AS pending USING (hour, batch_id)
WHERE deltas.batch_id IS NULL OR pending.batch_id IS NULL
"""


class Refused(AnalyticsError):
    """The books of a run do not balance: there is no figure."""


@dataclass(frozen=True)
class Expected:
    """What must become of a workload."""

    read: int
    stored: int
    duplicate: int
    dead: int


def expect(work: Workload) -> Expected:
    """Derived from the messages: what the decoder refuses is dead, equal messages are stored once."""
    values = Counter(value for values in work.values for value in values)
    dead: Counter[bytes | None] = Counter()
    now = datetime.now(UTC)
    for batch in work.batches(20_000):
        dead.update(letter.value for letter in decode_batches(batch, now=now, limits=Limits()).dead)
    stored = len(values.keys() - dead.keys())
    return Expected(len(work), stored, len(work) - stored - dead.total(), dead.total())


def check_landed(conninfo: str, expected: Expected) -> None:
    """The tables against what was sent, the ledger against itself.

    Raises:
        Refused: with every difference.
    """
    with psycopg.connect(conninfo) as opened:
        read, stored, duplicate, dead, unbalanced = _row(opened, _LEDGER)
        found = {
            "messages read": (read, expected.read),
            "events by the ledger": (stored, expected.stored),
            "duplicates by the ledger": (duplicate, expected.duplicate),
            "dead letters by the ledger": (dead, expected.dead),
            "ledger rows that do not balance": (unbalanced, 0),
            "gaps between the batches of a partition": (_row(opened, _GAPS)[0], 0),
            "sum of the offsets": (_row(opened, _ENDS)[0], expected.read),
            "rows of dead_letter_events": (_row(opened, _DEAD)[0], expected.dead),
            **_tables(opened, expected.stored),
        }
    _refuse(found)


def check_copied(conninfo: str, stored: int) -> None:
    """The tables that the ceiling fills.

    Raises:
        Refused: with every difference.
    """
    with psycopg.connect(conninfo) as opened:
        found = _tables(opened, stored)
    _refuse(found)


def _tables(opened: psycopg.Connection, stored: int) -> dict[str, tuple[int, int]]:
    return {
        "rows of events": (_row(opened, _EVENTS)[0], stored),
        "events counted by the deltas": (_row(opened, _REGISTERED)[0], stored),
        "batches with deltas but not pending, or the reverse": (_row(opened, _UNMATCHED)[0], 0),
    }


def _row(opened: psycopg.Connection, statement: str) -> tuple[int, ...]:
    row = opened.execute(statement.encode()).fetchone()
    assert row is not None
    return row


def _refuse(found: dict[str, tuple[int, int]]) -> None:
    wrong = [f"{what}: {is_} instead of {should}" for what, (is_, should) in found.items() if is_ != should]
    if wrong:
        raise Refused("the figure is refused: " + "; ".join(wrong))


def settle(pipe: Pipe, *, within: float) -> None:
    """Wait until what was sent to a whole stack has landed, then check its books; `within` is in s.

    Raises:
        Refused: they do not balance, or it does not end.
    """
    limit, last = time.monotonic() + within, -1
    while (read := int(pipe.sql(READ)[0][0])) != last:
        if time.monotonic() > limit:
            raise Refused("events are still landing long after the last was sent")
        last = read
        time.sleep(2.0)
    try:
        pipe.check_books()
    except AssertionError as error:
        raise Refused("the figure is refused: the books of the stack do not balance") from error
