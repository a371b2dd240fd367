"""Raw events of a range, as they were in a snapshot that another connection has exported.

Belongs here: the statement, and the connection that reads it into Arrow.
Does not belong here: archived events (`storage.archived_events`), arithmetic (`rollups`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache

import pyarrow as pa
from adbc_driver_manager import AdbcConnection, AdbcDatabase, AdbcStatement, Error
from adbc_driver_postgresql import connect
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.rollups.printed import with_fields
from analytics_pipeline.storage.archived_events import in_chunks, with_plain_ids
from analytics_pipeline.storage.read_ahead import ahead

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_EVENTS = """
SELECT id, event_type, user_id, session_id, properties::text AS properties, timestamp, is_late
FROM events WHERE timestamp >= '{first}' AND timestamp < '{last}'
"""


def events_of(first: datetime, last: datetime) -> str:
    """The statement that reads `[first, last)` as `compute_deltas` wants it, ids apart (`with_plain_ids`)."""
    return _EVENTS.format(first=first.isoformat(), last=last.isoformat())


@contextmanager
def raw_events(conninfo: str, snapshot: str, first: datetime, last: datetime) -> Iterator[Iterator[pa.Table]]:
    """The events of `[first, last)` in chunks of bounded size, read and parsed while the caller works on earlier ones.

    By a thread each, so that Postgres is kept busy: what it waits for is reading, and no longer the parser too.

    Args:
        conninfo: where the database is.
        snapshot: as `pg_export_snapshot()` named it; its transaction is open.
        first: the first moment.
        last: the moment behind the last.

    Raises:
        EnvironmentFault: Postgres cannot be reached or stops answering, or the snapshot is gone.
    """
    with _reader(conninfo) as reader:
        with _answering():
            for statement in (_BEGIN, f"SET TRANSACTION SNAPSHOT '{snapshot}'"):
                reader.set_sql_query(statement)
                reader.execute_update()
            reader.set_sql_query(events_of(first, last))
            stream, _ = reader.execute_query()
        with (
            pa.RecordBatchReader.from_stream(stream) as batches,
            ahead(in_chunks(_answered(batches)), reader.cancel) as read,
            ahead(map(with_fields, read), reader.cancel) as chunks,
        ):
            yield chunks


@contextmanager
def _reader(conninfo: str) -> Iterator[AdbcStatement]:
    named = make_conninfo(conninfo, application_name="analytics-recompute-events")
    with _answering():
        opened = AdbcConnection(_database(named))
    with opened, AdbcStatement(opened) as statement:
        yield statement


@cache
def _database(conninfo: str) -> AdbcDatabase:
    """What ADBC knows of a database, which it learns with a connection of its own: 80 ms of CPU.

    No connection is held. Kept for good, because there is one database a process: its connections may be many.
    """
    made: AdbcDatabase = connect(conninfo)
    return made


def _answered(batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with _answering():
        yield from map(with_plain_ids, batches)


@contextmanager
def _answering() -> Iterator[None]:
    """What ADBC raises, and Arrow while ADBC reads for it; also that a snapshot is gone, to ADBC a mistake in SQL."""
    try:
        yield
    except (Error, pa.ArrowException, OSError) as error:
        raise EnvironmentFault(f"Postgres stopped answering while events were read: {error}") from error
