"""Series without a place are counted together: nothing is lost, and how events are batched does not matter."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.cardinality import (
    OTHER,
    Place,
    Places,
    other_of,
    others_in,
    places_of,
    put_together,
)
from analytics_pipeline.rollups.catalog import BUILT_IN, Kind, dimension_set_name
from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.rollups.compare import compare_rows
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA
from tests.unit.rollups.events import SCHEMA, batch

METRICS = BUILT_IN.by_id
METRICS_BY_SET = {
    (metric.name, dimension_set_name(dimensions))
    for metric in BUILT_IN.metrics
    for dimensions in metric.dimension_sets
}
MIDNIGHT = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
"""Half of `batch` from here on lies in the next day."""


def within(deltas: pa.Table, has_place: Callable[[Place], bool]) -> pa.Table:
    places = places_of(deltas, METRICS)
    refused = {place for place in places.wanted if place is not None and not has_place(place)}
    return put_together(deltas, places.rows_of(refused), METRICS)


def some(place: Place) -> bool:
    """Half of all, not the same ones on both days."""
    return crc32(f"{place.day.day} {place.metric_id} {place.dimensions}".encode()) % 2 == 0


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


@given(seed=st.integers(0, 10_000), width=st.integers(5, 400))
@settings(max_examples=15, deadline=None)
def test_with_the_same_verdicts_any_batching_gives_the_same_bytes(seed: int, width: int) -> None:
    events = batch(400, seed=seed, start=MIDNIGHT)
    whole = levels.roll_up_all(within(compute_deltas(events, BUILT_IN), some))
    mixed = shuffled(events, seed)
    parts = [
        within(compute_deltas(mixed.slice(at, width), BUILT_IN), some)
        for at in range(0, mixed.num_rows, width)
    ]
    batched = levels.roll_up_all(pa.concat_tables(parts))
    for level, rows in whole.items():
        check_rows(rows)
        assert compare_rows(rows, batched[level], level) == []


def test_nothing_is_lost_and_totals_stay() -> None:
    deltas = compute_deltas(batch(2000, seed=1, start=MIDNIGHT), BUILT_IN)
    found = within(deltas, some)
    sums = [
        rows.group_by(["hour", "minute", "metric_id", "dimension_set", "kind"])
        .aggregate([("count", "sum"), ("sum", "sum"), ("min", "min"), ("max", "max")])
        .sort_by([(name, "ascending") for name in ("minute", "metric_id", "dimension_set")])
        for rows in (deltas, found)
    ]
    assert sums[0].equals(sums[1])
    assert found.schema == DELTAS_SCHEMA
    assert found.num_rows < deltas.num_rows
    totals = pa.compute.equal(deltas["dimension_set"], "")
    assert found.filter(pa.compute.equal(found["dimension_set"], "")).equals(deltas.filter(totals))
    named = {
        (row["dimension_set"], row["metric_name"].endswith(f".{OTHER}"))
        for row in found.to_pylist()
        if row["dimensions"] == other_of(row["dimension_set"])
    }
    sets = {dimension_set for _, dimension_set in METRICS_BY_SET if dimension_set}
    assert named <= {(dimension_set, dimension_set == "event_type") for dimension_set in sets}
    assert named >= {("event_type", True), ("symbol", False), ("strategy_id", False)}


def test_quantiles_of_other_are_those_of_its_events() -> None:
    events = batch(500, seed=3)
    metric = BUILT_IN.by_name["trading.order_latency"]
    deltas = compute_deltas(events, BUILT_IN)
    rows = levels.roll_up(within(deltas, lambda _: False), "1d").to_pylist()
    by_set = {row["dimension_set"]: row for row in rows if row["metric_id"] == metric.metric_id}
    assert by_set["symbol"]["kind"] == Kind.QUANTILE
    assert by_set["symbol"]["state"] == by_set[""]["state"]
    assert by_set["symbol"]["dimensions"] == json.dumps({"symbol": OTHER}, separators=(",", ":"))


def test_what_needs_a_place() -> None:
    """No total, not `__other__` itself, no metric that is not asked for; each series once a day."""
    deltas = compute_deltas(batch(600, seed=5, start=MIDNIGHT), BUILT_IN)
    wanted = BUILT_IN.by_name["trading.orders_placed"].metric_id
    places = places_of(deltas, {wanted: METRICS[wanted]})
    found = [place for place in places.wanted if place is not None]
    rows = [row for row in deltas.to_pylist() if row["metric_id"] == wanted and row["dimension_set"]]
    assert {(place.day, *place[1:]) for place in found} == {
        (row["minute"].date(), wanted, row["dimension_set"], row["dimensions"]) for row in rows
    }
    assert len(found) == len(set(found))
    assert len({place.day for place in found}) == 2
    counted = dict(zip(places.wanted, places.counts, strict=True))
    for place in found:
        assert counted[place] == sum(
            row["count"] for row in rows if row["dimensions"] == place.dimensions
            and row["minute"].date() == place.day
        )  # fmt: skip
    assert not any(
        place and place.metric_id == wanted
        for place in places_of(within(deltas, lambda _: False), METRICS).wanted
    )
    assert places_of(DELTAS_SCHEMA.empty_table(), METRICS) == Places([], pytest.approx([]), [])


def test_a_dimension_of_an_event_may_be_called_other() -> None:
    events = pa.table(
        {
            **{name: batch(2, seed=6)[name] for name in SCHEMA.names},
            "event_type": pa.array([OTHER, "flood"]),
        }
    )
    deltas = within(compute_deltas(events, BUILT_IN), lambda _: False)
    counts = {
        row["dimensions"]: row["count"]
        for row in levels.roll_up(deltas, "1d").to_pylist()
        if row["metric_name"] == f"events.count.{OTHER}"
    }
    assert counts == {other_of("event_type"): 2}


def test_what_is_counted_under_other_is_told_by_metric_and_dimension_set() -> None:
    deltas = compute_deltas(batch(300, seed=7), BUILT_IN)
    assert not others_in(deltas, METRICS)
    found = others_in(within(deltas, lambda place: place.dimension_set != "event_type"), METRICS)
    assert found == {("events.count", "event_type"): 300}


def test_the_budget_is_part_of_an_id_only_where_it_is_another_one() -> None:
    metric = BUILT_IN.by_name["events.count"]
    assert metric.metric_id == "68974f58f7847a4c", "rows written before there were budgets are of this id"
    assert replace(metric, series_limit=2).metric_id != metric.metric_id
    assert replace(metric, series_limit=2).metric_id != replace(metric, series_limit=3).metric_id
