"""Landing dead letters again, judged by the present definitions and limits: `replay`.

Belongs here: taking open letters into a landing transaction, and saying in it what became of them. Does not belong
here: the transaction itself (`storage.landing`), finding and discarding (`storage.dead_letters`).

A letter keeps the coordinates of its message, and with them the id that the message would have had. It is settled in
the transaction that stores its event, so a replay may be killed anywhere and repeated: what is settled is not taken
again. A letter that is still bad stays open with its new reason.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa

from analytics_pipeline.errors import InvariantBroken
from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.definitions import Definitions
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import (
    REPLAY_SOURCE,
    DeadLetter,
    PlainMessage,
    RawBatch,
    decode_headers,
)
from analytics_pipeline.events.times import micros
from analytics_pipeline.storage import ledger
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.storage.dead_letters import MATCHING, Filter
from analytics_pipeline.storage.landing import CommitUnknown, Lander, TimedOut
from analytics_pipeline.storage.portions import fitting
from analytics_pipeline.storage.refusals import split_at_floor
from analytics_pipeline.storage.retention import raw_floor

BATCH_SIZE = 2_000
_MOST_BYTES = 32 * 2**20

# Not locked: what somebody else holds at this moment must not end the search.
_CANDIDATES = f"""
SELECT id, coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0) + coalesce(octet_length(headers), 0)
FROM dead_letter_events
WHERE status = 'open' AND id > %(after)s AND id <= %(last)s AND {MATCHING}
ORDER BY id LIMIT %(rows)s
"""  # noqa: S608  (a constant of ours)
_TAKE = """
SELECT id, source, partition, source_offset, key, value, headers, coalesce(message_timestamp, created_at)
FROM dead_letter_events WHERE id = ANY(%s) AND status = 'open' ORDER BY id FOR UPDATE SKIP LOCKED
"""
_LAST = "SELECT coalesce(max(id), 0) FROM dead_letter_events"
_SETTLE = """
UPDATE dead_letter_events SET
    status = 'replayed', replay_batch_id = %s, settled_at = clock_timestamp(), attempts = attempts + 1,
    attempted_at = clock_timestamp()
WHERE id = ANY(%s) AND status = 'open'
"""
_KEEP = """
UPDATE dead_letter_events AS letter SET
    reason = verdict.reason, detail = verdict.detail, fingerprint = verdict.fingerprint,
    event_type = coalesce(verdict.event_type, letter.event_type),
    producer = coalesce(letter.producer, verdict.producer), attempts = letter.attempts + 1,
    attempted_at = clock_timestamp()
FROM unnest(%s::bigint [], %s::text [], %s::text [], %s::text [], %s::text [], %s::text [])
    AS verdict (id, reason, detail, fingerprint, event_type, producer)
