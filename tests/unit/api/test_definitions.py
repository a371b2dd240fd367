"""Definitions of custom events: what may be registered (more, over HTTP, in the contract tests)."""

import json
from typing import Any

import pytest

from analytics_pipeline.events.json_schema import MAX_DEPTH, MAX_MEMBERS
from api.custom_events.schemas import Definition, read_definition
from api.errors import BadRequest


def read(**content: Any) -> Definition:
    return read_definition(json.dumps({"name": "n"} | content).encode())


def test_what_is_left_out_has_defaults() -> None:
    assert read() == Definition("n", "", "", "{}", True)
    assert read(is_active=False, description="two\nlines").is_active is False


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"$defs": {"price": {"type": "number"}}, "properties": {"p": {"$ref": "#/$defs/price"}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {}},
        {"properties": {"$ref": {"type": "string"}, "id": {"type": "string"}}},
        {"properties": {"a": {"pattern": "^[A-Z]{3,10}$", "format": "uuid"}}},
        {"$id": "https://example.com/never-fetched", "type": "object"},
    ],
)
def test_schemas_that_are_accepted(schema: dict[str, Any]) -> None:
    assert json.loads(read(schema=schema).schema) == schema


def test_a_definition_says_nothing_that_is_not_read() -> None:
    answered = {
        "id": 1,
        "version": 7,
        "created_at": "",
        "updated_at": "",
        "warnings": [],
        "would_have_refused": None,
    }
    assert read(**answered) == read()
    for wrong in ("shema", "Name", "secret"):
        with pytest.raises(BadRequest) as caught:
            read(**{wrong: {}})
        sentence = "the body has fields other than description, display_name, is_active, name, schema"
        assert caught.value.detail == sentence


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [nested(MAX_DEPTH + 1), {"enum": list(range(MAX_MEMBERS + 1))}, {"title": "x" * 70_000}],
    ids=["deep", "wide", "long"],
)
def test_schemas_are_bounded(schema: dict[str, Any]) -> None:
    read(schema=nested(MAX_DEPTH - 1))
    with pytest.raises(BadRequest) as caught:
        read(schema=schema)
    assert caught.value.extra == {"field": "schema"}


def test_refusals_never_repeat_the_input() -> None:
    for content in (
        {"name": "sec\0ret"},
        {"schema": {"type": "secret"}},
        {"schema": {"$ref": "http://secret/"}},
    ):
        with pytest.raises(BadRequest) as caught:
            read(**content)
        assert "secret" not in caught.value.body("").decode()
