"""The original service's database: recognising it, and reading its history without ever writing to it.

Belongs here: the statements on its tables. Does not belong here: what becomes of what was read (`storage.imports`), in
which order days are read (`storage.import_runs`).

Hashes are sums of the first 60 bits of the MD5 of each row's text; `ROW_HASH` is the same text of an event that was
stored here, so that the two sides can be compared without a row being moved.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg

from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.storage.connection import Connection, Unreachable, connect

_COLUMNS = ("id", "event_type", "user_id", "session_id", "properties", "timestamp", "created_at")
_CHUNK = 200
"""Rows fetched at once: a row may be large."""

_FOREIGN = """
SELECT array_agg(name ORDER BY name) FROM unnest(ARRAY[
    'events', 'metric_aggregations', 'custom_event_definitions', 'user_behavior', 'order_analytics',
    'strategy_performance', 'market_analytics', 'system_metrics', 'dashboard_metrics'
]) AS name
WHERE to_regclass(name) IS NOT NULL AND to_regclass('ingest_offsets') IS NULL
"""
_RECOGNISE = """
SELECT to_regclass('ingest_offsets') IS NULL AND to_regclass('metric_aggregations') IS NOT NULL
    AND to_regclass('custom_event_definitions') IS NOT NULL
    AND (
        SELECT count(*) FROM pg_attribute
        WHERE attrelid = to_regclass('events') AND attnum > 0 AND NOT attisdropped AND attname = ANY(%s)
    ) = cardinality(%s::text [])
"""
_PROPERTIES = "CASE WHEN properties IS NULL OR properties = 'null' THEN '{}' ELSE properties END"
# The text of a record tells NULL from '' and depends on no setting of the server but those that connections set.
ROW_HASH = f"""('x' || left(md5(ROW(
    id, event_type, user_id, session_id, {_PROPERTIES}, (extract(EPOCH FROM timestamp) * 1000000)::bigint
)::text), 15))::bit(60)::bigint"""
"""SQL: 60 bits that stand for an event, the same in both databases."""

_SPAN = "timestamp >= %(first)s AND timestamp < %(end)s"
_READ = f"""
SELECT
    id, event_type, user_id, session_id, ({_PROPERTIES})::text AS properties, timestamp,
    to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS written,
    CASE WHEN isfinite(created_at) THEN (extract(EPOCH FROM created_at) * 1000)::bigint END AS reached,
    {ROW_HASH} AS hash
FROM events
WHERE {_SPAN} AND created_at < %(horizon)s
    AND (%(after)s::timestamptz IS NULL OR (timestamp, id) > (%(after)s::timestamptz, %(after_id)s::uuid))
ORDER BY timestamp, id
"""  # noqa: S608  (constants of this module)
_COUNTS = f"""
SELECT event_type, count(*), sum({ROW_HASH}::numeric) FROM events
WHERE {_SPAN} AND created_at < %(horizon)s GROUP BY event_type
"""  # noqa: S608
_YOUNGER = f"SELECT count(*) FROM events WHERE {_SPAN} AND created_at >= %(horizon)s"  # noqa: S608
_OUTSIDE = """
SELECT count(*) FILTER (WHERE timestamp < %(first)s), count(*) FILTER (WHERE timestamp >= %(end)s),
    to_char(
        min(timestamp) FILTER (WHERE isfinite(timestamp) AND timestamp < %(first)s) AT TIME ZONE 'UTC', 'YYYY-MM-DD'
    )
FROM events WHERE timestamp < %(first)s OR timestamp >= %(end)s
"""
_NEXT = f"SELECT min(timestamp) FROM events WHERE {_SPAN}"  # noqa: S608
_DEFINITIONS = """
SELECT name, display_name, coalesce(description, ''), schema, is_active FROM custom_event_definitions
ORDER BY created_at, name
"""
_AGGREGATES = "SELECT count(*) FROM metric_aggregations WHERE time_bucket < %(first)s"


class Row(NamedTuple):
    """An event of theirs.

    Attributes:
        id: as they stored it.
        event_type: never null, perhaps empty.
        user_id: or None.
        session_id: or None.
        properties: JSON text, `{}` where there is none.
        timestamp: with zone.
        written: the same as the contract writes it.
        reached: ms since 1970 when it reached them, None where they don't know.
        hash: 60 bits that stand for all of it but `reached`.
    """

    id: UUID
    event_type: str
    user_id: str | None
    session_id: str | None
    properties: str
    timestamp: datetime
    written: str
    reached: int | None
    hash: int


class Definition(NamedTuple):
    """A definition of theirs, unjudged."""

    name: str
    display_name: str
    description: str
    schema: object
    is_active: bool


@dataclass(frozen=True)
class Content:
    """What a day of theirs holds, in one snapshot: events by type, and the sum of their hashes."""

    types: dict[str, int] = field(default_factory=dict)
    hash: int = 0

    @property
    def rows(self) -> int:
        """Events."""
        return sum(self.types.values())


def refuse_foreign(connection: Connection) -> None:
    """See that a database without our register has no tables of our names either.

    Raises:
        ConfigurationError: it has: the original's, or somebody else's.
    """
    if is_original(connection):
        raise ConfigurationError(
            "this database is the original service's: give database.database the name of another, empty one, run "
            "`analytics migrate` for that, and `analytics import --from-url` with the address of this one moves the "
            "history (docs/migrating.md)"
        )
    found = connection.execute(_FOREIGN).fetchone()
    if found and found[0]:
        raise ConfigurationError(
            f"this database has tables that this product did not create ({', '.join(found[0])}): give "
            "database.database the name of an empty database"
        )


def is_original(connection: Connection) -> bool:
    """Whether the database holds the original's tables; those that its migration cannot create may be missing."""
    found = connection.execute(_RECOGNISE, (list(_COLUMNS), list(_COLUMNS))).fetchone()
    return bool(found and found[0])


