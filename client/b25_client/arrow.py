"""pyarrow, where it is installed: tables of answers, and record batches of streams.

Belongs here: everything that touches pyarrow, which is imported only when asked for. Does not belong here: what the
columns mean (`metrics`, `stored_events`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from b25_client.errors import MissingLibrary, StreamBroken

if TYPE_CHECKING:
    import pyarrow as pa


def require_pyarrow() -> Any:
    """The library.

    Raises:
        MissingLibrary: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise MissingLibrary("pyarrow", "Arrow") from None
    return pyarrow


def make_table(columns: Mapping[str, tuple[str, Sequence[Any]]]) -> "pa.Table":
    """A table of columns, each with the name of its type: time, number, whole, truth or text.

    Raises:
        MissingLibrary: pyarrow is not installed.
    """
    pa = require_pyarrow()
    types = {
        "time": pa.timestamp("us", tz="UTC"),
        "number": pa.float64(),
        "whole": pa.int64(),
        "truth": pa.bool_(),
        "text": pa.string(),
    }
    schema = pa.schema([(name, types[kind]) for name, (kind, _) in columns.items()])
    return pa.table([list(values) for _, values in columns.values()], schema=schema)


class ArrowDecoder:
    """Record batches of an IPC stream that comes in pieces of any size; holds one batch at a time.

    Raises:
        MissingLibrary: pyarrow is not installed.
    """

    def __init__(self) -> None:
        self._pa = require_pyarrow()
        self._pieces = _Pieces()
        self._schema: Any = None
        self._is_over = False

    def feed(self, piece: bytes) -> "Iterator[pa.RecordBatch]":
        """The batches that are whole now."""
        self._pieces.add(piece)
        while not self._is_over:
            try:
                message = self._pa.ipc.read_message(self._pieces)
            except _Starved:
                self._pieces.rewind()
                return
            except EOFError:
                self._is_over = True
                return
            except self._pa.ArrowInvalid as error:
                raise StreamBroken("this is no Arrow stream") from error
            self._pieces.forget()
            if self._schema is None:
                self._schema = self._pa.ipc.read_schema(message)
            else:
                yield self._pa.ipc.read_record_batch(message, self._schema)

    def end(self) -> "Iterator[pa.RecordBatch]":
        """Nothing more comes.

        Raises:
            StreamBroken: the stream did not say so.
        """
        if not self._is_over:
            raise StreamBroken("the Arrow stream has no end: it is not whole")
        return iter(())


class _Starved(Exception):
    """More bytes are needed."""


class _Pieces:
    """A file that Arrow reads; it says so when it would have to wait."""

    closed = False

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._at = 0

    def add(self, piece: bytes) -> None:
        self._bytes += piece

    def rewind(self) -> None:
        """Read the same again later."""
        self._at = 0

    def forget(self) -> None:
        """What was read is not read again."""
        del self._bytes[: self._at]
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self._at + size > len(self._bytes):
            raise _Starved
        found = bytes(self._bytes[self._at : self._at + size])
        self._at += size
        return found

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        return
