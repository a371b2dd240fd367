"""How far the import of each day has come, kept in `import_days` and moved by the transaction that lands a batch.

Belongs here: the statements on that table, and comparing a day with what it should have become.
Does not belong here: landing (`storage.imports`), the order of days (`storage.import_runs`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self
from uuid import UUID

from psycopg.types.json import Jsonb

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.imported import partition_of
from analytics_pipeline.events.messages import IMPORT_SOURCE
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.copying import Cursor
from analytics_pipeline.storage.original import ROW_HASH, Content

_BEGIN = "INSERT INTO import_days (origin, day) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_READ = """
SELECT pass, read_hash, landed_hash, letters, types, reached_timestamp, reached_id,
    verified_at
FROM import_days WHERE origin = %s AND day = %s
"""
_MOVE = """
UPDATE import_days SET
    pass = %(pass)s, read = %(read)s, stored = %(stored)s, duplicate = %(duplicate)s, dead = %(dead)s,
    read_hash = %(read_hash)s, landed = %(landed)s, landed_hash = %(landed_hash)s, letters = %(letters)s,
    types = %(types)s, reached_timestamp = %(reached_timestamp)s, reached_id = %(reached_id)s,
    changed_at = clock_timestamp(), verified_at = NULL
WHERE origin = %(origin)s AND day = %(day)s AND pass = %(old_pass)s AND read = %(old_read)s
"""
_VERIFIED = """
UPDATE import_days SET verified_at = clock_timestamp()
WHERE origin = %s AND day = %s AND pass = %s AND read = %s
"""
# What a replay stored is not what the import stored; it has the time of its transaction in common with its events.
_STORED = f"""
SELECT event_type, count(*), sum({ROW_HASH}::numeric) FROM events
WHERE timestamp >= %(first)s AND timestamp < %(end)s AND source = %(source)s
    AND created_at NOT IN (SELECT began_at FROM ingest_batches WHERE source = '_replay')
