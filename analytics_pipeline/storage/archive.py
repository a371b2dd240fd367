"""Raw events as Parquet files: written from a detached partition, and read back to prove that they are whole.

Belongs here: the layout and the schema of the files, streaming in and out with bounded memory.
Does not belong here: when a partition is archived and what is noted about it (`storage.retention`).

Layout: `<uri>/events/date=2024-05-15/part-0.parquet`, `part-1.parquet`, … On a disk a file gets its final name when it
is whole. An object of S3 may be short after a failure, until the next run writes it again.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi
from pyarrow import fs

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.failpoints import RunPoint, fail_at
from analytics_pipeline.retention.plan import Partition
from analytics_pipeline.rollups import states
from analytics_pipeline.rollups.facts import hashes_of

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.uuid()),
        pa.field("event_type", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("properties", pa.string()),
        pa.field("timestamp", _TIME),
        pa.field("created_at", _TIME),
        pa.field("source", pa.string()),
        pa.field("source_partition", pa.int32()),
        pa.field("source_offset", pa.int64()),
        pa.field("is_late", pa.bool_()),
        pa.field("definition_version", pa.int32()),
    ]
)
"""Columns of `events`; properties are JSON text."""

_ROWS = """
SELECT
    uuid_send(id) AS id, event_type, user_id, session_id, properties::text AS properties, timestamp, created_at,
    source, source_partition, source_offset, is_late, definition_version
