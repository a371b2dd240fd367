"""Groups of dead letters: the same reason, place and shape; never a value."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.fingerprint import MOST_BYTES, group_of, parts_of, shape_of
from analytics_pipeline.events.reasons import Reason
from tests.unit.events.bad_inputs import CASES

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, "no value"),
        (b"", "empty"),
        (b"null", "null"),
        (b"true", "bool"),
        (b"12", "number"),
        (b'"a"', "string"),
        (b"[1, 2]", "list"),
        (b"{}", "{}"),
        (b'{"b": 1, "a": null, "c": {"d": 1}}', "{a: null, b: number, c: object}"),
        (
            b'{"properties": {"y": "", "x": [], "z": {"a": 1}}}',
            "{properties: {x: list, y: string, z: object}}",
        ),
        (b'{"properties": 3}', "{properties: number}"),
        (b'{"a b\\u0000": 1}', '{"a b\\u0000": number}'),
        (b'{"a": NaN, "b": 1e999, "c": ' + b"9" * 5000 + b"}", "{a: number, b: number, c: number}"),
        (b"not json", "text beginning with n"),
        (b"  {broken", "text beginning with {"),
        (b"\x00\x00\x00\x01avro", "bytes beginning with 00"),
        (b"\x1f\x8b gzip", "bytes beginning with 1f"),
        (b"{" * 100_000, "text beginning with {"),
        (b'{"a": "' + b"x" * MOST_BYTES + b'"}', f"more than {MOST_BYTES} bytes, text beginning with {{"),
    ],
)
def test_shapes(value: bytes | None, shape: str) -> None:
    assert shape_of(value) == shape


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"", ["empty"]),
        (b"{}", ["{}"]),
        (b'{"b": 1, "a.x": null, "c": {"d": 1}}', ["a.x: null", "b: number", "c: object"]),
        (
            b'{"z": 1, "properties": {"a}, b: {": "", "x": []}, "p": 1}',
            ["p: number", 'properties."a}, b: {": string', "properties.x: list", "z: number"],
        ),
        (json.dumps({"x" * 70: 1}).encode(), [f"{'x' * 64}…: number"]),
        (json.dumps({f"a{n}": 1 for n in range(10, 60)}).encode(), [f"a{n}: number" for n in range(10, 50)]),
    ],
)
def test_a_shape_falls_into_its_fields(value: bytes, parts: list[str]) -> None:
    assert list(parts_of(shape_of(value))) == parts


def test_the_same_reason_place_and_shape_make_a_group() -> None:
    def event(**fields: Any) -> bytes:
        return json.dumps({"event_type": "a", "properties": {"price": "x", "n": 1}, **fields}).encode()

    path = "$.properties.items[3].price"
    group = group_of(Reason.SCHEMA_VIOLATION, path, event(user_id="u1"))
    assert len(group) == 16
    same = group_of(Reason.SCHEMA_VIOLATION, "$.properties.items[12].price", event(user_id="somebody else"))
    assert group == same
    others = [
        group_of(Reason.UNKNOWN_FIELD, path, event(user_id="u1")),
        group_of(Reason.SCHEMA_VIOLATION, "$.properties.price", event(user_id="u1")),
        group_of(Reason.SCHEMA_VIOLATION, path, event(user_id=7)),
        group_of(Reason.SCHEMA_VIOLATION, path, event(user_id="u1", properties={"price": 1.5, "n": 1})),
        group_of(Reason.SCHEMA_VIOLATION, path, event(user_id="u1", more=None)),
    ]
    assert len({group, *others}) == 6


def test_a_shape_tells_names_and_types_and_never_a_value() -> None:
    value = {
        "event_type": SECRET,
        "list": [SECRET],
        "properties": {"password": SECRET, "deep": {"k": SECRET}},
    }
    shape = shape_of(json.dumps(value).encode())
    assert shape == "{event_type: string, list: list, properties: {deep: object, password: string}}"
    assert SECRET not in shape_of(json.dumps(SECRET).encode())
    assert SECRET not in shape_of(b"\xff" + SECRET.encode())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_bad_input_has_a_small_printable_shape_soon(case: Any) -> None:
    began = time.process_time()
    shape = shape_of(case.value)
    assert time.process_time() - began < 0.5
    assert 1 <= len(shape) <= 1000
    shape.encode()
    assert shape.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.one_of(JSON.map(lambda tree: json.dumps(tree).encode("utf-8", "surrogatepass")), st.binary()))
def test_any_bytes_have_a_shape_that_can_be_stored_and_shown(value: bytes) -> None:
    shape = shape_of(value)
    assert 1 <= len(shape) <= 1000
    assert shape.isprintable()
    shape.encode()
    assert len(group_of(Reason.NOT_JSON, "$", value)) == 16


def test_the_order_of_names_does_not_matter() -> None:
    names = [f"name_{number}" for number in range(30)]
    shapes = set()
    for seed in range(5):
        random.Random(seed).shuffle(names)
        shapes.add(shape_of(json.dumps(dict.fromkeys(names, 1)).encode()))
    assert len(shapes) == 1


def test_many_and_long_names_are_cut() -> None:
    many = shape_of(json.dumps({f"{number:06}": 1 for number in range(10_000)}).encode())
    assert many.startswith('{"000000": number')
    assert len(many) <= 1000
    long = shape_of(json.dumps({"x" * 10_000: 1, "y" * 10_000: 1}).encode())
    assert long == "{" + "x" * 64 + "…: number, " + "y" * 64 + "…: number}"
