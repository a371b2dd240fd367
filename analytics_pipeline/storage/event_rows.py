"""Storing the rows of a batch in `events`, each at most once.

Belongs here: the optimistic COPY, the look-up of keys that are stored already, and the search for rows that
Postgres refuses. Does not belong here: the rest of the landing transaction (`storage.landing`).

Everything happens behind savepoints: a failure here leaves the surrounding transaction usable.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from analytics_pipeline.events.schema import EVENTS_SCHEMA
from analytics_pipeline.storage.connection import Connection, is_data_error
from analytics_pipeline.storage.copying import Copier, Cursor

_JSONB = frozenset({"properties"})
_STRAIGHT = Copier("events", EVENTS_SCHEMA, jsonb=_JSONB)
_INCOMING = Copier("incoming_events", EVENTS_SCHEMA, jsonb=_JSONB)
_COLUMNS = ", ".join(EVENTS_SCHEMA.names)

_KEYS_SCHEMA = pa.schema(
    [EVENTS_SCHEMA.field("timestamp"), EVENTS_SCHEMA.field("id"), pa.field("row", pa.int32())]
)
_KEYS = Copier("incoming_keys", _KEYS_SCHEMA)

_CREATE_INCOMING = """
CREATE TEMP TABLE incoming_events (LIKE events INCLUDING DEFAULTS) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE incoming_keys (timestamp timestamptz, id uuid, row integer) ON COMMIT DELETE ROWS
"""
# OFFSET 0 keeps this a look-up by index per key: a join could be planned as a scan of whole days. The bounds leave
# only the days that matter to the planner.
_KNOWN = """
SELECT key.row FROM incoming_keys AS key
CROSS JOIN LATERAL (
    SELECT FROM events
    WHERE events.timestamp = key.timestamp AND events.id = key.id
        AND events.timestamp >= %s AND events.timestamp <= %s
    OFFSET 0
) AS known
"""
_EMPTY_INCOMING = "TRUNCATE incoming_events"
# Sorted, so that two of these never lock the same keys in opposite order. The source coordinates tell which rows
# were stored; the key could not tell twins apart.
_INSERT = f"""
WITH stored AS (
    INSERT INTO events ({_COLUMNS})
    SELECT {_COLUMNS} FROM incoming_events ORDER BY timestamp, id
    ON CONFLICT DO NOTHING
    RETURNING source, source_partition, source_offset
)
SELECT source, source_partition, array_agg(source_offset) FROM stored GROUP BY source, source_partition
"""  # noqa: S608  (column names of our own schema)

_FALLBACK_BATCHES = 20
_CHECK_VIOLATION = "23514"


@dataclass
class Stored:
    """What became of the rows: `rows` are in `events` now, `refused` cannot be, the rest was there before."""

    rows: pa.Table
    refused: list[tuple[pa.Table, str]] = field(default_factory=list)
    """Tables of one row, with the SQLSTATE."""


class EventRows:
    """Stores batches over one connection, and remembers whether the stream has duplicates at the moment."""

    def __init__(self) -> None:
        self._fallback_left = 0

    @property
    def expects_duplicates(self) -> bool:
        """Whether the next batch starts in fallback mode."""
        return self._fallback_left > 0

    def prepare(self, connection: Connection) -> None:
        """Make the temporary tables of the fallback, once per connection; commits."""
        connection.execute(_CREATE_INCOMING)
        connection.commit()

    def store(self, cursor: Cursor, rows: pa.Table, still_ours: Callable[[], None]) -> Stored:
        """Store all rows that can be stored.

        Args:
            cursor: inside the landing transaction.
            rows: `EVENTS_SCHEMA`, sorted by (timestamp, id), no key twice.
            still_ours: raises when the batch has lost its partitions; asked before a row is called a duplicate
                or refused, because those of a batch landed by somebody else would look like that.

        Raises:
            psycopg.Error: environment errors, a missing partition among them.
        """
        if rows.num_rows == 0:
            return Stored(rows)
        if not self.expects_duplicates:
            try:
                return self._copy(cursor, rows)
            except psycopg.errors.UniqueViolation:
                self._fallback_left = _FALLBACK_BATCHES
            except psycopg.Error as error:
                if not is_row_fault(error):
                    raise
        new = self._unknown(cursor, rows)
        self._fallback_left = max(0, self._fallback_left - 1)
        if new.num_rows < rows.num_rows:
            self._fallback_left = _FALLBACK_BATCHES
            still_ours()
        try:
            return self._copy(cursor, new)
        except psycopg.Error as error:
            if not is_row_fault(error):
                raise
        still_ours()
        stored = self._insert(cursor, new, still_ours)
        return Stored(pa.concat_tables(stored.parts) if stored.parts else new.slice(0, 0), stored.refused)

    def _copy(self, cursor: Cursor, rows: pa.Table) -> Stored:
        """Store all of them, or raise."""
        with _savepoint(cursor):
            _STRAIGHT.copy(cursor, rows)
        return Stored(rows)

    def _unknown(self, cursor: Cursor, rows: pa.Table) -> pa.Table:
        """The rows whose keys nobody has committed yet."""
        times = rows["timestamp"]
        keys = rows.select(["timestamp", "id"])
        keys = keys.append_column("row", pa.array(np.arange(rows.num_rows, dtype=np.int32)))
        _KEYS.copy(cursor, keys.cast(_KEYS_SCHEMA))
        cursor.execute(_KNOWN, (times[0].as_py(), times[-1].as_py()))
        known = [row for (row,) in cursor.fetchall()]
        if not known:
            return rows
        is_new = np.ones(rows.num_rows, bool)
        is_new[known] = False
        return rows.filter(pa.array(is_new))

    def _insert(
        self, cursor: Cursor, rows: pa.Table, still_ours: Callable[[], None], *, is_part: bool = False
    ) -> "_Parts":
        """Insert through a temporary table, for keys that others are storing just now; on a row fault halve until
        the culprit is alone."""
        try:
            with _savepoint(cursor):
                if is_part:
                    cursor.execute(_EMPTY_INCOMING)
                _INCOMING.copy(cursor, rows)
                cursor.execute(_INSERT)
                return _Parts([_at(rows, cursor.fetchall())], [])
        except psycopg.Error as error:
            if not is_row_fault(error):
                raise
            still_ours()
            if rows.num_rows == 1:
                return _Parts([], [(rows, error.sqlstate or "")])
        middle = rows.num_rows // 2
        first = self._insert(cursor, rows.slice(0, middle), still_ours, is_part=True)
        second = self._insert(cursor, rows.slice(middle), still_ours, is_part=True)
        return _Parts(first.parts + second.parts, first.refused + second.refused)


@dataclass
class _Parts:
    parts: list[pa.Table]
    refused: list[tuple[pa.Table, str]]


def is_row_fault(error: psycopg.Error) -> bool:
    """Whether a row is to blame: classes 22 and 23; of 23514 only a CHECK with a name, the other is a partition."""
    if error.sqlstate == _CHECK_VIOLATION:
        return error.diag.constraint_name is not None
    return is_data_error(error)


@contextmanager
def _savepoint(cursor: Cursor) -> Iterator[None]:
    cursor.execute("SAVEPOINT event_rows")
    try:
        yield
    except psycopg.Error:
        if not cursor.connection.broken:
            cursor.execute("ROLLBACK TO SAVEPOINT event_rows")
        raise
    cursor.execute("RELEASE SAVEPOINT event_rows")


def _at(rows: pa.Table, coordinates: list[tuple[str, int, list[int]]]) -> pa.Table:
    """The rows with these source coordinates, in their order."""
    if sum(len(offsets) for _, _, offsets in coordinates) == rows.num_rows:
        return rows
    mask = np.zeros(rows.num_rows, bool)
    numbers = rows["source_partition"].to_numpy()
    positions = rows["source_offset"].to_numpy()
    for source, number, offsets in coordinates:
        is_source = np.asarray(pc.equal(rows["source"], source))
        mask |= is_source & (numbers == number) & np.isin(positions, offsets)
    return rows.filter(pa.array(mask))
