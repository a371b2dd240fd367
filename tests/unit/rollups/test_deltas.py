"""What a batch adds to the buckets of each metric: the same numbers, and bytes, however events are batched."""

import gc
import json
import weakref
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.errors import ConfigurationError, InvariantBroken
from analytics_pipeline.rollups import deltas, levels, states
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID, SKIPPED, Aggregation, Catalog
from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA, LEVELS
from tests.unit.rollups.events import SCHEMA, START, batch

KEY = [
    (name, "ascending") for name in ("time_bucket", "metric_id", "metric_name", "dimension_set", "dimensions")
]


def rows_of(
    events: pa.Table, metric_name: str, level: str = "1d", *, skipped: bool = False
) -> dict[str, dict]:
    found = levels.roll_up_all(compute_deltas(events, BUILT_IN))[level].to_pylist()
    return {
        row["dimensions"]: row
        for row in found
        if row["metric_name"] == metric_name and (row["dimension_set"] == SKIPPED) == skipped
    }


def properties_of(events: pa.Table) -> list[tuple[str, dict]]:
    return [(row["event_type"], json.loads(row["properties"])) for row in events.to_pylist()]


def number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def test_rows_of_a_dimension_set_stand_together_and_totals_first():
    sets = compute_deltas(batch(3000, seed=1), BUILT_IN).column("dimension_set").to_pylist()
    assert sets == sorted(sets)
    assert sets[0] == ""


def test_event_counts_equal_a_plain_count():
    events = batch(3000, seed=1)
    expected = defaultdict(int)
    for event_type, _ in properties_of(events):
        expected[event_type] += 1
    for event_type, count in expected.items():
        name = f"events.count.{event_type}"
        assert (
            rows_of(events, name)[json.dumps({"event_type": event_type}, separators=(",", ":"))]["count"]
            == count
        )
    assert rows_of(events, "events.count")["{}"]["count"] == 3000


def test_volume_is_summed_in_decimals_and_skips_text():
    events = batch(3000, seed=2)
    expected, counted = Decimal(0), 0
    for event_type, found in properties_of(events):
        price, quantity = number(found.get("price")), number(found.get("quantity"))
        if event_type == "order.filled" and price is not None and quantity is not None:
            expected += round(Decimal(price * quantity), 9)
            counted += 1
    row = rows_of(events, "trading.total_volume")["{}"]
    assert row["count"] == counted
    assert float(row["sum"]) == pytest.approx(float(expected), abs=1e-6)
    parts = [part["sum"] for key, part in rows_of(events, "trading.total_volume").items() if "symbol" in key]
    assert sum(parts) == row["sum"]


def test_fill_rate_is_a_ratio_of_sums():
    events = batch(3000, seed=3)
    kinds = [event_type for event_type, _ in properties_of(events)]
    row = rows_of(events, "trading.order_fill_rate")["{}"]
    assert row["count"] == kinds.count("order.placed")
    assert row["sum"] == 100 * kinds.count("order.filled")


def test_a_batch_of_nothing_but_the_events_of_a_metric_keeps_each_in_its_minute():
    events = batch(2000, seed=10)
    is_order = pc.is_in(events.column("event_type"), pa.array(["order.placed", "order.filled"]))
    minutes = defaultdict(lambda: [0, 0])
    for row in events.filter(is_order).to_pylist():
        minutes[row["timestamp"].replace(second=0, microsecond=0)][row["event_type"] == "order.filled"] += 1
    found = levels.roll_up(compute_deltas(events.filter(is_order), BUILT_IN), "1m").to_pylist()
    assert {
        row["time_bucket"]: [row["count"], row["sum"] / 100]
        for row in found
        if row["metric_name"] == "trading.order_fill_rate" and row["dimensions"] == "{}"
    } == minutes


