"""A recompute reads fields from what jsonb prints; whatever stands there, they are what landing found."""

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_pipeline.rollups import printed
from analytics_pipeline.rollups.catalog import BUILT_IN, NUMBER_FIELDS, TEXT_FIELDS
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.facts import Facts
from analytics_pipeline.rollups.levels import roll_up
from analytics_pipeline.rollups.printed import with_fields
from tests.unit.rollups.events import SCHEMA, START, batch

_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=300)
_NUMBERS = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, places=12).map(lambda it: Number(f"{it:f}"))
)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_TEXTS, below, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from([*TEXT_FIELDS, *NUMBER_FIELDS, "price ", 'a"price', "side"]) | _TEXTS
_PROPERTIES = st.dictionaries(_KEYS, _VALUES, max_size=8)


class Number(str):
    """A number that is printed as it stands here."""


def printed_by_jsonb(value: Any) -> str:
    """As Postgres prints it: keys by length and bytes, numbers in full, nothing escaped that need not be."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
        return (
            "{" + ", ".join(f"{printed_by_jsonb(name)}: {printed_by_jsonb(one)}" for name, one in pairs) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(printed_by_jsonb, value)) + "]"
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"
    return json.dumps(value, ensure_ascii=False)


def events_of(texts: list[str | None]) -> pa.Table:
    at = int(START.timestamp() * 1e6)
    rows = [
        {"id": bytes(16), "event_type": "x", "properties": text, "timestamp": at, "is_late": False}
        for text in texts
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def fields_of(events: pa.Table) -> dict[str, list[Any]]:
    part = Facts(events).of(())
    texts = {name: part.coded(name) for name in TEXT_FIELDS}
    return {name: [one.values[code] for code in one.codes.tolist()] for name, one in texts.items()} | {
        name: [repr(number).replace("-inf", "inf") for number in part.numbers(name).tolist()]
        for name in NUMBER_FIELDS
    }


@given(st.lists(_PROPERTIES, min_size=1, max_size=12))
@example(
    [
        {"price": "5"},
        {"price": True},
        {"price": {}},
        {"price": []},
        {"price": None},
        {"price": Number("0.10")},
    ]
)
@example(
    [{"symbol": 5}, {"symbol": Number("1.50")}, {"symbol": True}, {"symbol": {"a": 1}}, {"symbol": ["x"]}]
)
@example([{"price": 10**400}, {"price": -(10**400)}, {"symbol": 10**400, "price": 1}, {"price": 2**64}])
@example(
    [{"symbol": 'a\\"price": "', "price": 3}, {"symbol": "\x01\n\t\x7f"}, {"symbol": ""}, {"symbol": "null"}]
)
def test_fields_are_those_that_landing_found(properties: list[dict[str, Any]]) -> None:
    events = events_of([printed_by_jsonb(one) for one in properties])
    read = with_fields(events)
    assert {*TEXT_FIELDS, *NUMBER_FIELDS} <= set(read.column_names)
    assert fields_of(read) == fields_of(events)


@pytest.mark.parametrize("text", [None, "null", "5", '"price"', "[1, 2]", '[{"price": 5}]', "{}"])
def test_what_was_not_landed_may_be_anything(text: str | None) -> None:
    events = events_of([text, '{"price": 7}'])
    assert fields_of(with_fields(events)) == fields_of(events)


def test_what_duckdb_does_not_read_is_read_as_landing_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printed, "_READ", "SELECT error('of a test')")
    events = events_of(['{"price": 7}'])
    assert with_fields(events) is events


def test_states_are_the_same_to_the_byte() -> None:
    events = batch(600, seed=5)
    printed_events = events.set_column(
        events.column_names.index("properties"),
        "properties",
        pa.array([printed_by_jsonb(json.loads(text)) for text in events.column("properties").to_pylist()]),
    )
    once, again = (
        roll_up(compute_deltas(one, BUILT_IN), "1m") for one in (events, with_fields(printed_events))
    )
    assert once.num_rows > 100
    assert compare_rows(once, again) == []
