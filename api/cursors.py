"""Cursors of lists whose rows have a number or a name: where a page ended, and of which question.

Belongs here: their text, and what every cursor is refused for. Does not belong here: cursors of events and of points,
which also carry a range (`events.cursors`, `metrics.cursors`).

A cursor carries a mark of its question, so that no page mixes two of them; those of before have none, and still hold.
"""

from binascii import Error
from datetime import datetime

import orjson

from api.errors import BadRequest, invalid_parameter
from api.opaque import from_text, mark_of, to_text
from api.parameters import END_TIME, START_TIME, Parameter, Query

CURSOR = Parameter("cursor", "`next_cursor` of another page of the same question.")

_MOST = 2**63 - 1


def other_question() -> BadRequest:
    """The error of a cursor that comes with another question than its own."""
    return invalid_parameter(CURSOR.name, "belongs to another question")


def check_mark(mark: bytes | None, *question: object) -> None:
    """Refuse a question that is not the one of the mark, where there is a mark.

    Raises:
        BadRequest: it is another.
    """
    if mark is not None and mark != mark_of(*question):
        raise other_question()


def range_of(query: Query, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The range of a cursor, of which nothing else may be asked for.

    Raises:
        BadRequest: a time that is sent again is another.
    """
    for parameter, of_cursor in ((START_TIME, start), (END_TIME, end)):
        sent = query.time(parameter)
        if sent is not None and sent != of_cursor:
            raise other_question()
    return start, end


def write_cursor(kind: str, *values: int | str, question: object) -> str:
    """The text that continues a list behind a row; `kind` names the list, so that no other takes it."""
    return to_text(orjson.dumps([kind, *values, mark_of(question).hex()]))


def read_cursor(
    query: Query, parameter: Parameter, kind: str, *types: type, question: object
) -> tuple[int | str, ...] | None:
    """The values of the cursor that a request has, if it has one.

    Raises:
        BadRequest: it is none of this list, or of another question.
    """
    text = query.text(parameter)
    if text is None:
        return None
    try:
        found = orjson.loads(from_text(text))
    except (ValueError, Error):
        found = None
    kinds = [type(one) for one in found] if isinstance(found, list) else []
    if not isinstance(found, list) or kinds not in ([str, *types], [str, *types, str]) or found[0] != kind:
        raise invalid_parameter(parameter.name, "is not a cursor of this list")
    values = found[1 : len(types) + 1]
    if not all("\0" not in one if isinstance(one, str) else 0 <= one <= _MOST for one in values):
        raise invalid_parameter(parameter.name, "is not a cursor of this list")
    if len(found) > len(types) + 1 and found[-1] != mark_of(question).hex():
        raise other_question()
    return tuple(values)