GROUP BY event_type
"""  # noqa: S608  (a constant)
_ALL_ORIGINS = "SELECT types, landed_hash FROM import_days WHERE day = %s"
_REASONS = """
SELECT reason, count(*) FROM dead_letter_events WHERE source = %s AND partition = %s GROUP BY reason ORDER BY 2 DESC, 1
"""


class Overtaken(EnvironmentFault):
    """The day is not where this process left it: its last batch landed after all, or another import moved it."""


class Tally(NamedTuple):
    """Events of one type: in this pass, and `landed` by all passes."""

    read: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    landed: int = 0


class Outcome(NamedTuple):
    """What became of one row: exactly one of the three is 1."""

    event_type: str
    hash: int
    stored: int
    duplicate: int
    dead: int


@dataclass(frozen=True)
class Progress:
    """A day of an origin; see the comments of `import_days`."""

    origin: str
    day: date
    number: int = 1
    """Of the pass."""
    read_hash: int = 0
    landed_hash: int = 0
    letters: int = 0
    types: Mapping[str, Tally] = field(default_factory=dict)
    reached: tuple[datetime, UUID] | None = None
    is_verified: bool = False

    @property
    def total(self) -> Tally:
        """All types together."""
        return Tally(*map(sum, zip(*self.types.values(), strict=True))) if self.types else Tally()

    @property
    def partition(self) -> int:
        """Where its events are in the ledger."""
        return partition_of(self.day)

    @property
    def span(self) -> dict[str, datetime]:
        """Its first moment, and the one behind its last."""
        first = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return {"first": first, "end": first + timedelta(days=1)}

    def has_read(self, content: Content) -> bool:
        """Whether this pass has read exactly that: as many of each type, and by their hashes the same events."""
        read = {name: tally.read for name, tally in self.types.items() if tally.read}
        return read == content.types and self.read_hash == content.hash

    def with_batch(self, outcomes: Iterable[Outcome], reached: tuple[datetime, UUID]) -> Self:
        """What it is once a batch has landed whose last row is at `reached`."""
        types, read_hash, landed_hash, letters = (
            dict(self.types),
            self.read_hash,
            self.landed_hash,
            self.letters,
        )
        for name, value, stored, duplicate, dead in outcomes:
            old = types.get(name, Tally())
            types[name] = Tally(
                old.read + 1,
                old.stored + stored,
                old.duplicate + duplicate,
                old.dead + dead,
                old.landed + stored,
            )
            read_hash += value
            landed_hash += value * stored
            letters += dead
        return replace(
            self, types=types, read_hash=read_hash, landed_hash=landed_hash, letters=letters, reached=reached
        )

    def again(self) -> Self:
        """The same day at the beginning of another pass."""
        types = {name: Tally(landed=tally.landed) for name, tally in self.types.items()}
        return replace(
            self, number=self.number + 1, read_hash=0, types=types, reached=None, is_verified=False
        )


def begin(connection: Connection, origin: str, day: date) -> Progress:
    """Where a day is; from now on it has a row.

    Args:
        connection: an autocommit connection.
        origin: whose day.
        day: in UTC.
    """
    connection.execute(_BEGIN, (origin, day))
    return read(connection.cursor(), origin, day)


def read(cursor: Cursor, origin: str, day: date) -> Progress:
    """Where a day is; at its beginning where nothing is known of it."""
    row = cursor.execute(_READ, (origin, day)).fetchone()
    if row is None:
        return Progress(origin, day)
    number, read_hash, landed_hash, letters, types, timestamp, identity, verified_at = row
    return Progress(
        origin, day, number, int(read_hash), int(landed_hash), letters,
        {name: Tally(*numbers) for name, numbers in types.items()},
        None if timestamp is None else (timestamp, identity),
        verified_at is not None,
    )  # fmt: skip


def move(cursor: Cursor, old: Progress, new: Progress) -> None:
    """Move a day on, in the transaction that is open.

    Raises:
        Overtaken: it is not at `old`.
    """
    total = new.total
    timestamp, identity = new.reached or (None, None)
    values = {
        "origin": new.origin, "day": new.day, "pass": new.number, "read": total.read, "stored": total.stored,
        "duplicate": total.duplicate, "dead": total.dead, "read_hash": new.read_hash, "landed": total.landed,
        "landed_hash": new.landed_hash, "letters": new.letters, "types": Jsonb(new.types),
        "reached_timestamp": timestamp, "reached_id": identity, "old_pass": old.number, "old_read": old.total.read,
    }  # fmt: skip
    if cursor.execute(_MOVE, values).rowcount != 1:
        raise Overtaken(f"the import of {new.day} was moved on by somebody else")


def mark_verified(connection: Connection, progress: Progress) -> None:
    """Note that both sides of a day agree."""
    values = (progress.origin, progress.day, progress.number, progress.total.read)
    connection.execute(_VERIFIED, values)


def difference(connection: Connection, progress: Progress) -> str | None:
    """What the day's events here are not what all imports of the day have stored; None where they are."""
    found, total = dict[str, int](), 0
    for name, count, hashes in connection.execute(_STORED, progress.span | {"source": IMPORT_SOURCE}):
        found[name] = count
        total += int(hashes)
    expected, expected_hash = dict[str, int](), 0
    for types, landed_hash in connection.execute(_ALL_ORIGINS, (progress.day,)):
        expected_hash += int(landed_hash)
        for name, numbers in types.items():
            expected[name] = expected.get(name, 0) + Tally(*numbers).landed
    wrong = [
        f"{found.get(name, 0):,} of type {name} where {expected.get(name, 0):,} were stored"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name, 0) != expected.get(name, 0)
    ]
    if wrong:
        return ", ".join(wrong[:3])
    return None if total == expected_hash else "the right number of events, but not the same ones"


def reasons(connection: Connection, day: date) -> dict[str, int]:
    """The dead letters of a day's imports, by reason."""
    return dict(connection.execute(_REASONS, (IMPORT_SOURCE, partition_of(day))).fetchall())
