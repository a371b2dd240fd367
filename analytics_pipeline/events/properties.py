"""The text of `properties`: checked, and kept as the producer wrote it wherever that is possible.

`quick` recognises texts that are certainly fine at the price of a few scans; everything else goes through
`exact`, which reads every number and every duplicate key. Duplicate keys: the last one wins, as in jsonb;
such a text is written anew, with its numbers unchanged.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import MAX_DEPTH
from analytics_pipeline.events.reasons import Reason

PATH = "$.properties"
EMPTY = b"{}"

_LARGEST_FLOAT_DIGITS = 308
_SMALLEST_EXPONENT = -324
_LONGEST_EXPONENT = 1000
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % _LARGEST_FLOAT_DIGITS)
_EXPONENT = re.compile(r"[eE]([-+]?\d+)$", re.ASCII)
_parse = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


def quick(raw: bytes, max_properties: int, max_bytes: int) -> dict[str, Any] | None:
    """The parsed object when `raw` can be stored as it is, None when only `exact` can tell.

    A text no longer than `max_bytes` has no value that is; one without a backslash has no NUL; one with as
    many colons as keys and colons inside strings has no duplicate key; one with few brackets is not deep;
    one without `e-` and no longer than a float has digits has no number out of range that the parser accepts.
    """
    if len(raw) > max_bytes or b"\\" in raw or b"e-" in raw or b"E-" in raw:
        return None
    if len(raw) > _LARGEST_FLOAT_DIGITS and _LONG_NUMBER.search(raw):
        return None
    parsed = _parse(raw)
    if type(parsed) is not dict or len(parsed) > max_properties:
        return None
    if raw.count(b":") != len(parsed) and raw.count(b":") != _colons(parsed):
        return None
    if raw.count(b"[") + raw.count(b"{") >= MAX_DEPTH:
        return None
    return parsed


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
        raise Rejected(Reason.NUL_CHARACTER, path=PATH)
    if len(tree) > max_properties:
        raise Rejected(
            Reason.TOO_MANY_PROPERTIES, f"{len(tree)} keys, at most {max_properties} are allowed", PATH
        )
    for key, value in tree.items():
        size = max(len(key.encode()), len(value.encode() if isinstance(value, str) else _write(value)))
        if size > max_bytes:
            raise Rejected(
                Reason.PROPERTY_TOO_LARGE, f"{size} bytes, at most {max_bytes} are allowed", f"{PATH}.*"
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

    return json.loads(
        text, parse_int=_number, parse_float=_number, parse_constant=_not_json, object_pairs_hook=collect
    )


def _number(text: str) -> msgspec.Raw:
    exponent = _EXPONENT.search(text)
    power = exponent.group(1) if exponent else "0"
    if len(power) > _LONGEST_EXPONENT or int(power) < _SMALLEST_EXPONENT or math.isinf(float(text)):
        raise Rejected(Reason.NUMBER_OUT_OF_RANGE)
    return msgspec.Raw(text.encode())


def _not_json(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _colons(value: object) -> int:
    """Colons that the compact text of a parsed value without escapes has."""
    if isinstance(value, str):
        return value.count(":")
    if isinstance(value, dict):
        return len(value) + sum(_colons(key) + _colons(below) for key, below in value.items())
    if isinstance(value, list):
        return sum(map(_colons, value))
    return 0


def texts(value: Any) -> Iterator[str]:
    """Every string and every name in a parsed value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from texts(below)
    elif isinstance(value, list):
        for below in value:
            yield from texts(below)