WHERE letter.id = verdict.id AND letter.status = 'open'
"""


@dataclass
class Replayed:
    """What became of letters.

    Attributes:
        tried: settled or still bad.
        stored: whose event is stored now.
        duplicate: whose event was stored already.
        still_bad: by their new reason.
        busy: held by somebody else at this moment, another replay perhaps, and left to it.
        reached: id of the last letter that was looked at; all matching ones up to it were.
    """

    tried: int = 0
    stored: int = 0
    duplicate: int = 0
    still_bad: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    reached: int = 0

    def add(self, other: "Replayed") -> None:
        """Both together."""
        self.tried += other.tried
        self.stored += other.stored
        self.duplicate += other.duplicate
        self.still_bad += other.still_bad
        self.busy += other.busy
        self.reached = max(self.reached, other.reached)


class _Taken(NamedTuple):
    """A letter in our hands; `reached` is when its message reached its source."""

    id: int
    source: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: bytes | None
    reached: datetime

    @property
    def coordinates(self) -> tuple[str, int, int]:
        return self.source, self.partition, self.offset


@dataclass
class Replay:
    """Letters of one transaction; no two have the same coordinates. See `Lander.land_replay`."""

    letters: Sequence[_Taken]
    decoded: Decoded

    def settle(
        self, cursor: Cursor, batch_id: int, stored: pa.Table, dead: Sequence[DeadLetter]
    ) -> list[ledger.Line]:
        """Write down what became of each letter; return the ledger's line, none if nothing was settled.

        Raises:
            InvariantBroken: a letter is unaccounted for.
        """
        still_bad = {(letter.source, letter.partition, letter.offset): letter for letter in dead}
        settled = [letter.id for letter in self.letters if letter.coordinates not in still_bad]
        kept = [letter.id for letter in self.letters if letter.coordinates in still_bad]
        verdicts = [
            still_bad[letter.coordinates] for letter in self.letters if letter.coordinates in still_bad
        ]
        changed = cursor.execute(_SETTLE, (batch_id, settled)).rowcount
        changed += cursor.execute(
            _KEEP,
            (
                kept,
                [verdict.reason.value for verdict in verdicts],
                [verdict.detail for verdict in verdicts],
                [verdict.fingerprint for verdict in verdicts],
                [verdict.event_type for verdict in verdicts],
                [verdict.producer for verdict in verdicts],
            ),
        ).rowcount
        lines = ledger.balance([], self.decoded, stored, dead)
        line = ledger.Line(
            source=REPLAY_SOURCE,
            partition=0,
            first_offset=None,
            next_offset=None,
            read=len(settled),
            stored=sum(line.stored for line in lines),
            duplicate=sum(line.duplicate for line in lines),
            # Those that are still bad were counted dead when they were first read.
            dead=0,
            skipped=0,
        )
        if changed != len(self.letters) or line.read != line.stored + line.duplicate:
            raise InvariantBroken(f"a replay of {len(self.letters)} letters does not balance: {line}")
        return [line] if settled else []


def replay(
    lander: Lander,
    which: Filter,
    *,
    definitions: Callable[[], Definitions],
    limits: Limits,
    limit: int | None = None,
    after: int = 0,
    batch_size: int = BATCH_SIZE,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Replayed]:
    """Land the open letters that `which` lets through and that are there when this begins, oldest first.

    Args:
        lander: for this alone.
        which: the letters; its statuses don't matter, only open ones are replayed.
        definitions: asked for each batch.
        limits: the present ones.
        limit: try at most so many.
        after: only letters of greater ids.
        batch_size: letters of one transaction.
        now: the clock, for ages.

    Yields:
        What became of each batch once it is committed. A batch whose COMMIT got no answer is tried again, and is
        missing here if it had been committed.

    Raises:
        See `storage.landing`; what was yielded before stays true.
    """
    search = _Search(which, definitions, limits, now, after)
    rows, left = batch_size, limit
    while not search.is_over and (left is None or left > 0):
        try:
            landed = lander.land_replay(lambda cursor: search.take(cursor, min(rows, left or rows)))  # noqa: B023
        except TimedOut:
            if rows == 1:
                raise
            rows = max(1, rows // 2)
        except CommitUnknown:
            # Until the old server process is gone it holds the letters, and they would be passed over.
            lander.resolve([])
        else:
            rows = min(batch_size, rows * 2)
            done = Replayed(
                tried=search.tried,
                stored=sum(line.stored for line in landed.lines) if landed else 0,
                duplicate=sum(line.duplicate for line in landed.lines) if landed else 0,
                still_bad=Counter(letter.reason.value for letter in landed.dead) if landed else Counter(),
                busy=search.busy,
                reached=search.reached,
            )
            left = None if left is None else left - done.tried
            search.go_on()
            if done.tried or done.busy:
                yield done


def preview(
    lander: Lander,
    which: Filter,
    *,
    definitions: Callable[[], Definitions],
    limits: Limits,
    limit: int | None = None,
    after: int = 0,
    batch_size: int = BATCH_SIZE,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Replayed]:
    """What `replay` would do, as far as validation goes: events that are stored already count as stored here.

    Raises:
        psycopg.Error: Postgres.
    """
    search = _Search(which, definitions, limits, now, after)
    left = limit
    while not search.is_over and (left is None or left > 0):
        connection = lander.connection
        with connection.cursor() as cursor:
            found = search.take(cursor, min(batch_size, left or batch_size))
            floor = raw_floor(cursor)
        connection.rollback()
        search.go_on()
        if found is not None:
            _, dead = split_at_floor(found.decoded, floor)
            left = None if left is None else left - search.tried
            yield Replayed(
                tried=search.tried,
                stored=search.tried - len(dead),
                still_bad=Counter(letter.reason.value for letter in dead),
                busy=search.busy,
                reached=search.reached,
            )


class _Search:
    """Goes through the letters by their ids, so that none is tried twice; `go_on` once a batch is committed."""

    def __init__(
        self,
        which: Filter,
        definitions: Callable[[], Definitions],
        limits: Limits,
        now: Callable[[], datetime],
        after: int,
    ) -> None:
        self._parameters = {**which.parameters(), "statuses": None}
        self._definitions = definitions
        self._limits = limits
        self._now = now
        self._after = self._next = after
        self._last: int | None = None
        self.is_over = False
        self.tried = self.busy = 0

    def take(self, cursor: Cursor, rows: int) -> Replay | None:
        """Take the next letters, inside the landing transaction; None if there are none to take."""
        self.tried = self.busy = 0
        if self._last is None:
            [self._last] = cursor.execute(_LAST).fetchone() or [0]
        values = {**self._parameters, "after": self._after, "last": self._last, "rows": rows}
        candidates = fitting(cursor.execute(_CANDIDATES, values).fetchall(), _MOST_BYTES)
        self.is_over = not candidates
        if not candidates:
            return None
        found = [_Taken(*row) for row in cursor.execute(_TAKE, (candidates,)).fetchall()]
        letters = _distinct(found)
        is_cut = len(letters) < len(found)
        self._next = letters[-1].id if is_cut else candidates[-1]
        self.tried = len(letters)
        self.busy = sum(number <= self._next for number in candidates) - len(letters)
        return Replay(letters, self._decode(letters)) if letters else None

    @property
    def reached(self) -> int:
        """Id of the last letter of what was taken."""
        return self._next

    def go_on(self) -> None:
        """What was taken last is done."""
        self._after = self._next

    def _decode(self, letters: Sequence[_Taken]) -> Decoded:
        ordered = sorted(letters, key=lambda letter: letter.coordinates)
        return decode_batches(
            [
                RawBatch(source, partition, [_message(letter) for letter in of_partition])
                for (source, partition), of_partition in groupby(
                    ordered, key=lambda letter: (letter.source, letter.partition)
                )
            ],
            now=self._now(),
            limits=self._limits,
            definitions=self._definitions(),
        )


def _distinct(letters: Sequence[_Taken]) -> list[_Taken]:
    """Those before the first whose coordinates were there already: a topic made anew counts from 0 again."""
    seen = set()
    for at, letter in enumerate(letters):
        if letter.coordinates in seen:
            return list(letters[:at])
        seen.add(letter.coordinates)
    return list(letters)


def _message(letter: _Taken) -> PlainMessage:
    return PlainMessage(
        content=letter.value,
        position=letter.offset,
        millis=micros(letter.reached) // 1000,
        name=letter.key,
        extra=decode_headers(letter.headers),
    )
