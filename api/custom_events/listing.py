"""What a list of definitions is asked for: filters and page.

Belongs here: reading the query string, cursors. Does not belong here: SQL (`repository`), shapes (`schemas`).

A cursor names the last definition of a page, so that what is defined or deleted meanwhile moves nothing else.
"""

from binascii import Error
from dataclasses import dataclass

from analytics_pipeline.events.limits import MAX_TEXT
from api.cursors import check_mark
from api.errors import invalid_parameter
from api.opaque import MARK_BYTES, from_text, mark_of, to_text
from api.parameters import Parameter, Query

MOST = 200
"""Definitions of a page: a schema may have 64 KiB."""
_DEFAULT = 100
_LONGEST_CURSOR = 2_048
_FORMAT, _MARKED = b"\x01", b"\x02"
"""A name; a mark of the question and a name."""

IS_ACTIVE = Parameter(
    "is_active",
    "Only definitions that judge events (true), or only those that do not (false).",
    "true",
    (("type", "string"), ("enum", ["true", "false"])),
)
PREFIX = Parameter(
    "prefix",
    "Only definitions whose name begins so.",
    "custom.",
    (("type", "string"), ("maxLength", MAX_TEXT)),
)
LIMIT = Parameter(
    "limit",
    f"Most definitions of a page. Default {_DEFAULT}.",
    _DEFAULT,
    (("type", "integer"), ("minimum", 1), ("maximum", MOST)),
)
CURSOR = Parameter("cursor", "`next_cursor` of the page before.")
PARAMETERS = (IS_ACTIVE, PREFIX, LIMIT, CURSOR)


@dataclass(frozen=True, slots=True)
class Listing:
    """Which definitions: names after `after`, in the order of their code points."""

    is_active: bool | None
    prefix: str
    limit: int
    after: str

    def cursor(self, name: str) -> str:
        """Leads to what comes after this name."""
        return to_text(_MARKED + mark_of(self.is_active, self.prefix) + name.encode())


def read_listing(query_string: bytes) -> Listing:
    """Understand a query string.

    Raises:
        BadRequest: a parameter is malformed.
    """
    query = Query(query_string, PARAMETERS)
    is_active = query.choice(IS_ACTIVE, ("true", "false"))
    cursor = query.text(CURSOR, limit=_LONGEST_CURSOR)
    mark, after = (None, "") if cursor is None else _read_cursor(cursor)
    found = Listing(
        is_active=None if is_active is None else is_active == "true",
        prefix=query.text(PREFIX, limit=MAX_TEXT) or "",
        limit=query.number(LIMIT, default=_DEFAULT, low=1, high=MOST),
        after=after,
    )
    check_mark(mark, found.is_active, found.prefix)
    return found


def _read_cursor(cursor: str) -> tuple[bytes | None, str]:
    """The mark of its question, if it has one, and the name."""
    try:
        packed = from_text(cursor)
        begin = 1 + MARK_BYTES if packed[:1] == _MARKED else 1
        mark, name = packed[1:begin] or None, packed[begin:].decode()
    except (ValueError, Error):
        packed, mark, name = b"", None, ""
    if packed[:1] not in (_FORMAT, _MARKED) or not name or "\0" in name or len(name) > MAX_TEXT:
        raise invalid_parameter("cursor", "is not a cursor of this list")
    return mark, name
