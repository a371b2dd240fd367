"""Which dead letters belong together: refused for the same reason, at the same place, in values of the same shape.

Belongs here: the shape of a value and the name of a group. Does not belong here: counting groups
(`storage.dead_letters`). Names and types alone go into either, never a value; both are bounded.
"""

import hashlib
import json
import re
from functools import lru_cache
from typing import Any

import msgspec

from analytics_pipeline.events.reasons import Reason

MOST_BYTES = 262_144
"""Larger values are not parsed: their shape is their size and first character."""
_MOST_NAMES = 40
_LONGEST_NAME = 64
_LONGEST_PATH = 200
_LONGEST_SHAPE = 1000
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_INDEX = re.compile(r"\[\d+\]")
_TYPES = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "list",
    dict: "object",
}
_PART = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[A-Za-z_][\w.-]*)…?): (\w+|\{)|(\})', re.ASCII)
_parse = msgspec.json.Decoder().decode


def group_of(reason: Reason, path: str, value: bytes | None) -> str:
    """The group of a dead letter: 16 hexadecimal digits of a hash of reason, path and shape.

    Args:
        reason: why it was refused.
        path: where, as in `Rejected.path`; positions in lists don't count.
        value: the bytes as they came.
    """
    place = _INDEX.sub("[]", path)[:_LONGEST_PATH]
    text = "\n".join((reason.value, place, shape_of(value)))
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()


def shape_of(value: bytes | None) -> str:
    """The types of the top-level fields and of the properties, `{a: string, properties: {b: number}}`.

    Values that are not JSON are told apart by how they begin.
    """
    if value is None:
        return "no value"
    if not value:
        return "empty"
    if len(value) > MOST_BYTES:
        return f"more than {MOST_BYTES} bytes, {_beginning(value)}"
    try:
        tree = _parse(value)
    except (ValueError, RecursionError):
        try:
            # More lenient. Numbers and the constants that are not JSON are never converted: some take minutes.
            tree = json.loads(value, parse_int=_zero, parse_float=_zero, parse_constant=_zero)
        except (ValueError, RecursionError):
            return _beginning(value)
    return _described(tree, {"properties"})[:_LONGEST_SHAPE]


def parts_of(shape: str) -> tuple[str, ...]:
    """The fields that a shape tells of, in order: `a: string`, `properties.b: number`; other shapes are one."""
    parts, opened = [], ""
    for found in _PART.finditer(shape) if shape.startswith("{") else ():
        name, kind, end = found.groups()
        if end or kind == "{":
            opened = "" if end else f"{name}."
        else:
            parts.append(f"{opened}{name}: {kind}")
    return tuple(parts) or (shape,)


def _described(tree: Any, opened: set[str]) -> str:
    """The type of a value; of an object its names, and those of the fields to be opened."""
    if not isinstance(tree, dict):
        return _TYPES[type(tree)]
    names = sorted(tree)[:_MOST_NAMES]
    parts = [
        f"{_name(name)}: {_described(tree[name], set()) if name in opened else _TYPES[type(tree[name])]}"
        for name in names
    ]
    return "{" + ", ".join(parts + ["…"] * (len(tree) > len(names))) + "}"


@lru_cache(4096)
def _name(name: str) -> str:
    shown = name[:_LONGEST_NAME]
    shown = shown if _PLAIN.fullmatch(shown) else json.dumps(shown)
    return shown + "…" * (len(name) > _LONGEST_NAME)


def _beginning(value: bytes) -> str:
    first = value[:16].lstrip(b" \t\r\n")[:1]
    if b"!" <= first <= b"~":
        return f"text beginning with {first.decode()}"
    return f"bytes beginning with {value[:1].hex()}"


def _zero(_text: str) -> int:
    return 0
