"""Landing rows of the original's history: judged like messages from Kafka, in one transaction with their progress.

Belongs here: one batch, and what would become of it. Does not belong here: reading the rows (`storage.original`), the
transaction itself (`storage.landing`), the order of days and what failures mean (`storage.import_runs`).

Their ids stay, so that a row which is stored already is a duplicate, also when an import is repeated. The original gave
messages from Kafka ids of its own: such a row is a duplicate, too, when ingest has stored an event of the same time and
content (`events.imported.content`) from elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.imported import content, message
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import IMPORT_SOURCE, DeadLetter, RawBatch
from analytics_pipeline.events.times import MICROSECOND
from analytics_pipeline.storage import import_progress, ledger, source_statistics
from analytics_pipeline.storage.connection import Connection, Lock
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.storage.import_progress import Outcome, Progress
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Span
from analytics_pipeline.storage.original import Row
from analytics_pipeline.storage.refusals import split_at_floor
from analytics_pipeline.storage.retention import raw_floor

_ALONE = "SELECT pg_advisory_xact_lock(%s, 1)"
_NEXT_OFFSET = "SELECT coalesce(max(next_offset), 0) FROM ingest_batches WHERE source = %s AND partition = %s"
# The original cut times to microseconds where they are rounded here, so the same one may be a microsecond later.
_SAME_TIME = """
SELECT twin.timestamp, twin.event_type, twin.user_id, twin.session_id, twin.properties
FROM unnest(%(times)s::timestamptz []) AS wanted (at)
CROSS JOIN LATERAL (
    SELECT events.timestamp, event_type, user_id, session_id, properties::text AS properties FROM events
    WHERE events.timestamp >= wanted.at AND events.timestamp <= wanted.at + interval '1 microsecond'
        AND events.timestamp >= %(first)s AND events.timestamp <= %(last)s
        AND events.source IS DISTINCT FROM '_import'
    OFFSET 0
) AS twin
"""
_DEAD_BEFORE = """
SELECT convert_from(key, 'UTF8') FROM dead_letter_events WHERE source = '_import' AND partition = %s AND key = ANY(%s)
"""
_STORED_ALREADY = """
SELECT count(*) FROM unnest(%(times)s::timestamptz [], %(ids)s::uuid []) AS wanted (at, id)
CROSS JOIN LATERAL (
    SELECT FROM events
    WHERE events.timestamp = wanted.at AND events.id = wanted.id
        AND events.timestamp >= %(first)s AND events.timestamp <= %(last)s
    OFFSET 0
) AS known
"""


@dataclass(frozen=True)
class Rules:
    """What judges a batch: definitions and the clock are asked each time."""

    definitions: Callable[[], Definitions]
    limits: Limits
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass
class Batch:
    """Rows in the hands of a landing transaction; see `Lander.land_import`."""

    before: Progress
    rows: Sequence[Row]
    first_offset: int
    decoded: Decoded
    after: Progress | None = None
    """Where the day is once this has been committed."""

    def settle(
        self, cursor: Cursor, batch_id: int, stored: pa.Table, dead: Sequence[DeadLetter]
    ) -> list[ledger.Line]:
        """Write down dead letters, the sums of the source and the progress of the day; return the ledger's line.

        Raises:
            Overtaken: the day was moved on by somebody else.
            InvariantBroken: a row is unaccounted for.
        """
        next_offset, count = self.first_offset + len(self.rows), len(self.rows)
        span = Span(IMPORT_SOURCE, self.before.partition, self.first_offset, next_offset, count, epoch=0)
        ledger.write_dead_letters(cursor, batch_id, dead)
        lines = ledger.balance([span], self.decoded, stored, dead)
        source_statistics.append(cursor, batch_id, self.decoded, stored, dead, lines)
        kept = set(stored["source_offset"].to_pylist())
        lost = {letter.offset for letter in dead}
        outcomes = []
        for offset, row in enumerate(self.rows, self.first_offset):
            is_kept, is_lost = offset in kept, offset in lost
            outcomes.append(Outcome(row.event_type, row.hash, is_kept, not (is_kept or is_lost), is_lost))
        last = self.rows[-1]
        self.after = self.before.with_batch(outcomes, (last.timestamp, last.id))
        import_progress.move(cursor, self.before, self.after)
        return lines


def land(lander: Lander, progress: Progress, rows: Sequence[Row], rules: Rules) -> Progress:
    """Land the next rows of a day; return where the day is then.

    Args:
        lander: for this alone.
        progress: where the day is.
        rows: what follows, at least one.
        rules: what judges them.

    Raises:
        Overtaken: the day is not where `progress` says.
        See `storage.landing`: after `CommitUnknown`, `resolve([])` and read the progress again.
    """
    taken: list[Batch] = []

    def take(cursor: Cursor) -> Batch:
        # One after the other, also when a process was killed whose transaction has not ended yet.
        cursor.execute(_ALONE, (Lock.IMPORT,))
        found = cursor.execute(_NEXT_OFFSET, (IMPORT_SOURCE, progress.partition)).fetchone()
        assert found is not None
        batch = Batch(progress, rows, found[0], _judged(cursor, progress, rows, found[0], rules))
        taken[:] = [batch]
        return batch

    lander.land_import(take)
    after = taken[0].after
    assert after is not None
    return after


def preview(
    connection: Connection, progress: Progress, rows: Sequence[Row], rules: Rules
) -> tuple[list[Outcome], list[DeadLetter]]:
    """What `land` would make of the next rows; nothing is written.

    Args:
        connection: in no transaction, read-only for all that this needs.
        progress: where the day is.
        rows: what follows, at least one.
        rules: what judges them.

    Returns:
        An outcome for each, in no order, of no hash; and the dead letters.
    """
    with connection.transaction(), connection.cursor() as cursor:
        decoded = _judged(cursor, progress, rows, 0, rules)
        events, dead = split_at_floor(decoded, raw_floor(cursor))
        known = 0
        if events.num_rows:
            ids = [rows[at].id for at in events["source_offset"].to_pylist()]
            times = events["timestamp"].to_pylist()
            values = {"times": times, "ids": ids, "first": times[0], "last": times[-1]}
            [known] = cursor.execute(_STORED_ALREADY, values).fetchone() or [0]
    lost = {letter.offset for letter in dead}
    new = [at for at in events["source_offset"].to_pylist() if at not in lost]
    outcomes = [Outcome(rows[at].event_type, 0, 0, 0, 1) for at in sorted(lost)]
    outcomes += [Outcome("", 0, 1, 0, 0)] * (len(new) - known)
    outcomes += [Outcome("", 0, 0, 1, 0)] * (len(rows) - len(outcomes))
    return outcomes, dead


def _judged(
    cursor: Cursor, progress: Progress, rows: Sequence[Row], first_offset: int, rules: Rules
) -> Decoded:
    """The rows as messages, decoded; what was dealt with already counts as a duplicate."""
    messages = [
        message(
            offset=offset,
            identity=row.id,
            event_type=row.event_type,
            user_id=row.user_id,
            session_id=row.session_id,
            properties=row.properties,
            timestamp=row.written,
            reached=row.reached,
        )
        for offset, row in enumerate(rows, first_offset)
    ]
    decoded = decode_batches(
        [RawBatch(IMPORT_SOURCE, progress.partition, messages)],
        now=rules.now(),
        limits=rules.limits,
        definitions=rules.definitions(),
    )
    known = _twins(cursor, rows) | _dead_before(cursor, progress, rows)
    return _without(decoded, {first_offset + at for at in known}) if known else decoded


def _twins(cursor: Cursor, rows: Sequence[Row]) -> set[int]:
    """Positions of rows that ingest has stored from elsewhere, under another id."""
    times = sorted({row.timestamp for row in rows})
    found = cursor.execute(
        _SAME_TIME, {"times": times, "first": times[0], "last": times[-1] + MICROSECOND}
    ).fetchall()
    if not found:
        return set()
    there = {(at.astimezone(UTC), content(*what)) for at, *what in found}
    moments = {at for at, _ in there}
    twins = set()
    for position, row in enumerate(rows):
        near = [at for at in (row.timestamp, row.timestamp + MICROSECOND) if at in moments]
        if near:
            what = content(row.event_type, row.user_id, row.session_id, row.properties)
            if any((at, what) in there for at in near):
                twins.add(position)
    return twins


def _dead_before(cursor: Cursor, progress: Progress, rows: Sequence[Row]) -> set[int]:
    """Positions of rows that an earlier pass made dead letters of: they are replayed, not made again."""
    if not progress.letters:
        return set()
    keys = [str(row.id).encode() for row in rows]
    found = {key for (key,) in cursor.execute(_DEAD_BEFORE, (progress.partition, keys))}
    return {position for position, row in enumerate(rows) if str(row.id) in found}


def _without(decoded: Decoded, offsets: set[int]) -> Decoded:
    """The same without these, which count as duplicates."""
    [batch] = decoded.batches
    known = np.isin(decoded.events["source_offset"].to_numpy(), list(offsets))
    dead = [letter for letter in decoded.dead if letter.offset not in offsets]
    decoded.duplicates[batch.source, batch.partition] += int(known.sum()) + len(decoded.dead) - len(dead)
    decoded.events = decoded.events.filter(pa.array(~known))
    decoded.dead = dead
    return decoded
