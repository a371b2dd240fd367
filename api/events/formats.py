"""How events are written: the formats of a list, and the media types that ask for them.

Belongs here: their names. Does not belong here: writing rows (`rows`), the query string (`listing`).
"""

from enum import StrEnum


class Format(StrEnum):
    """How events are written."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"


_MEDIA_TYPES = {
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "text/csv": Format.CSV,
    "application/vnd.apache.arrow.stream": Format.ARROW,
}


def accepted(accept: str) -> Format:
    """The first media type of an Accept header that is one of the streams, else JSON."""
    for part in accept.split(","):
        found = _MEDIA_TYPES.get(part.partition(";")[0].strip().lower())
        if found is not None:
            return found
    return Format.JSON
