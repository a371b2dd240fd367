"""What the fuzzer throws: strategies for messages and schemas, and good messages damaged at random.

Belongs here: inventing. Does not belong here: what must hold for them (`fuzz_decode`).
"""

import json
import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tests.unit.events.bad_inputs import CASES, JUDGED, raw
from tests.unit.events.json_classes import I, N, Y
from tests.unit.events.test_json_classes import event

PIECES = [
    *(bytes([code]) for code in (*b"\0\t\n\r \"',-.09:E[]e{}\x7f", 1, 128, 255)),
    *(
        b"\\",
        b"\\u",
        b"\\u0000",
        b"\\ud800",
        b"\\udc00",
        b"\\u005c",
        b"{}",
        b"[]",
        b"[[",
        b"}}",
        b",,",
        b"null",
        b"true",
    ),
    *(
        b"NaN",
        b"Infinity",
        b"1e400",
        b"1e-400",
        b"-0",
        b"1E5",
        b"e5",
        b"0" * 310,
        b"9" * 310,
        b"T24:00",
        b"+24:00",
    ),
    *(b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x82", b"[" * 101, b'"' * 7, b"x" * 1100),
    *(b'"event_type":', b'"a":1,"a":2,', b'"timestamp":null,', b'"id":"",', b'"properties":{},', b',"x":1'),
]
MEMBERS = [
    b'"%b":%b,' % (name, value)
    for name in (b"event_type", b"id", b"user_id", b"session_id", b"properties", b"timestamp", b"other")
    for value in (
        b"null",
        b"5",
        b'""',
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\xff"',
        b'"%b"' % (b"x" * 256),
        b"[]",
        b"{}",
        b"1e400",
    )
]


class Mutator:
    """Good and bad messages with a few bytes changed, in the company of others."""

    def __init__(self, chosen: random.Random) -> None:
        self._chosen = chosen
        wrapped = [event(text) for texts in [*Y.values(), *N.values(), *I.values()] for text in texts()]
        corpus = [case.value for case in [*CASES, *JUDGED] if case.value] + [
            raw(user_id="u"),
            raw(id=str(UUID(int=7))),
        ]
        self._corpus = [value for value in [*corpus, *wrapped] if len(value) < 5_000]
        self._good = [
            case.value
            for case in [*CASES, *JUDGED]
            if case.value and case.outcome == "ok" and len(case.value) < 5_000
        ]

    def batch(self) -> list[bytes]:
        """One message or many: all good but one, good and changed, or anything."""
        chosen = self._chosen
        count, kind = chosen.choice([1, 2, 64, 80]), chosen.random()
        if kind < 0.4:
            values = [chosen.choice(self._good) for _ in range(count)]
            values[chosen.randrange(count)] = self._message(self._good, 0.9)
            return values
        source = self._good if kind < 0.7 else self._corpus
        return [self._message(source, chosen.choice([0.1, 0.9])) for _ in range(count)]

    def _message(self, source: Sequence[bytes], changes: float) -> bytes:
        chosen = self._chosen
        value = chosen.choice(source)
        if changes > 0.5 and value[:1] == b"{" and chosen.random() < 0.5:
            value = b"{" + chosen.choice(MEMBERS) + value[1:]
        while chosen.random() < changes:
            start = chosen.randrange(len(value) + 1)
            end = min(len(value), start + chosen.choice([0, 0, 1, 2, 10]))
            piece = chosen.choice(PIECES)
            if chosen.random() < 0.2:
                other = chosen.choice(self._corpus)
                at = chosen.randrange(len(other) + 1)
                piece = other[at : at + chosen.randrange(40)]
            value = value[:start] + piece + value[end:]
            changes *= 0.7
        return value


texts = st.text(st.characters(codec=None, exclude_categories=[]), max_size=20) | st.sampled_from(
    [
        "",
        "a",
        "defined.type",
        "x",
        "2024-05-15T11:59:30Z",
        "é" * 200,
        "a\0b",
        "\ud800",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.integers(-(10**320), 10**320)
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=5) | st.dictionaries(texts, below, max_size=5),
    max_leaves=20,
)
events = st.fixed_dictionaries(
    {"event_type": st.sampled_from(["a", "defined.type", "order.placed"]) | trees},
    optional={
        "id": st.uuids().map(str) | trees,
        "user_id": texts | trees,
        "session_id": texts | trees,
        "properties": st.dictionaries(texts, trees, max_size=6) | trees,
        "timestamp": st.datetimes(timezones=st.timezones() | st.none()).map(lambda at: at.isoformat())
        | trees,
        "other": trees,
    },
)
spellings = st.tuples(
    st.booleans(), st.sampled_from([None, 0, 1]), st.sampled_from([(",", ":"), (" , ", "\t:\n")])
)


def spelled(content: Any, how: tuple[bool, int | None, tuple[str, str]]) -> bytes:
    """JSON in one of many spellings."""
    text = json.dumps(content, ensure_ascii=how[0], indent=how[1], separators=how[2])
    return text.encode("utf-8", "surrogatepass")


written = st.builds(spelled, events | trees, spellings)
names = st.sampled_from(["a", "b", "x", ""])


def _schemas(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(names, below, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["object", "string", "number", "integer", "array", "null", "boolean", "nonsense"]
            ),
            "properties": named,
            "patternProperties": st.dictionaries(
                st.sampled_from(["^a", ".", "(", "(a+)+$"]), below, max_size=2
            ),
            "additionalProperties": below,
            "required": st.lists(names, max_size=3),
            "items": below,
            "contains": below,
            "allOf": st.lists(below, max_size=3),
            "anyOf": st.lists(below, max_size=3),
            "oneOf": st.lists(below, max_size=3),
            "not": below,
            "if": below,
            "then": below,
            "propertyNames": below,
            "unevaluatedProperties": below,
            "dependentSchemas": named,
            "$defs": named,
            "$ref": st.sampled_from(
                ["#", "#/$defs/a", "#/properties/x", "#/anyOf/0", "http://127.0.0.1:1/", "other.json"]
            ),
            "pattern": st.sampled_from(["^a*$", "(a+)+$", "(?=a)", "[", "\\d{1,300}"]),
            "minimum": scalars,
            "multipleOf": scalars,
            "enum": st.lists(scalars, max_size=3),
            "const": trees,
            "uniqueItems": st.booleans(),
            "maxLength": scalars,
            "$id": texts,
            "format": texts,
        },
    )


# As decode hands them over: no half pairs, nothing that is not finite.
readable = st.dictionaries(
    names | st.text(max_size=5),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda below: st.lists(below, max_size=4) | st.dictionaries(names | st.text(), below, max_size=4),
        max_leaves=20,
    ),
    max_size=4,
)
schemas = st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=8)
