"""Where a text stops being JSON, and what was met there: a second look at what is refused already.

Belongs here: places, in few words; never a character of the text. Does not belong here: deciding what is refused
(`document`, `properties`).
"""

import json
import re
from enum import StrEnum
from typing import NamedTuple, NoReturn

GZIP_MAGIC = b"\x1f\x8b"
WHITE_SPACE = b" \t\r\n"
_SPACE = WHITE_SPACE.decode()
# A string without an end goes on to the end of the text: looking for an end from each quote takes n² steps.
STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+("?)', re.DOTALL)
"""A string with its quotes; the group is empty where it has no end."""
_CONSTANT = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|(NaN|-?Infinity)', re.DOTALL)
_SCHEMA_ID_BYTES = 5


class Met(StrEnum):
    """What a parser met that it did not expect."""

    MORE = "a document ends, and more follows"
    END = "the text ends inside the document"
    OPEN_STRING = "the string that begins there has no end"
    COMMA = "a comma before a closing bracket"
    CONTROL = "a control character, which must be escaped"
    CONSTANT = "NaN and Infinity are not JSON"
    OTHER = "something else was expected"


class Flaw(NamedTuple):
    """The first place at which a text is no JSON document; `position` counts characters from 0."""

    position: int
    met: Met


class _ConstantMet(ValueError):
    """NaN or Infinity, which the parser of the standard library would take."""


def describe(value: bytes) -> str:
    """Why bytes that were refused as `not_json` are not, in one sentence; bytes are counted from 0."""
    begin = len(value) - len(value.lstrip(WHITE_SPACE))
    if begin == len(value):
        return "there is nothing but white space"
    if value.startswith(GZIP_MAGIC):
        return "the value looks like gzip"
    if value[0] == 0 and len(value) > _SCHEMA_ID_BYTES:
        return "the value begins with a zero byte, as one with the id of a schema registry does"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"not JSON at byte {begin}: no JSON begins so"
    flaw = find_flaw(text)
    return f"not one JSON document at {place(text, flaw.position)}: {flaw.met.value}"


def find_flaw(text: str) -> Flaw:
    """The first flaw of a text that is not JSON, and not too deep.

    Raises:
        ValueError: it is JSON.
    """
    try:
        _, end = _parse(text, len(text) - len(text.lstrip(_SPACE)))
    except json.JSONDecodeError as error:
        return Flaw(error.pos, _met(text, error.pos))
    except _ConstantMet:
        at = next(found.start() for found in _CONSTANT.finditer(text) if found.group(1))
        return Flaw(at, Met.CONSTANT)
    more = text[end:].lstrip(_SPACE)
    if not more:
        raise ValueError("the text is JSON")
    return Flaw(len(text) - len(more), Met.MORE)


def place(text: str, position: int) -> str:
    """`byte 7`, counted from 0, and where there are lines `line 2, column 3 (byte 7)`."""
    before = text[:position]
    byte = f"byte {len(before.encode())}"
    line = before.count("\n") + 1
    return byte if line == 1 else f"line {line}, column {position - before.rfind(chr(10))} ({byte})"


def _met(text: str, position: int) -> Met:
    rest = text[position:]
    following = rest.lstrip(_SPACE)
    if not following:
        return Met.END
    if rest[0] < " ":
        return Met.CONTROL
    if (found := STRING.match(rest.encode())) and not found.group(1):
        return Met.OPEN_STRING
    # Versions of Python differ in which of the two is the place.
    if following[0] in "}]" and text[:position].rstrip(_SPACE).endswith(","):
        return Met.COMMA
    if following[0] == "," and following[1:].lstrip(_SPACE)[:1] in ("}", "]"):
        return Met.COMMA
    return Met.OTHER


def _skip(_number: str) -> int:
    return 0


def _refuse(_constant: str) -> NoReturn:
    raise _ConstantMet


_parse = json.JSONDecoder(parse_int=_skip, parse_float=_skip, parse_constant=_refuse).raw_decode