class Original:
    """A connection to the original's database on which every transaction is read-only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def name(self) -> str:
        """What progress is kept under: database, host and port, never a user or a password."""
        info = self._connection.info
        return f"{info.dbname}@{info.host or 'local'}:{info.port}"

    @property
    def connection(self) -> Connection:
        """For tests of what it lets nobody do."""
        return self._connection

    def next_day(self, first: datetime, end: datetime) -> date | None:
        """The first UTC day of `[first, end)` with an event."""
        with self._snapshot():
            found = self._connection.execute(_NEXT, {"first": first, "end": end}).fetchone()
        return found[0].astimezone(UTC).date() if found and found[0] else None

    def outside(self, first: datetime, end: datetime) -> tuple[int, int, str | None]:
        """Events before `first`, events from `end` on, and the UTC day of the earliest of those before."""
        with self._snapshot():
            found = self._connection.execute(_OUTSIDE, {"first": first, "end": end}).fetchone()
        assert found is not None
        return int(found[0]), int(found[1]), found[2]

    def aggregates_before(self, first: datetime) -> int:
        """Rows of their `metric_aggregations` whose buckets begin before that."""
        with self._snapshot():
            found = self._connection.execute(_AGGREGATES, {"first": first}).fetchone()
        return int(found[0]) if found else 0

    def definitions(self) -> list[Definition]:
        """All of their custom event definitions, the oldest first."""
        with self._snapshot():
            return [Definition(*row) for row in self._connection.execute(_DEFINITIONS)]

    @contextmanager
    def day(self, day: date, horizon: datetime) -> Iterator["Day"]:
        """One snapshot of a UTC day, of what had reached them before `horizon`."""
        with self._snapshot():
            yield Day(self._connection, day, horizon)

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        try:
            with self._connection.transaction():
                self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                "--from-url: its role may not read the original's tables: grant it SELECT on events, "
                "metric_aggregations and custom_event_definitions"
            ) from error
        except psycopg.OperationalError as error:
            if not self._connection.closed:
                raise
            raise EnvironmentFault(
                f"the original's database stopped answering ({error.sqlstate or 'connection lost'}): run this again, "
                "it goes on where it was"
            ) from error


class Day:
    """A UTC day of theirs, in the transaction that `Original.day` holds open."""

    def __init__(self, connection: Connection, day: date, horizon: datetime) -> None:
        self._connection = connection
        first = datetime(day.year, day.month, day.day, tzinfo=UTC)
        self._span = {"first": first, "end": first + timedelta(days=1), "horizon": horizon}

    def content(self) -> Content:
        """What it holds."""
        rows = self._connection.execute(_COUNTS, self._span).fetchall()
        return Content({name: count for name, count, _ in rows}, sum(int(total) for _, _, total in rows))

    def younger(self) -> int:
        """Events that reached them later than the horizon, which are left for another time."""
        found = self._connection.execute(_YOUNGER, self._span).fetchone()
        return int(found[0]) if found else 0

    def rows(self, after: tuple[datetime, UUID] | None) -> Generator[Row, None, None]:
        """Its events behind a position, by (timestamp, id), fetched as they are asked for by a cursor of the server."""
        timestamp, identity = after or (None, None)
        # An index by time leads to the position; none leads to a pair of time and id.
        first = timestamp or self._span["first"]
        with self._connection.cursor("original_events") as cursor:
            cursor.itersize = _CHUNK
            cursor.execute(_READ, self._span | {"first": first, "after": timestamp, "after_id": identity})
            for found in cursor:
                yield Row(*found)


@contextmanager
def connected(url: str) -> Iterator[Original]:
    """The original's database at an address; nothing can be written through this.

    Raises:
        ConfigurationError: it is not the original's, or no address.
        EnvironmentFault: it cannot be reached.
    """
    try:
        opened = connect(
            url,
            name="import-source",
            autocommit=True,
            default_transaction_read_only="on",
            statement_timeout="0",
            idle_in_transaction_session_timeout="0",
            datestyle="ISO",
        )
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "--from-url: that is no address of a database: write postgres://user@host:port/database"
        ) from None
    except Unreachable as error:
        raise EnvironmentFault(f"--from-url: {error.sentence}") from error
    with opened:
        if not is_original(opened):
            raise ConfigurationError(
                "--from-url: that database does not hold the original service's tables (events, metric_aggregations, "
                "custom_event_definitions): check its address and the name of the database"
            )
        yield Original(opened)
