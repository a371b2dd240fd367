"""Who sent a message: the name that it gives in its headers.

Belongs here: which headers tell, and what a name may look like. Does not belong here: what each producer sends
(`source_statistics`).
"""

from collections.abc import Sequence

NAMELESS = ""
"""Producer, in sums, of messages that name none."""

OTHER = "__other__"
"""Producer of messages whose name is unreadable; in sums, of one too many as well."""

_FIRST, _SECOND = "source", "client_id"
"""Kafka headers that name the producer; of POST the header X-Client-Id becomes the second."""

_MOST_LENGTH = 64
_PUNCTUATION = frozenset("._:/@+-")

Pairs = Sequence[tuple[str, bytes | str | None]]


def producer_of(pairs: Pairs | None) -> str | None:
    """The producer of a message with these headers, as it is kept; None where nobody gave a name."""
    value = given_name(pairs) if pairs else None
    return None if value is None else readable(value)


def given_name(pairs: Pairs) -> bytes | None:
    """The name as the headers give it; None where they give none."""
    found: bytes | str | None = None
    for name, value in pairs:
        if name == _FIRST and value is not None:
            found = value
            break
        if name == _SECOND and found is None:
            found = value
    return found.encode("utf-8", "surrogateescape") if isinstance(found, str) else found


def readable(value: bytes) -> str:
    """A producer's name as it is kept: ASCII letters, digits and ._:/@+- up to 64 characters, else `__other__`."""
    if len(value) > _MOST_LENGTH or not value.isascii():
        return OTHER
    name = value.decode("ascii")
    if (
        not name
        or not name[0].isalnum()
        or not all(c.isalnum() or c in _PUNCTUATION or c == "_" for c in name)
    ):
        return OTHER
    return name
