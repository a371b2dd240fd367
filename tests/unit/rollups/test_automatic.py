"""Metrics that follow from the schemas of custom events: which there are, and what they add up."""

import json
import random
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics_pipeline.events.definitions import check_name
from analytics_pipeline.rollups import automatic, levels
from analytics_pipeline.rollups.automatic import metric_changes, with_automatic
from analytics_pipeline.rollups.catalog import BUILT_IN, SKIPPED, Aggregation
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from tests.unit.rollups.events import SCHEMA, START, batch
from tests.unit.rollups.test_deltas import KEY

SIGNAL = {
    "properties": {
        "strength": {"type": "number"},
        "rank": {"type": ["integer", "null"]},
        "symbol": {"type": "string"},
        "either": {"type": ["number", "string"]},
        "nothing": {"type": "null"},
        "anything": True,
    }
}


def custom(texts: list[str], event_type: str = "my.signal") -> pa.Table:
    at = int(START.timestamp() * 1e6)
    rows = [
        {
            "id": number.to_bytes(16, "big"),
            "event_type": event_type,
            "properties": text,
            "timestamp": at + number * 7_000_000,
            "is_late": False,
        }
        for number, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def test_each_numeric_property_of_a_definition_has_a_metric():
    catalog, problems = with_automatic({"my.signal": SIGNAL, "free": {}, "any": True})
    assert problems == []
    assert [one.name for one in catalog.automatic] == ["custom.my.signal.strength", "custom.my.signal.rank"]
    assert catalog.automatic[0].default_aggregation is Aggregation.AVG
    assert catalog.version != BUILT_IN.version
    assert catalog.metrics[: len(BUILT_IN.metrics)] == BUILT_IN.metrics


def test_a_change_says_which_metrics_come_and_go():
    after = {
        "properties": {"rank": {"type": "string"}, "strength": {"type": "integer"}, "x": {"type": "number"}}
    }
    assert metric_changes("my.signal", SIGNAL, after) == (["custom.my.signal.x"], ["custom.my.signal.rank"])
    assert metric_changes("my.signal", None, {"properties": {"a.b": {"type": "number"}}}) == ([], [])
    assert metric_changes("my.signal", SIGNAL, None).removed == [
        "custom.my.signal.strength",
        "custom.my.signal.rank",
    ]


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255),
    st.lists(st.text(max_size=300), max_size=3),
)
@example("zero\u200bwidth", ["strength"])
@example("\U000f0000", ["strength"])
def test_whatever_an_event_type_is_called_its_metrics_can_be_had(event_type: str, names: list[str]) -> None:
    catalog, _ = with_automatic(
        {check_name(event_type): {"properties": {name: {"type": "number"} for name in names}}}
    )
    assert {one.event_types for one in catalog.automatic} <= {(event_type,)}


def test_without_numeric_properties_the_catalog_is_the_built_in_one():
    assert with_automatic({"free": {}, "text": {"properties": {"a": {"type": "string"}}}}) == (BUILT_IN, [])


def test_a_change_of_a_definition_leaves_the_metrics_it_does_not_touch():
    more = {"properties": {"extra": {"type": "number"}, "strength": {"type": "integer", "minimum": 0}}}
    before, _ = with_automatic({"my.signal": SIGNAL})
    after, _ = with_automatic({"my.signal": more})
    name = "custom.my.signal.strength"
    assert after.by_name[name].metric_id == before.by_name[name].metric_id
    assert "custom.my.signal.rank" not in after.by_name


def test_no_two_properties_share_a_name():
    schemas = {
        "a": {"properties": {"b.c": {"type": "number"}, "ok": {"type": "number"}}},
        "a.b": {"properties": {"c": {"type": "number"}}},
    }
    catalog, problems = with_automatic(schemas)
    assert [one.name for one in catalog.automatic] == ["custom.a.ok", "custom.a.b.c"]
    assert catalog.by_name["custom.a.b.c"].event_types == ("a.b",)
    assert len(problems) == 1
    assert "the definition a has" in problems[0]


def test_their_number_is_bounded_and_the_newest_go_without(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(automatic, "MOST_AUTOMATIC", 3)
    schemas = dict.fromkeys(("old", "newer", "newest"), SIGNAL)
    catalog, problems = with_automatic(schemas)
    assert [one.event_types[0] for one in catalog.automatic] == ["old", "old", "newer"]
    assert [("newer has 1" in one, "newest has 2" in one) for one in problems] == [
        (True, False),
        (False, True),
    ]


def test_their_sums_are_those_of_the_values_that_are_numbers():
    texts = [
        '{"strength": 0.1, "rank": 3}',
        '{"strength": 1e2, "rank": null}',
        '{"strength": "1", "rank": true}',
        '{"strength": -5, "strength": 0.2}',
        f'{{"strength": {10**400}, "rank": 2e18}}',
        '{"strength": [1], "rank": {"a": 1}}',
        "[1]",
        "{}",
    ]
    catalog, _ = with_automatic({"my.signal": SIGNAL})
    rows = levels.roll_up(compute_deltas(custom(texts), catalog), "1d").to_pylist()
    found = {row["metric_name"]: row for row in rows if row["dimension_set"] == ""}
    strength, rank = found["custom.my.signal.strength"], found["custom.my.signal.rank"]
    assert (strength["count"], strength["sum"]) == (3, Decimal("100.3"))
    assert (strength["min"], strength["max"]) == (0.1, 100.0)
    assert (rank["count"], rank["sum"]) == (1, Decimal(3))
    skipped = {row["metric_name"]: row["count"] for row in rows if row["dimension_set"] == SKIPPED}
    assert skipped == {"custom.my.signal.strength": 3, "custom.my.signal.rank": 3}


def test_what_jsonb_prints_gives_the_same_bytes_as_what_a_producer_wrote():
    catalog, _ = with_automatic({"my.signal": SIGNAL})
    written = custom(['{"strength": 1E+2, "rank": -0.0}', '{"strength": 12345678901234567.25}'])
    printed = custom(['{"rank": 0.0, "strength": 100}', '{"strength": 12345678901234567.25}'])
    assert compute_deltas(written, catalog).equals(compute_deltas(printed, catalog))


def test_any_batching_gives_the_same_bytes():
    chance = random.Random(11)
    texts = [
        json.dumps({"strength": chance.choice([chance.uniform(-1e6, 1e6), "x", chance.randrange(9)])})
        for _ in range(400)
    ]
    events = pa.concat_tables([batch(400, seed=11), custom(texts)])
    catalog, _ = with_automatic({"my.signal": SIGNAL})
    order = list(range(events.num_rows))
    chance.shuffle(order)
    shuffled = events.take(order)
    once = levels.roll_up_all(compute_deltas(events, catalog))
    parts = [compute_deltas(shuffled.slice(at, 90), catalog) for at in range(0, events.num_rows, 90)]
    many = levels.roll_up_all(pa.concat_tables(parts))
    for level in LEVELS:
        assert once[level].sort_by(KEY).equals(many[level].sort_by(KEY)), level


def test_events_without_a_definition_are_not_looked_into(monkeypatch: pytest.MonkeyPatch):
    catalog, _ = with_automatic({"my.signal": SIGNAL})
    events = batch(200, seed=12)
    monkeypatch.setattr("analytics_pipeline.rollups.property_sums._properties", None)
    found = compute_deltas(events, catalog)
    assert found.equals(compute_deltas(events, BUILT_IN))
