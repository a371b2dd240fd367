"""What landing reads in a producer's text, a recompute must read in what jsonb prints of it."""

import math

import pyarrow as pa
import pytest

from analytics_pipeline.rollups.facts import Facts
from tests.unit.rollups.events import SCHEMA, START


def facts(*properties: str | None) -> list[dict[str, object]]:
    at = int(START.timestamp() * 1e6)
    rows = [
        {"id": bytes(16), "event_type": "x", "properties": text, "timestamp": at, "is_late": False}
        for text in properties
    ]
    found = Facts(pa.Table.from_pylist(rows, SCHEMA)).of(())
    symbols, prices = found.coded("symbol"), found.numbers("price").tolist()
    return [
        {"symbol": symbols.values[code], "price": None if math.isnan(price) else price}
        for code, price in zip(symbols.codes.tolist(), prices, strict=True)
    ]


@pytest.mark.parametrize(
    ("sent", "printed", "symbol"),
    [
        ('"BTC"', '"BTC"', "BTC"),
        ("5", "5", "5"),
        ("1e2", "100", "100"),
        ("1.0", "1.0", "1"),
        ("1.50", "1.50", "1.5"),
        ("1e300", "1" + "0" * 300, None),
        ("true", "true", "true"),
        ('{"b":1,"a":2}', '{"a": 2, "b": 1}', None),
        ("[1,2]", "[1, 2]", None),
        ("null", "null", None),
        (f'"{"é" * 300}"', f'"{"é" * 300}"', "é" * 255),
    ],
)
def test_a_dimension_is_the_same_before_and_after_jsonb(sent: str, printed: str, symbol: str | None) -> None:
    [before] = facts(f'{{"symbol":{sent}}}')
    [after] = facts(f'{{"symbol": {printed}}}')
    assert before == after == {"symbol": symbol, "price": None}


@pytest.mark.parametrize(
    ("sent", "price"),
    [("1", 1.0), ("-0.0", 0.0), ("9007199254740993", 9007199254740992.0), ("18446744073709551616", 2.0**64)]
    + [("null", None)]
    + [(text, math.inf) for text in ('"1"', "true", "{}", "[1]", "9" * 400)],
)
def test_only_numbers_are_numbers(sent: str, price: float | None) -> None:
    [found, neighbour] = facts(f'{{"price":{sent}}}', '{"price":2.5,"price":7.5}')
    assert found == {"symbol": None, "price": price}
    assert neighbour == {"symbol": None, "price": 7.5}


def test_what_was_not_landed_may_be_anything() -> None:
    assert facts("[1]", '"text"', "null", None, f'{{"price":{"9" * 5000}}}', '{"price":1}') == [
        *([{"symbol": None, "price": None}] * 5),
        {"symbol": None, "price": 1.0},
    ]
