"""Values are rounded and added exactly, whatever they are and however they are batched."""

import json
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, localcontext

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.engine import engine
from analytics_pipeline.rollups.facts import Facts
from analytics_pipeline.rollups.values import add_up, decimal, evaluate, rounded
from tests.unit.rollups.events import SCHEMA, START

numbers = st.floats(-1e18, 1e18) | st.integers(-(10**12), 10**12).map(lambda part: part * 0.5e-9)


@given(st.lists(numbers, min_size=1, max_size=30))
@example([-2.0, 1e18, 1e-9])
@example([1e18] * 20)
def test_sums_are_those_of_decimals(found: list[float]) -> None:
    values = rounded(np.array(found), np.zeros(len(found), bool))
    sums = add_up(values, np.arange(len(found)) % 3, 3)
    with localcontext() as context:
        context.prec = 60
        exact = [
            Decimal(value * 1e9).to_integral_value(ROUND_HALF_UP).scaleb(-9) for value in found
        ]  # halves away from zero
        assert [decimal(total) for total in sums.totals] == [sum(exact[n::3], Decimal(0)) for n in range(3)]


@settings(deadline=None)  # the first one starts DuckDB
@given(st.lists(numbers, min_size=1, max_size=30))
def test_rounding_is_that_of_a_decimal_of_duckdb(found: list[float]) -> None:
    table = pa.table({"v": pa.array(found, pa.float64())})
    db = engine()
    db.register("found", table)
    rows = db.sql("SELECT v::DECIMAL(38, 9), v::DECIMAL(38, 9)::DOUBLE FROM found").fetchall()
    db.unregister("found")
    values = rounded(np.array(found), np.zeros(len(found), bool))
    assert [decimal(int(one)) for one in values.billionths] == [exact for exact, _ in rows]
    assert values.numbers.tolist() == [double for _, double in rows]


def test_what_is_no_number_or_too_large_is_skipped_and_what_is_missing_is_not() -> None:
    values = np.array([1.0, np.nan, 1.1e18, -np.inf, -1e18, np.nan])
    found = rounded(values, np.array([False] * 5 + [True]))
    assert (found.where.tolist(), found.skipped.tolist()) == ([0, 4], [1, 2, 3])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("price", 7.0),
        ("price * quantity", 14.0),
        ("ask - bid", 3.0),
        ("price + ask * quantity - bid * price", 7.0 + 10 - 14),
        ("ask - bid - quantity", 1.0),
        ("CASE WHEN symbol = 'X' THEN price / quantity END", 3.5),
        ("price * 2", 14.0),
        ("pnl", None),
        ("price - pnl", None),
        ("pnl - price", None),
        ("pnl * price", None),
    ],
)
def test_an_expression_is_evaluated_as_sql_would(expression: str, expected: float | None) -> None:
    row = {
        "id": bytes(16),
        "event_type": "order.filled",
        "properties": json.dumps({"symbol": "X", "price": 7, "quantity": 2, "ask": 5, "bid": 2}),
        "timestamp": int(START.timestamp() * 1e6),
        "is_late": False,
    }
    other = row | {"id": b"1" * 16, "event_type": "order.placed"}
    events = pa.Table.from_pylist([other, row], SCHEMA)
    part = Facts(events).of(("order.filled",))
    found = evaluate(part, expression)
    assert found.numbers.tolist() == ([] if expected is None else [expected])
    assert found.skipped.tolist() == []
    metric = replace(BUILT_IN.by_name["trading.total_volume"], value=expression)
    sums = [row["sum"] for row in compute_deltas(events, Catalog((metric,))).to_pylist()[1:]]
    assert sums == ([] if expected is None else [Decimal(str(expected))] * 3)