FROM "{partition}"
"""
_PART_ROWS = 5_000_000
READ_ROWS = 50_000
"""At most so many rows are in memory at a time."""
_SUFFIX = ".writing"
_S3_ADVICE = (
    "; see that this process has the right bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION "
    "and, for a server other than AWS', AWS_ENDPOINT_URL"
)


class ArchiveFault(EnvironmentFault):
    """The archive cannot be written or read; the partition stays, and the next run tries again."""


class Contents(NamedTuple):
    """What an archive holds: how many events, and the sum of their hashes modulo 2^128, as in the register."""

    rows: int
    set_hash: int


class Archive:
    """Archived events below one address.

    Args:
        uri: `file:///…` or `s3://bucket/…`, the latter perhaps with options of `pyarrow.fs.S3FileSystem` after a `?`;
            credentials of S3 come from where AWS' tools look for them.
        conninfo: the database that the partitions are read from.
    """

    def __init__(self, uri: str, conninfo: str) -> None:
        self._address, self._mark, self._options = uri.partition("?")
        self._conninfo = conninfo

    def folder(self, partition: Partition) -> str:
        """The address of a partition's files, options included."""
        place = f"{partition.parent}/date={partition.lower:%Y-%m-%d}"
        return f"{self._address.rstrip('/')}/{place}{self._mark}{self._options}"

    def check(self) -> None:
        """See that the archive is there, or can be made.

        Raises:
            ArchiveFault: its server cannot be reached or refuses, or its bucket does not exist.
        """
        with opened(f"{self._address}{self._mark}{self._options}", "reached") as (files, folder):
            files.get_file_info(fs.FileSelector(folder, allow_not_found=True))

    def exists(self, partition: Partition) -> bool:
        """Whether there are files already.

        Raises:
            ArchiveFault: the archive cannot be reached.
        """
        with opened(self.folder(partition), "read") as (files, folder):
            return bool(parts(files, folder))

    def write(self, partition: Partition) -> Contents:
        """Write the rows of a detached partition, in place of whatever its folder holds.

        Raises:
            ArchiveFault: the archive cannot be written.
        """
        with opened(self.folder(partition), "written") as (files, folder):
            files.create_dir(folder, recursive=True)
            files.delete_dir_contents(folder)
            with closing(self._rows(partition.name)) as batches:
                return _write(files, folder, batches)

    def read(self, partition: Partition) -> Contents:
        """Read every column of every file, checksums of pages included.

        Raises:
            ArchiveFault: a file is missing or damaged, or the archive cannot be reached.
        """
        return read_contents(self.folder(partition))

    def _rows(self, table: str) -> Generator[pa.RecordBatch]:
        with dbapi.connect(self._conninfo, autocommit=True) as reader, reader.cursor() as cursor:
            cursor.execute(_ROWS.format(partition=table))
            for batch in cursor.fetch_record_batch():
                ids = batch.column(0).cast(pa.binary(16))
                columns = [
                    pa.ExtensionArray.from_storage(pa.uuid(), ids),
                    *(
                        column.cast(field.type)
                        for column, field in zip(batch.columns[1:], list(SCHEMA)[1:], strict=True)
                    ),
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@contextmanager
def opened(folder: str, done: str) -> Iterator[tuple[fs.FileSystem, str]]:
    """The file system of an address, and the path in it.

    Raises:
        ArchiveFault: in the body, too, where something cannot be read or written.
    """
    is_remote = folder.startswith("s3:")
    try:
        files, path = fs.FileSystem.from_uri(folder)
        if is_remote:
            _find_bucket(files, path.partition("/")[0])
        yield files, path
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArchiveFault(
            f"its archive {folder} cannot be {done}: {reason}{_S3_ADVICE if is_remote else ''}"
        ) from error


def _find_bucket(files: fs.FileSystem, bucket: str) -> None:
    """A folder of a bucket that is not there would look empty."""
    if files.get_file_info(bucket).type is fs.FileType.NotFound:
        raise FileNotFoundError(f"there is no bucket {bucket}")


def opened_part(files: fs.FileSystem, path: str) -> pq.ParquetFile:
    """One file, whose pages are compared with their checksums as they are read; to be closed."""
    return pq.ParquetFile(files.open_input_file(path), page_checksum_verification=True, pre_buffer=False)


def read_contents(folder: str, columns: list[str] | None = None) -> Contents:
    """Read these columns, `id` and `timestamp` at least, or all of them, of every file of a day.

    Raises:
        ArchiveFault: a file is missing or damaged, or the archive cannot be reached.
    """
    rows, set_hash = 0, 0
    with opened(folder, "read") as (files, path):
        for each in parts(files, path):
            with opened_part(files, each) as part:
                for batch in part.iter_batches(READ_ROWS, columns=columns):
                    rows += batch.num_rows
                    set_hash += _set_hash(batch)
    return Contents(rows, set_hash % states.MODULUS)


def _write(files: fs.FileSystem, folder: str, batches: Iterator[pa.RecordBatch]) -> Contents:
    rows, set_hash, number = 0, 0, 0
    batch = next(batches, None)
    while batch is not None or number == 0:
        path = f"{folder}/part-{number}.parquet"
        in_part = 0
        with (
            files.open_output_stream(path + _suffix(files)) as target,
            pq.ParquetWriter(target, SCHEMA, compression="zstd", write_page_checksum=True) as writer,
        ):
            while batch is not None and in_part < _PART_ROWS:
                writer.write_batch(batch)
                in_part += batch.num_rows
                set_hash += _set_hash(batch)
                batch = next(batches, None)
        fail_at(RunPoint.ARCHIVE_PART_WRITTEN)
        _finish(files, path)
        rows += in_part
        number += 1
    return Contents(rows, set_hash % states.MODULUS)


def _suffix(files: fs.FileSystem) -> str:
    return _SUFFIX if files.type_name == "local" else ""


def _finish(files: fs.FileSystem, path: str) -> None:
    """On a disk, make sure that the file and its name outlive a power failure: the partition is dropped next."""
    if files.type_name != "local":
        return
    _sync(path + _SUFFIX)
    files.move(path + _SUFFIX, path)
    folder = Path(path).parent
    for above in (folder, folder.parent, folder.parent.parent):
        _sync(above)


def _sync(path: str | Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def parts(files: fs.FileSystem, folder: str) -> list[str]:
    """The paths of the files of a folder, none where there is no folder."""
    found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return sorted(each.path for each in found if each.is_file and each.path.endswith(".parquet"))


def _set_hash(batch: pa.RecordBatch) -> int:
    """The sum of the hashes of a batch's events, not reduced."""
    if batch.num_rows == 0:
        return 0
    ids = batch.column("id")
    ids = ids.storage if isinstance(ids, pa.ExtensionArray) else ids
    high, low = hashes_of(ids, batch.column("timestamp").cast(pa.int64()).to_numpy())
    return (_exact_sum(high) << 64) + _exact_sum(low)


def _exact_sum(values: "np.typing.NDArray[np.uint64]") -> int:
    """The sum of 64-bit numbers without overflow: by halves, for up to 2^32 of them."""
    return (int((values >> np.uint64(32)).sum()) << 32) + int((values & np.uint64(0xFFFFFFFF)).sum())
