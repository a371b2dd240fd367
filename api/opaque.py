"""Texts that only this API can read, such as cursors, as they stand in an address: base64 without padding."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

MARK_BYTES = 8


def to_text(packed: bytes) -> str:
    """The text of some bytes."""
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """The opposite of `to_text`.

    Raises:
        ValueError: it is no such text.
    """
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def mark_of(*question: object) -> bytes:
    """Tells one question from another; what is equal has to print alike."""
    return blake2b(repr(question).encode(), digest_size=MARK_BYTES).digest()