def test_latency_keeps_a_histogram_for_each_series():
    events = batch(3000, seed=4)
    values = sorted(
        found["latency_ms"] for event_type, found in properties_of(events) if event_type == "order.filled"
    )
    row = rows_of(events, "trading.order_latency")["{}"]
    assert row["count"] == len(values)
    assert states.quantile_value(row["state"], 0.99) == pytest.approx(
        values[int(0.99 * (len(values) - 1))], rel=0.005
    )
    assert sum(
        int(states.quantile_unpack(part["state"])[1].sum())
        for key, part in rows_of(events, "trading.order_latency").items()
        if "symbol" in key
    ) == len(values)


def test_first_and_last_are_those_of_time_and_id():
    events = batch(3000, seed=7, minutes=2)
    expected = defaultdict(list)
    for row in events.to_pylist():
        found = json.loads(row["properties"])
        if row["event_type"] == "balance.updated" and found["balance"] not in ("12", 1e19):
            key = json.dumps({name: found[name] for name in ("account_id", "asset")}, separators=(",", ":"))
            expected[key].append((row["timestamp"], row["id"], found["balance"]))
    assert any(sorted(one)[0][0] == sorted(one)[1][0] for one in expected.values()), "no id ever decides"
    rows = rows_of(events, "accounts.balance")
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        assert states.ends_values(row["state"]) == (min(expected[key])[2], max(expected[key])[2])


def test_distinct_users_are_counted_exactly():
    events = batch(3000, seed=5)
    expected = {row["user_id"] for row in events.to_pylist()} - {None}
    assert states.distinct_count(rows_of(events, "users.active")["{}"]["state"]) == len(expected)


def test_the_register_counts_events_and_late_ones():
    events = batch(500, seed=6)
    row = rows_of(events, "_register")["{}"]
    assert (row["count"], row["sum"]) == (500, sum(event["is_late"] for event in events.to_pylist()))
    other = rows_of(events.slice(1), "_register")["{}"]
    assert other["state"] != row["state"]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(150, 700), st.randoms())
def test_any_batching_gives_the_same_bytes_at_every_level(seed, width, chance):
    events = batch(1200, seed=seed)
    once = levels.roll_up_all(compute_deltas(events, BUILT_IN))
    order = list(range(events.num_rows))
    chance.shuffle(order)
    shuffled = events.take(order)
    parts = [compute_deltas(shuffled.slice(at, width), BUILT_IN) for at in range(0, events.num_rows, width)]
    many = levels.roll_up_all(pa.concat_tables(parts))
    for level in LEVELS:
        assert once[level].sort_by(KEY).equals(many[level].sort_by(KEY)), level
        assert compare_rows(once[level], many[level]) == []


def test_buckets_are_half_open():
    at = int(START.timestamp() * 1e6)
    rows = [
        {
            "id": bytes([n]) * 16,
            "event_type": "x",
            "properties": "{}",
            "timestamp": at + offset,
            "is_late": False,
        }
        for n, offset in enumerate([-1, 0, 59_999_999, 60_000_000])
    ]
    deltas = compute_deltas(pa.Table.from_pylist(rows, SCHEMA), BUILT_IN)
    minutes = levels.roll_up(deltas, "1m").to_pylist()
    counts = {row["time_bucket"]: row["count"] for row in minutes if row["metric_name"] == "events.count"}
    assert [counts[bucket] for bucket in sorted(counts)] == [1, 2, 1]
    assert sorted({hour.hour for hour in deltas.column("hour").to_pylist()}) == [START.hour - 1, START.hour]


def test_no_events_give_no_rows():
    deltas = compute_deltas(SCHEMA.empty_table(), BUILT_IN)
    assert deltas.schema == DELTAS_SCHEMA
    assert levels.roll_up_all(deltas)["1d"].num_rows == 0


