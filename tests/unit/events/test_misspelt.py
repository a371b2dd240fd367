"""Unknown keywords of a schema that look like typing errors."""

import json
import time
from typing import Any

import pytest

from analytics_pipeline.events.json_schema import KEYWORDS, check_schema
from analytics_pipeline.events.misspelt import misspelt_keywords
from tests.unit.events.test_json_schema import ACCEPTED


@pytest.mark.parametrize(
    ("schema", "where", "meant"),
    [
        ({"requird": ["a"]}, "#: requird", "required"),
        ({"propertes": {"a": {"typ": "string"}}}, "#: propertes", "properties"),
        ({"properties": {"a": {"minlength": 3}}}, "#/properties/a: minlength", "minLength"),
        ({"anyOf": [{}, {"types": "string"}]}, "#/anyOf/1: types", "type"),
        ({"$defs": {"a/b~": {"not": {"enums": []}}}}, "#/$defs/a~1b~0/not: enums", "enum"),
        ({"properties": {"a": {"additionalproperties": False}}}, "additionalproperties", "additionalProperties"),
    ],
)  # fmt: skip
def test_a_keyword_that_is_nearly_one_is_told_with_its_place(schema: Any, where: str, meant: str) -> None:
    [sentence] = misspelt_keywords(check_schema(schema))
    assert where in sentence
    assert sentence.endswith(f"did you mean {meant}?")
    assert misspelt_keywords(json.dumps(schema)) == [sentence]


@pytest.mark.parametrize(
    "schema",
    [
        *ACCEPTED.values(),
        dict.fromkeys(sorted(KEYWORDS & {"id", "title", "description", "$comment", "deprecated"}), ""),
        {"nullable": True, "x-typ": 1, "owner": "team", "discriminator": {}},
        {"properties": {"requird": {}, "typ": {"type": "string"}}, "required": ["requird"]},
        {"default": {"requird": 1}, "examples": [{"typ": 1}], "const": {"enums": 1}, "enum": [{"typ": 1}]},
    ],
    ids=str,
)
def test_nothing_else_is_told(schema: Any) -> None:
    assert misspelt_keywords(schema) == []


def test_many_are_cut_and_take_no_time() -> None:
    schema = {f"q{number:05}": 1 for number in range(4_000)}
    began = time.process_time()
    assert misspelt_keywords(check_schema(schema)) == []
    assert time.process_time() - began < 0.5
    assert len(misspelt_keywords({"anyOf": [{"typ": 1}] * 100})) == 20
