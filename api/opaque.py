"""Texts that only this API can read, such as cursors, as they stand in an address: base64 without padding."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


def to_text(packed: bytes) -> str:
    """The text of some bytes."""
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """The opposite of `to_text`.

    Raises:
        ValueError: it is no such text.
    """
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