def test_hostile_properties_neither_fail_nor_count():
    hostile = [
        '{"price": 1e300, "quantity": 1e300}',
        '{"price": {"a": 1}, "quantity": [1]}',
        '{"price": true, "quantity": 1}',
        '{"price": 2e18, "quantity": 1}',
        '{"symbol": {"a": "b"}, "strategy_id": 5, "price": "1", "quantity": null, "latency_ms": "3"}',
        "{}",
    ]
    at = int(START.timestamp() * 1e6)
    rows = [
        {
            "id": bytes([n]) * 16,
            "event_type": "order.filled",
            "properties": text,
            "timestamp": at,
            "is_late": False,
        }
        for n, text in enumerate(hostile)
    ]
    events = pa.Table.from_pylist(rows, SCHEMA)
    assert rows_of(events, "trading.total_volume") == {}
    assert rows_of(events, "trading.orders_filled")["{}"]["count"] == len(hostile)
    assert rows_of(events, "trading.total_volume", skipped=True)["{}"]["count"] == 4
    assert rows_of(events, "trading.order_latency", skipped=True)["{}"]["count"] == 1
    assert rows_of(events, "trading.commission", skipped=True) == {}
    check_rows(levels.roll_up(compute_deltas(events, BUILT_IN), "1m"))


def test_checks_refuse_rows_that_contradict_themselves():
    rows = levels.roll_up(compute_deltas(batch(200, seed=8), BUILT_IN), "1m")
    check_rows(rows)
    negative = rows.set_column(6, rows.schema.field("count"), pa.array([-1] * rows.num_rows))
    swapped = rows.set_column(8, rows.schema.field("min"), pa.array([1e30] * rows.num_rows))
    for broken in (negative, swapped, pa.concat_tables([rows, rows]), rows.drop_columns(["state"])):
        with pytest.raises(InvariantBroken):
            check_rows(broken)


def test_every_metric_has_a_name_an_id_and_a_description_of_its_own():
    metrics = BUILT_IN.metrics
    assert len(BUILT_IN.by_name) == len(BUILT_IN.by_id) == len(metrics)
    assert all(metric.description.endswith(".") and metric.unit for metric in metrics)
    assert all(metric.dimension_sets for metric in metrics)


def test_a_catalog_with_a_name_twice_is_refused():
    metric = BUILT_IN.metrics[0]
    with pytest.raises(ConfigurationError, match=r"'events\.count': another has this name"):
        Catalog((metric, replace(metric, value="price")))


def test_only_what_changes_numbers_changes_the_id_and_the_version():
    volume = BUILT_IN.by_name["trading.total_volume"]
    texts = replace(volume, description="Other words.", unit="USD", aggregations=(Aggregation.AVG,))
    assert texts.metric_id == volume.metric_id
    numbers = replace(volume, value="price")
    assert numbers.metric_id != volume.metric_id
    assert Catalog((numbers,)).version != Catalog((volume,)).version == Catalog((texts,)).version


def test_a_catalog_of_its_own_computes_its_own_metrics():
    events = batch(300, seed=9)
    price = replace(BUILT_IN.by_name["trading.total_volume"], value="price")
    found = compute_deltas(events, Catalog((price,)))
    assert set(found.column("metric_id").to_pylist()) == {price.metric_id, REGISTER_ID}


def test_names_resolve_to_the_rows_that_hold_them():
    total = BUILT_IN.resolve("events.count")
    one = BUILT_IN.resolve("events.count.order.placed")
    assert total is not None
    assert one is not None
    assert (total.metric_name, total.dimension_set) == ("events.count", "")
    assert (one.metric_name, one.dimension_set) == ("events.count.order.placed", "event_type")
    assert one.metric is total.metric
    assert BUILT_IN.resolve("trading.nothing") is None


def test_a_batch_is_forgotten_without_waiting_for_the_collector(monkeypatch):
    """Its arrays are large, and the collector counts objects."""
    made = []

    class Remembered(deltas.Facts):
        def __init__(self, events: pa.Table) -> None:
            super().__init__(events)
            made.append(weakref.ref(self))

    monkeypatch.setattr(deltas, "Facts", Remembered)
    gc.disable()
    try:
        compute_deltas(batch(100, seed=1), BUILT_IN)
        assert [one() for one in made] == [None]
    finally:
        gc.enable()
