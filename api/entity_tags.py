"""Entity tags of answers: the same for the same content, in every process.

Belongs here: making and comparing them. Does not belong here: tags that say what a change is based on
(`custom_events`).
"""

from hashlib import blake2b


def entity_tag(content: bytes) -> bytes:
    """Weak, because the fresh and the cached form of one answer differ in the `cached` field, and share a tag."""
    return b'W/"' + blake2b(content, digest_size=16).hexdigest().encode() + b'"'


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Weak comparison of RFC 9110, section 13.1.2."""
    candidates = (part.strip() for part in if_none_match.split(b","))
    return any(part == b"*" or _opaque(part) == _opaque(etag) for part in candidates)


def identity(etag: bytes) -> str:
    """What a tag says, without its quotes: the name of a content outside of HTTP's headers."""
    return _opaque(etag).strip(b'"').decode()


def _opaque(etag: bytes) -> bytes:
    return etag.removeprefix(b"W/")
