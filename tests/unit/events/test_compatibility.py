"""What a new schema would do to stored events: counts and places, never values."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics_pipeline.events.compatibility import Kind, Report, StoredEvent, report
from analytics_pipeline.events.definitions import compile_definition

START = datetime(2024, 5, 15, tzinfo=UTC)


def stored(*contents: Any) -> list[StoredEvent]:
    """Newest first, as they are read."""
    return [
        StoredEvent(START - timedelta(seconds=n), json.dumps(content)) for n, content in enumerate(contents)
    ]


def test_nothing_stored_is_compatible() -> None:
    found = report(compile_definition("mine", 1, {"not": {}}), [])
    assert found == Report(0, 0, [], None, None)
    assert found.is_compatible


def test_kinds_are_counted_by_place_and_rule() -> None:
    schema = {"required": ["x"], "properties": {"x": {"items": {"type": "number"}}}}
    events = stored({"x": [1, "a"]}, {"x": []}, {}, {"x": [1, 2, 3, "b"]}, {"x": {"secret": 1}})
    assert report(compile_definition("mine", 1, schema), events) == Report(
        judged=5,
        refused=3,
        kinds=[
            Kind("$.properties.x[*]", "type", "must be number", 2),
            Kind("$.properties", "required", "the required property x is missing", 1),
        ],
        oldest=START - timedelta(seconds=4),
        newest=START,
    )


def test_only_the_most_frequent_kinds_are_kept() -> None:
    names = [f"p{n}" for n in range(20)]
    schema = {"properties": {name: {"type": "number"} for name in names}}
    found = report(
        compile_definition("mine", 1, schema), stored(*({name: "a"} for name in [*names, "p7"])), most_kinds=3
    )
    assert found.refused == 21
    assert [kind.events for kind in found.kinds] == [2, 1, 1]
    assert found.kinds[0].path == "$.properties.p7"
