"""Raw events of a range, as they were in a snapshot that another connection has exported.

Belongs here: the statement, and the connection that reads it into Arrow.
Does not belong here: archived events (`storage.archived_events`), arithmetic (`rollups`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.rollups.printed import with_fields
from analytics_pipeline.storage.archived_events import in_chunks, with_plain_ids
from analytics_pipeline.storage.read_ahead import ahead

_EVENTS = """
SELECT id, event_type, user_id, session_id, properties::text AS properties, timestamp, is_late
FROM events WHERE timestamp >= '{first}' AND timestamp < '{last}'
"""


def events_of(first: datetime, last: datetime) -> str:
    """The statement that reads `[first, last)` as `compute_deltas` wants it, ids apart (`with_plain_ids`)."""
    return _EVENTS.format(first=first.isoformat(), last=last.isoformat())


@contextmanager
def raw_events(conninfo: str, snapshot: str, first: datetime, last: datetime) -> Iterator[Iterator[pa.Table]]:
    """The events of `[first, last)` in chunks of bounded size, each read while the caller works on the one before.

    Args:
        conninfo: where the database is.
        snapshot: as `pg_export_snapshot()` named it; its transaction is open.
        first: the first moment.
        last: the moment behind the last.

    Raises:
        EnvironmentFault: Postgres cannot be reached or stops answering, or the snapshot is gone.
    """
    with _reader(conninfo) as cursor:
        with _answering():
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            cursor.execute(events_of(first, last))
        with ahead(map(with_fields, in_chunks(_batches(cursor))), cursor.adbc_cancel) as chunks:
            yield chunks


@contextmanager
def _reader(conninfo: str) -> Iterator[dbapi.Cursor]:
    named = make_conninfo(conninfo, application_name="analytics-recompute-events")
    with _answering():
        opened = dbapi.connect(named, autocommit=True)
    with opened, opened.cursor() as cursor:
        yield cursor


def _batches(cursor: dbapi.Cursor) -> Iterator[pa.RecordBatch]:
    with _answering():
        yield from map(with_plain_ids, cursor.fetch_record_batch())


@contextmanager
def _answering() -> Iterator[None]:
    """What ADBC raises, and Arrow while ADBC reads for it; also that a snapshot is gone, to ADBC a mistake in SQL."""
    try:
        yield
    except (dbapi.Error, pa.ArrowException, OSError) as error:
        raise EnvironmentFault(f"Postgres stopped answering while events were read: {error}") from error
