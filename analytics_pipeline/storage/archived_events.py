"""Raw events that only the archive has, as a recompute reads them: an hour at a time, of days proved to be whole.

Belongs here: which archive covers a day, what is still kept of its rollups, and reading.
Does not belong here: the files (`storage.archive`), arithmetic (`rollups`), replacing rows (`storage.recompute`).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.printed import with_fields
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.archive import (
    READ_ROWS,
    ArchiveFault,
    Contents,
    opened,
    opened_part,
    parts,
    read_contents,
)
from analytics_pipeline.storage.connection import Connection

COLUMNS = ["id", "event_type", "user_id", "session_id", "properties", "timestamp", "is_late"]
"""What `compute_deltas` wants."""
CHUNK_ROWS = 100_000
"""How many events are computed at a time, from raw and from an archive: about as many as ADBC hands over at once."""

_ARCHIVE = """
SELECT archive, archived_rows, archived_hash FROM retention_removals
WHERE parent = 'events' AND lower_bound <= %(at)s AND upper_bound > %(at)s
    AND state IN ('verified', 'dropped') AND archived_rows IS NOT NULL AND archived_hash IS NOT NULL
"""
_KEPT = """
SELECT parent FROM time_partitions WHERE lower_bound <= %(at)s AND upper_bound > %(at)s AND NOT is_detaching
"""


class RawEventsGone(ConfigurationError):
    """Retention has let an hour's raw events go, and nothing is left that it can be recomputed from."""


class ArchivedDay(NamedTuple):
    """The archive of one UTC day of events: the address of its files, and what was proved to be in them."""

    folder: str
    contents: Contents


class Kept(NamedTuple):
    """What retention has left of a day's rollups: levels with rows, finest first, and those with states too."""

    levels: list[str]
    with_states: list[str]

    @property
    def has_hours(self) -> bool:
        """Whether the day's 1d rows can be put together from 1h rows."""
        return "1h" in self.levels


def archived_day(connection: Connection, at: datetime) -> ArchivedDay | None:
    """The verified archive that covers a time, if there is one."""
    row = connection.execute(_ARCHIVE, {"at": at}).fetchone()
    return ArchivedDay(row[0], Contents(row[1], int(row[2]))) if row else None


def kept(connection: Connection, at: datetime) -> Kept:
    """The levels whose partitions for a time are there."""
    parents = {row[0] for row in connection.execute(_KEPT, {"at": at})}
    found = [
        level for level in LEVELS if {f"metric_aggregations_{level}", f"metric_buckets_{level}"} <= parents
    ]
    return Kept(found, [level for level in found if f"metric_states_{level}" in parents])


class Archives:
    """Reads archived days; each is proved once, before its first hour is read."""

    def __init__(self) -> None:
        self._proved: set[ArchivedDay] = set()

    def prove(self, connection: Connection, hour: datetime) -> ArchivedDay:
        """Find the archive of an hour's day, and see by count and set hash that it holds what was archived.

        Raises:
            RawEventsGone: there is no verified archive.
            ArchiveFault: it holds something else, or cannot be read.
        """
        day = archived_day(connection, hour)
        if day is None:
            raise RawEventsGone(
                f"{hour:%Y-%m-%dT%H}:00Z cannot be recomputed: its raw events are beyond the raw retention line, and "
                "no verified archive holds them"
            )
        if day not in self._proved:
            found = read_contents(day.folder, ["id", "timestamp"])
            if found != day.contents:
                raise ArchiveFault(
                    f"its archive {day.folder} holds {found.rows:,} events where {day.contents.rows:,} were archived, "
                    "or others: bring back the files that were written there"
                )
            self._proved.add(day)
        return day

    def events(self, day: ArchivedDay, hour: datetime) -> Iterator[pa.Table]:
        """The events of an hour, in chunks of bounded size; only row groups that may hold some are read.

        Raises:
            ArchiveFault: a file is missing or damaged, or the archive cannot be reached.
        """
        end = hour + timedelta(hours=1)
        return map(with_fields, in_chunks(_batches(day.folder, hour.astimezone(UTC), end.astimezone(UTC))))


def with_plain_ids(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows; the first column, their ids, as fixed_size_binary(16)."""
    ids = batch.column(0)
    storage = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    return batch.set_column(0, "id", storage.cast(pa.binary(16)))


def in_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in tables of at least `CHUNK_ROWS`, but for the last; none without rows."""
    gathered: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        gathered.append(batch)
        rows += batch.num_rows
        if rows >= CHUNK_ROWS:
            yield pa.Table.from_batches(gathered)
            gathered, rows = [], 0
    if rows:
        yield pa.Table.from_batches(gathered)


def _batches(folder: str, start: datetime, end: datetime) -> Iterator[pa.RecordBatch]:
    with opened(folder, "read") as (files, path):
        for each in parts(files, path):
            with opened_part(files, each) as part:
                groups = [
                    number
                    for number in range(part.num_row_groups)
                    if _may_hold(part.metadata.row_group(number), start, end)
                ]
                for batch in part.iter_batches(READ_ROWS, row_groups=groups, columns=COLUMNS):
                    found = _within(batch.select(COLUMNS), start, end)
                    if found.num_rows:
                        yield found


def _may_hold(group: Any, start: datetime, end: datetime) -> bool:
    """By the group's own smallest and largest time; without them it is read."""
    times = next(
        column
        for column in (group.column(number) for number in range(group.num_columns))
        if column.path_in_schema == "timestamp"
    )
    known = times.statistics
    if known is None or not known.has_min_max:
        return True
    return bool(known.min < end and known.max >= start)


def _within(batch: pa.RecordBatch, start: datetime, end: datetime) -> pa.RecordBatch:
    """The rows of `[start, end)`, with ids as `compute_deltas` wants them."""
    at = batch.column("timestamp").cast(pa.int64()).to_numpy()
    wanted = (at >= _microseconds(start)) & (at < _microseconds(end))
    return with_plain_ids(batch).filter(pa.array(wanted))


def _microseconds(at: datetime) -> int:
    return round(at.timestamp()) * 1_000_000
