"""Schemas that may judge events, and what is said about the others; none may stop a process."""

import json
import time
from typing import Any

import pytest

from analytics_pipeline.events.definitions import Violation, compile_definition
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.json_schema import MAX_MEMBERS, UnusableSchema, check_schema, read_schema

BASE = {
    f"p{number}": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "maxLength": 64}
    for number in range(50)
}


def doubling(levels: int) -> dict[str, Any]:
    """References that take 2^levels evaluations."""
    shelf: dict[str, Any] = {"a0": {"type": "object"}}
    for level in range(1, levels):
        shelf[f"a{level}"] = {"allOf": [{"$ref": f"#/$defs/a{level - 1}"}] * 2}
    return {"$defs": shelf, "$ref": f"#/$defs/a{levels - 1}"}


ACCEPTED: dict[str, Any] = {
    "empty": {},
    "50 properties with patterns": {"properties": BASE, "required": list(BASE), "additionalProperties": False},
    "references": {"$defs": {"a/b": {"type": "number"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}},
    "a reference to a property": {"properties": {"x": {"$ref": "#/properties/y"}, "y": {"type": "number"}}},
    "an address as its name": {"$id": "https://127.0.0.1:1/x", "properties": {"x": {"$ref": "#/$defs/y"}},
                               "$defs": {"y": {}}},
    "draft 7": {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"x": {}},
                "items": [{}], "dependencies": {"x": ["y"], "z": {"type": "object"}}},
    "properties named like keywords": {"properties": {"$ref": {}, "$id": {}, "anyOf": {"type": "number"}, "": {}}},
    "data that looks like a reference": {"properties": {"x": {"const": {"$ref": "http://x/"}}}},
    "alternatives": {"properties": {"side": {"oneOf": [{"const": "BUY"}, {"const": "SELL"}]}}},
    "an empty name": {"properties": {"": {"anyOf": [{"type": "number"}, {"type": "null"}]}}},
}  # fmt: skip

REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([], "written as an object"),
    "a number": (5, "written as an object"),
    "unknown type": ({"properties": {"x": {"type": "nonsense"}}}, "at #/properties/x/type: is not a value"),
    "http": ({"$ref": "http://127.0.0.1:1/x"}, "only lead inside"),
    "https": ({"properties": {"x": {"$ref": "https://127.0.0.1:1/x"}}}, "only lead inside"),
    "file": ({"properties": {"x": {"$ref": "file:///etc/passwd"}}}, "only lead inside"),
    "another file": ({"$ref": "other.json"}, "only lead inside"),
    "the meta-schema": ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "only lead inside"),
    "an anchor": ({"$defs": {"x": {"$anchor": "y"}}, "$ref": "#y"}, "only lead inside"),
    "a dynamic reference": ({"$dynamicAnchor": "y", "properties": {"x": {"$dynamicRef": "#y"}}}, "is not read"),
    "another dialect": ({"$schema": "http://127.0.0.1:1/meta"}, "draft from 4 to 2020-12"),
    "nothing there": ({"$ref": "#/$defs/x"}, "leads to nothing"),
    "no schema there": ({"x": {"y": {}}, "$ref": "#/x/y"}, "only lead to a schema"),
    "an $id inside": ({"properties": {"x": {"$id": "http://127.0.0.1:1/"}}}, "at #/properties/x: only the whole"),
    "itself": ({"$ref": "#"}, "form a circle"),
    "itself, deeper": ({"properties": {"x": {"$ref": "#"}}}, "form a circle"),
    "a circle on the shelf": ({"$defs": {"x": {"items": {"$ref": "#/$defs/x"}}}}, "form a circle"),
    "a long chain": ({"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(90)} | {"a90": {}}},
                     "chain of more than 50"),
    "doubling references": (doubling(20), "could take"),
    "doubling for ever": (doubling(50), "a chain of more"),
    "look-ahead": ({"properties": {"x": {"pattern": "(?=a)b"}}}, "at #/properties/x/pattern: .*linear time"),
    "back-reference": ({"properties": {"x": {"pattern": "(a)\\1"}}}, "linear time"),
    "a pattern that explodes": ({"properties": {"x": {"pattern": "((x{100}){100}){100}"}}}, "linear time"),
    "a bad name pattern": ({"patternProperties": {"(": {}}}, r"at #/patternProperties/\(: .*linear time"),
    "large patterns on all": ({"additionalProperties": {"pattern": "(?:a?){479}a{479}"}}, "could take"),
    "alternatives on all": ({"additionalProperties": {"items": {"anyOf": [{"const": n} for n in range(1000)]}}},
                            "could take"),
    "deep": (json.loads('{"anyOf":[' * 30 + "{}" + "]}" * 30), "deeper than 20"),
    "wide": ({"enum": list(range(MAX_MEMBERS + 1))}, "more than 5000"),
    "1 MB": ({"title": "x" * 1_000_000}, "longer than 65536"),
    "NUL": ({"title": "\0"}, "NUL"),
    "NUL in a name": ({"properties": {"\0": {}}}, "NUL"),
    "not finite": ({"minimum": float("inf")}, "cannot be written as JSON"),
}  # fmt: skip


