"""The text of `properties`: checked, and kept as the producer wrote it wherever that is possible.

`quick` recognises texts that are certainly fine at the price of a few scans; everything else goes through
`exact`, which reads every number. Duplicate keys: the last one wins, as in jsonb; where `exact` finds them, the
text is written anew, with its numbers unchanged.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import msgspec
import numpy as np

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import MAX_DEPTH
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.events.syntax import place

PATH = "$.properties"
EMPTY = b"{}"

_LARGEST_FLOAT_DIGITS = 308
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -324, 1000
"""Beyond these Postgres refuses or pads even a zero."""
_LONGEST_EXPONENT = 1000
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % _LARGEST_FLOAT_DIGITS)
_EXPONENT = re.compile(r"[eE]([-+]?\d+)$", re.ASCII)
_NUMBER = re.compile(
    r'"(?:[^"\\]++|\\.?)*+"?|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)', re.DOTALL
)
"""A string, or in the group a number, as JSON has them."""
_SHAPE = bytes.maketrans(b"123456789.+-E", b"000000000000e")
"""Shows a number with an exponent, and whatever looks like one, as `0e0`."""
_EXPONENT_NUMBER = re.compile(rb"[:,\[][ \t\r\n]*-?[0-9.]+[eE]")
"""A number with an exponent where a value begins; ids in hexadecimal only look like one."""
_BRACE = ord("{")
_SHORTEST_MEMBER = 5
"""Bytes: an empty name, its quotes, a colon, a digit and a comma."""
_parse_all = msgspec.json.Decoder(list[dict[str, Any]]).decode
_parse = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


def quick(raw: bytes, max_properties: int, max_bytes: int) -> dict[str, Any] | None:
    """The parsed object when `raw` can be stored as it is, None when only `exact` can tell.

    A text no longer than `max_bytes` has no value that is; one without a backslash has no NUL; one with few
    brackets is not deep; one without exponents and no longer than a float has digits has no number out of range.
    Duplicate keys may stay: jsonb and this parser both keep the last.

    Raises:
        msgspec.MsgspecError: not JSON.
    """
    parsed = _parse(raw) if _is_plain(raw, len(raw), max_bytes) else None
    if type(parsed) is not dict or len(parsed) > max_properties:
        return None
    return None if raw.count(b"[") + raw.count(b"{") >= MAX_DEPTH else parsed


def all_quick(texts: Sequence[msgspec.Raw], max_properties: int, max_bytes: int) -> bool:
    """Whether `quick` would say so of every text, at a fraction of the price: none of them is parsed.

    Args:
        texts: JSON values, each of them valid by itself but for its encoding.
        max_properties: most names.
        max_bytes: most bytes of a name or value.

    Raises:
        UnicodeDecodeError: one of them is not UTF-8.
    """
    joined = b",".join(texts)
    ends = np.cumsum(np.array(list(map(len, texts))) + 1)
    longest = int(np.diff(ends, prepend=0).max()) - 1
    if not _is_plain(joined, longest, max_bytes):
        return False
    if not joined.isascii():
        joined.decode()
    is_brace = np.frombuffer(joined, np.uint8) == _BRACE
    if not (is_brace[0] and is_brace[ends[:-1]].all()):
        return False
    # Each text has one bracket at least, so this is what a single one may have at most.
    if np.count_nonzero(is_brace) + joined.count(b"[") - len(texts) + 1 >= MAX_DEPTH:
        return False
    if longest // _SHORTEST_MEMBER <= max_properties:
        return True
    return max(map(len, _parse_all(b"[" + joined + b"]"))) <= max_properties


def _is_plain(text: bytes, longest: int, max_bytes: int) -> bool:
    return not (
        longest > max_bytes
        or b"\\" in text
        or (b"0e0" in text.translate(_SHAPE) and _EXPONENT_NUMBER.search(text))
        or (longest > _LARGEST_FLOAT_DIGITS and _LONG_NUMBER.search(text))
    )


def exact(text: str, max_properties: int, max_bytes: int) -> tuple[bytes, dict[str, Any]]:
    """The text to store and its parsed form; `text` is valid JSON, no deeper than allowed.

    Raises:
        Rejected: bad_properties, number_out_of_range, nul_character, too_many_properties, property_too_large.
    """
    duplicates: list[str] = []
    tree = read(text, duplicates)
    if not isinstance(tree, dict):
        raise Rejected(Reason.BAD_PROPERTIES, path=PATH)
    if any("\0" in found for found in texts(tree)):
        raise Rejected(Reason.NUL_CHARACTER, _place_of_nul(tree), PATH)
    if len(tree) > max_properties:
        raise Rejected(
            Reason.TOO_MANY_PROPERTIES, f"{len(tree)} keys, at most {max_properties} are allowed", PATH
        )
    for key, value in tree.items():
        name_bytes = len(key.encode())
        size = max(name_bytes, len(value.encode() if isinstance(value, str) else _write(value)))
        if size > max_bytes:
            part = "name" if name_bytes == size else "value"
            raise Rejected(
                Reason.PROPERTY_TOO_LARGE,
                f"{_numbered(tree, key)}: its {part} has {size} bytes, at most {max_bytes} are allowed",
                f"{PATH}.*",
            )
    kept = _write(tree) if duplicates else text.encode()
    return kept, _parse(kept)


def read(text: str, duplicates: list[str]) -> Any:
    """Parse JSON with the standard library, numbers as `msgspec.Raw` of their own text.

    Args:
        text: one document, no deeper than `MAX_DEPTH`.
        duplicates: receives the keys that came more than once in one object.

    Raises:
        ValueError: not JSON.
        Rejected: number_out_of_range.
    """

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            duplicates.append("")
        return found

    try:
        return json.loads(
            text, parse_int=_number, parse_float=_number, parse_constant=_not_json, object_pairs_hook=collect
        )
    except Rejected:
        raise _out_of_range(text) from None


def _number(text: str) -> msgspec.Raw:
    exponent = _EXPONENT.search(text)
    power = exponent.group(1) if exponent else "0"
    if len(power) > _LONGEST_EXPONENT or not _SMALLEST_EXPONENT <= int(power) <= _LARGEST_EXPONENT:
        raise Rejected(
            Reason.NUMBER_OUT_OF_RANGE,
            f"the number's exponent is outside {_SMALLEST_EXPONENT} to {_LARGEST_EXPONENT}",
        )
    if math.isinf(float(text)):
        raise Rejected(Reason.NUMBER_OUT_OF_RANGE, "the number is not finite as a 64-bit float")
    return msgspec.Raw(text.encode())


def _out_of_range(text: str) -> Rejected:
    """The refusal of a text with such a number, which says where the first one begins."""
    for found in _NUMBER.finditer(text):
        try:
            _number(found.group(1) or "0")
        except Rejected as rejected:
            return Rejected(rejected.reason, f"at {place(text, found.start())}: {rejected.detail}")
    raise LookupError("every number is in range")


def _place_of_nul(tree: dict[str, Any]) -> str:
    key = next(key for key, value in tree.items() if any("\0" in found for found in texts({key: value})))
    part = "name" if "\0" in key else "value"
    return f"{_numbered(tree, key)}: its {part} holds the character U+0000, which cannot be stored"


def _numbered(tree: dict[str, Any], key: str) -> str:
    """Which property it is, without its name, which may say too much."""
    return f"property {list(tree).index(key) + 1} of {len(tree)}"


def _not_json(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def texts(value: Any) -> Iterator[str]:
    """Every string and every name in a parsed value, in no order; no generator for each of many small values."""
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            yield from found
            left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)
