"""The body of a request that posts events: read within limits, unpacked, cut into items.

Belongs here: bytes. Does not belong here: what an event is (`analytics_pipeline.events`), answers (`posting`).
"""

import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

from api.errors import BadRequest, HttpProblem, TooLarge, Unavailable

Kind = Literal["json", "ndjson"]
Headers = Mapping[bytes, bytes]

_GZIP = frozenset({b"gzip", b"x-gzip"})

_NDJSON = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
# The original never looked, and `curl -d` sends a form's type: whatever may be meant as JSON is read as JSON.
_JSON = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded", "*/*"}
)
_GZIP_WINDOW = 31
_MOST_MEMBERS = 1_000
_COMMAS_PER_EVENT = 64
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


@lru_cache(maxsize=256)
def kind_of(content_type: bytes) -> Kind:
    """How a body is meant.

    Raises:
        HttpProblem: 415.
    """
    name = content_type.partition(b";")[0].strip().lower().decode("latin-1")
    if name in _NDJSON:
        return "ndjson"
    if name in _JSON or name.endswith("+json"):
        return "json"
    raise HttpProblem(
        415,
        "unsupported-media-type",
        "Unsupported media type",
        "Send application/json (an event or an array of events) or application/x-ndjson (an event a line).",
    )


def is_gzip(headers: Headers) -> bool:
    """Whether a body is said to be packed."""
    return headers.get(b"content-encoding", b"").lower() in _GZIP


class Memory:
    """Bytes of bodies that this process holds at the moment."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0

    def take(self, count: int) -> None:
        """Hold more.

        Raises:
            Unavailable: that would be too much; nothing was taken.
        """
        # One body is always allowed, so that the two limits need not be told about each other.
        if self._held and self._held + count > self._most:
            raise Unavailable(
                "Too many bytes are being posted at once (server.post_memory); try again shortly.",
                kind="overloaded",
            )
        self._held += count

    def give_back(self, count: int) -> None:
        """Hold less."""
        self._held -= count


class Body:
    """Reads one body; what it holds is given back by `close`."""

    def __init__(self, memory: Memory, most_bytes: int) -> None:
        self._memory = memory
        self._most_bytes = most_bytes
        self._held = 0

    async def read(self, receive: Callable[[], Awaitable[Any]], *, is_gzip: bool) -> bytes:
        """The body, unpacked.

        Raises:
            Problem: it is too long, unpacked or not; it is no gzip; there is no memory for it at the moment.
        """
        inflater = _Inflater(self._most_bytes) if is_gzip else None
        parts = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise BadRequest("The body did not arrive.", kind="incomplete-body")
            part = message.get("body", b"")
            if part:
                if inflater is not None:
                    part = inflater.feed(part)
                self._hold(len(part))
                parts.append(part)
            if not message.get("more_body", False):
                break
        if inflater is not None:
            inflater.finish()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Forget the body."""
        self._memory.give_back(self._held)
        self._held = 0

    def _hold(self, count: int) -> None:
        self._memory.take(count)
        self._held += count


class _Inflater:
    """Unpacks gzip, counting what comes out before it is made."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._most = most_bytes
        self._members = 0
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    def feed(self, packed: bytes) -> bytes:
        parts = []
        try:
            while packed:
                if self._stream.eof:
                    self._members += 1
                    if self._members == _MOST_MEMBERS:
                        raise BadRequest("The gzip body has too many members.", kind="bad-gzip")
                    self._stream = zlib.decompressobj(_GZIP_WINDOW)
                made = self._stream.decompress(packed, self._left + 1)
                self._left -= len(made)
                if self._left < 0:
                    raise TooLarge(
                        f"The body is longer than {self._most} bytes when it is unpacked (server.max_body_size)."
                    )
                parts.append(made)
                packed = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        except zlib.error:
            raise BadRequest("The body is not gzip.", kind="bad-gzip") from None
        return b"".join(parts)

    def finish(self) -> None:
        if not self._stream.eof:
            raise BadRequest("The gzip body is cut off.", kind="bad-gzip")


def lines_of(body: bytes, most_items: int) -> list[bytes]:
    """The items of NDJSON: lines that are not blank.

    Raises:
        TooLarge: there are more lines than items allowed.
    """
    if body.count(b"\n", 0, -1) >= most_items:
        raise too_many(most_items)
    return [line for line in body.split(b"\n") if line and not line.isspace()]


def is_array(body: bytes) -> bool:
    """Whether the first character of the JSON text opens an array."""
    return body[:1] == b"[" or body[:64].lstrip(b" \t\r\n")[:1] == b"["


def elements_of(body: bytes, most_items: int) -> list[bytes] | None:
    """The elements of a JSON array, as they stand there; None if it is not a JSON array.

    Raises:
        TooLarge: there are too many.
    """
    # Before anything is made of them: an array of 5 million numbers fits a body too.
    if body.count(b",") > _COMMAS_PER_EVENT * most_items:
        raise too_many(most_items)
    try:
        items = _decode_array(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(items) > most_items:
        raise too_many(most_items)
    return [bytes(item) for item in items]


def too_many(most_items: int) -> TooLarge:
    """The answer to a batch with too many items."""
    return TooLarge(
        f"A request may hold at most {most_items} events (server.max_batch_events).", kind="too-many-events"
    )
