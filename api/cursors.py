"""Cursors of lists whose rows have a number or a name: where a page ended.

Belongs here: their text. Does not belong here: cursors of events, which also carry a range (`events.cursors`).
"""

from binascii import Error

import orjson

from api.errors import invalid_parameter
from api.opaque import from_text, to_text
from api.parameters import Parameter, Query

CURSOR = Parameter("cursor", "`next_cursor` of another page of the same question.")

_MOST = 2**63 - 1


def write_cursor(kind: str, *values: int | str) -> str:
    """The text that continues a list behind a row; `kind` names the list, so that no other takes it."""
    return to_text(orjson.dumps([kind, *values]))


def read_cursor(query: Query, parameter: Parameter, kind: str, *types: type) -> tuple[int | str, ...] | None:
    """The values of the cursor that a request has, if it has one.

    Raises:
        BadRequest: it is none of this list.
    """
    text = query.text(parameter)
    if text is None:
        return None
    try:
        found = orjson.loads(from_text(text))
    except (ValueError, Error):
        found = None
    if not isinstance(found, list) or [type(one) for one in found] != [str, *types] or found[0] != kind:
        raise invalid_parameter(parameter.name, "is not a cursor of this list")
    values = found[1:]
    if not all("\0" not in one if isinstance(one, str) else 0 <= one <= _MOST for one in values):
        raise invalid_parameter(parameter.name, "is not a cursor of this list")
    return tuple(values)