@pytest.mark.parametrize("schema", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(schema: Any) -> None:
    assert check_schema(schema) == schema
    compile_definition("mine", 1, schema)


@pytest.mark.parametrize(("schema", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_with_a_sentence(schema: Any, sentence: str) -> None:
    started = time.process_time()
    with pytest.raises(UnusableSchema, match=sentence):
        check_schema(schema)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("NaN", "is not JSON"),
        ('{"minimum":NaN}', "is not JSON"),
        ("[" * 60_000, "is not JSON"),
        ("5", "written as an object"),
        (b"\xff", "is not JSON"),
        ("{" + " " * 70_000 + "}", "longer than"),
    ],
)
def test_texts_that_are_no_schema(text: str | bytes, sentence: str) -> None:
    with pytest.raises(UnusableSchema, match=sentence):
        read_schema(text)


def worst_event() -> dict[str, Any]:
    return {str(number): ["a"] * 255 for number in range(50)}


@pytest.mark.parametrize(
    "schema",
    [
        {"additionalProperties": {"items": {"anyOf": [{"pattern": f"^{n}$"} for n in range(40)]}}},
        {"anyOf": [{"additionalProperties": {"items": {"const": n}}} for n in range(200)]},
        {"allOf": [{"patternProperties": {".": {"items": {"const": n}}}} for n in range(15)]},
        {"oneOf": [{"additionalProperties": {"contains": {"const": n}}} for n in range(200)]},
        doubling(9),
    ],
    ids=["alternatives below", "alternatives above", "all of", "one of", "references"],
)
def test_an_accepted_schema_judges_the_worst_event_within_a_second(schema: Any) -> None:
    definition = compile_definition("mine", 1, schema)
    for event in (
        worst_event(),
        {str(n): "a" * 1024 for n in range(50)},
        {str(n): list(range(256)) for n in range(50)},
    ):
        started = time.process_time()
        definition.violation(event)
        assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("schema", "properties", "expected"),
    [
        ({"required": ["x"]}, {}, ("$.properties", "required", "the required property x is missing")),
        ({"properties": {"x": {"type": ["null", "number"]}}}, {"x": "secret"},
         ("$.properties.x", "type", "must be null or number")),
        ({"properties": {"x": {"items": {"minimum": 3}}}}, {"x": [3, 4, 1]},
         ("$.properties.x[2]", "minimum", "minimum does not hold")),
        ({"additionalProperties": {"type": "number"}}, {"secret": "secret"},
         ("$.properties.*", "type", "must be number")),
        ({"additionalProperties": False}, {"secret": 1},
         ("$.properties", "falseSchema", "falseSchema does not hold")),
        ({"properties": {"x": {"anyOf": [{"type": "number"}, {"type": "null"}]}}}, {"x": "secret"},
         ("$.properties.x", "anyOf", "anyOf does not hold")),
        ({"oneOf": [{"required": ["x"]}, {"required": ["y"]}]}, {"x": 1, "y": 1},
         ("$.properties", "oneOf", "oneOf does not hold")),
        ({"properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {"anyOf": [{"const": 1}]}}}, {"x": 2},
         ("$.properties.x", "anyOf", "anyOf does not hold")),
        ({"anyOf": [{"properties": {"x": {"type": "number"}}}, {"required": ["y"]}],
          "unevaluatedProperties": False}, {"x": 1, "z": 2},
         ("$.properties", "schema", "the schema does not hold")),
        ({"anyOf": [{"title": "x"}, {"type": "number"}], "properties": {"z": {"$ref": "#/anyOf/1"}}}, {"z": "a"},
         ("$.properties", "schema", "the schema does not hold")),
        ({"propertyNames": {"maxLength": 2}}, {"secret": 1},
         ("$.properties", "propertyNames", "propertyNames does not hold")),
        ({"dependentRequired": {"x": ["y"]}}, {"x": 1},
         ("$.properties", "required", "the required property y is missing")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_without_the_data(
    schema: Any, properties: Any, expected: tuple[str, str, str]
) -> None:
    definition = compile_definition("mine", 7, schema)
    assert definition.violation(properties) == Violation(*expected)
    with pytest.raises(Rejected) as rejected:
        definition.check(properties)
    assert (rejected.value.path, rejected.value.detail) == (expected[0], f"version 7: {expected[2]}")


def test_what_holds_is_no_violation() -> None:
    definition = compile_definition("mine", 1, {"anyOf": [{"required": ["x"]}, {"required": ["y"]}]})
    assert definition.violation({"y": 1}) is None
    definition.check({"x": 1})


def test_a_path_is_bounded() -> None:
    name = "x" * 1000
    definition = compile_definition("mine", 1, {"properties": {name: {"type": "number"}}})
    found = definition.violation({name: "a"})
    assert found is not None
    assert len(found.path) == 200
