"""A disk that can be filled and freed: a small tmpfs of its own, or a limit on the size of files."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from tests.chaos.servers import PostgresServer

_MEGABYTE = 1024**2
_SIZE = 512
_LIMIT = 16 * _MEGABYTE
"""A segment of the write-ahead log must fit."""
_BLOW_UP = """
INSERT INTO events (id, event_type, timestamp, properties)
SELECT gen_random_uuid(), 'x', now(), jsonb_build_object('x', repeat('x', 500)) FROM generate_series(1, 100000)
"""


class Disk(Protocol):
    """`kind` says which of the two ran."""

    kind: str
    folder: Path

    def fill(self, server: PostgresServer) -> None: ...

    def free(self) -> None: ...


class SmallDisk:
    kind = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, server: PostgresServer) -> None:
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(_MEGABYTE))
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        assert os.statvfs(self.folder).f_bavail == 0

    def free(self) -> None:
        self._ballast.unlink()


class LimitedFiles:
    """The server runs with a limit on the size of its files, and the tables are blown up to it by rows rolled back."""

    kind = "file-size limit"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: PostgresServer | None = None

    def fill(self, server: PostgresServer) -> None:
        self._server = server
        server.restart(_LIMIT)
        with psycopg.connect(server.database, autocommit=True) as connection, pytest.raises(psycopg.Error):
            connection.execute(_BLOW_UP)

    def free(self) -> None:
        assert self._server is not None
        self._server.restart(None)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    folder.mkdir(exist_ok=True)
    options = f"size={_SIZE}m,mode=755"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "b25-chaos", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        yield LimitedFiles(folder)
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
