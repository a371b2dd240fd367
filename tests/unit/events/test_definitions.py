"""Custom definitions judge properties, and can neither fetch nor run away."""

from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.definitions import compile_all, compile_definition
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.posted import decode_posted
from tests.unit.events.bad_inputs import NOW, raw

SCHEMA = {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer", "minimum": 1}}}
LIMITS = Limits()


def run(definitions: Any, limits: Limits = LIMITS, **fields: Any) -> Any:
    message = PlainMessage(raw(event_type="mine", **fields), 1, int(NOW.timestamp() * 1000))
    return decode_batches([RawBatch("t", 0, [message])], now=NOW, limits=limits, definitions=definitions)


def test_a_definition_judges_its_type_and_stamps_its_version() -> None:
    definitions, problems = compile_all([("mine", 3, SCHEMA), ("other", 1, {"not": {}})])
    assert problems == []
    assert run(definitions, properties={"x": 1}).events["definition_version"].to_pylist() == [3]
    for wrong in ({}, {"x": 0}, {"x": "1"}, {"x": 1.5}, {"x": None}, None):
        [letter] = run(definitions, properties=wrong).dead
        assert (letter.reason, letter.event_type) == ("schema_violation", "mine")
    with pytest.raises(Rejected) as rejected:
        decode_posted(
            raw(event_type="mine", properties={"x": 0}), now=NOW, limits=LIMITS, definitions=definitions
        )
    assert (rejected.value.reason, rejected.value.path) == ("schema_violation", "$.properties.x")
    decode_posted(
        raw(event_type="mine", properties={"x": 1}), now=NOW, limits=LIMITS, definitions=definitions
    )


def test_types_without_a_definition_are_not_judged() -> None:
    definitions, _ = compile_all([("another", 1, SCHEMA)])
    assert run(definitions, properties={"x": 0}).events["definition_version"].to_pylist() == [None]
    assert (
        run(definitions, limits=Limits(strict_types=True), properties={}).dead[0].reason
        == "unknown_event_type"
    )


def test_custom_types_have_limits_of_their_own() -> None:
    definitions, _ = compile_all([("mine", 1, {})])
    limits = Limits(custom_max_properties=1, custom_max_property_bytes=20)
    assert run(definitions, limits, properties={"a": 1, "b": 2}).dead[0].reason == "too_many_properties"
    assert run(definitions, limits, properties={"a": "x" * 21}).dead[0].reason == "property_too_large"
    assert run(compile_all([])[0], limits, properties={"a": 1, "b": "x" * 21}).events.num_rows == 1


def test_a_definition_that_does_not_compile_is_left_out_and_described() -> None:
    definitions, problems = compile_all([("bad", 1, {"type": "nonsense"}), ("mine", 1, SCHEMA)])
    assert definitions.types == {"mine"}
    assert len(problems) == 1
    assert "bad" in problems[0]


def test_only_what_changed_is_compiled_again() -> None:
    before, _ = compile_all([("mine", 3, SCHEMA), ("other", 1, {}), ("third", 1, {})])
    rows = [("mine", 4, SCHEMA), ("other", 1, {}), ("third", 1, {"type": "object"})]
    after, _ = compile_all(rows, before)
    assert after.by_type["other"] is before.by_type["other"]
    assert after.by_type["mine"].version == 4
    assert after.by_type["third"].schema == {"type": "object"}
    assert compile_all(rows[:1], after)[0].types == {"mine"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"$dynamicRef": "http://127.0.0.1:1/x"},
        {"$schema": "http://127.0.0.1:1/meta"},
        {"pattern": "(?=look)ahead"},
        {"pattern": "(a)\\1"},
        {"pattern": "((((x{100}){100}){100}){100})"},
        {"type": "nonsense"},
        {"$ref": "#/$defs/missing"},
        [],
        5,
        "not json",
    ],
    ids=str,
)
def test_schemas_that_reach_out_or_are_none_are_refused(schema: Any) -> None:
    with pytest.raises(ConfigurationError):
        compile_definition("mine", 1, schema)


def test_files_are_not_read(tmp_path: Path) -> None:
    there = tmp_path / "schema.json"
    there.write_text("{}")
    with pytest.raises(ConfigurationError):
        compile_definition("mine", 1, {"$ref": there.as_uri()})


def test_a_schema_with_a_url_as_its_name_is_not_fetched() -> None:
    compile_definition("mine", 1, {"$id": "http://127.0.0.1:1/mine", "type": "object"})


def test_patterns_take_linear_time() -> None:
    definition = compile_definition("mine", 1, {"properties": {"a": {"pattern": "^(a+)+$"}}})
    with pytest.raises(Rejected):
        definition.check({"a": "a" * 5000 + "!"})


def test_a_very_deep_schema_is_refused_not_a_crash() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(5000):
        schema = {"anyOf": [schema]}
    with pytest.raises(ConfigurationError):
        compile_definition("mine", 1, schema)
