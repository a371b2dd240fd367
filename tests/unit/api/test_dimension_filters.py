"""Filters on dimensions: one meaning however they are written, and a sentence for what has none."""

import pytest

from api.errors import BadRequest
from api.events.property_filters import Operator
from api.metrics.filters import PARAMETERS, DimensionFilter, read_filters
from api.parameters import Query


def read(query: str) -> tuple[DimensionFilter, ...]:
    return read_filters(Query(query.encode(), PARAMETERS))


@pytest.mark.parametrize(
    ("query", "operator", "values"),
    [
        ("symbol=BTC", Operator.EQ, ('"BTC"',)),
        ("symbol=eq:BTC", Operator.EQ, ('"BTC"',)),
        ("dimension=symbol:eq:BTC", Operator.EQ, ('"BTC"',)),
        ("symbol=in:BTC", Operator.EQ, ('"BTC"',)),
        ("symbol=in:B,A,B", Operator.IN, ('"A"', '"B"')),
        ("symbol=ne:A", Operator.NE, ('"A"',)),
        ("symbol=prefix:BT", Operator.PREFIX, ("BT",)),
        ("symbol=exists:false", Operator.EXISTS, ("false",)),
        ("symbol=5", Operator.EQ, ('"5"',)),
        ('symbol="5"', Operator.EQ, ('"5"',)),
        ("symbol=true", Operator.EQ, ('"true"',)),
        ("symbol=null", Operator.EQ, ("null",)),
        ('symbol="null"', Operator.EQ, ('"null"',)),
        ("symbol=A:B", Operator.EQ, ('"A:B"',)),
        ("symbol=eq:in:A", Operator.EQ, ('"in:A"',)),
    ],
)
def test_what_a_filter_means(query: str, operator: Operator, values: tuple[str, ...]) -> None:
    assert read(query) == (DimensionFilter("symbol", operator, values),)


def test_the_order_does_not_matter_and_one_is_said_once() -> None:
    assert read("symbol=A&strategy_id=s") == read("dimension=strategy_id:eq:s&dimension=symbol:eq:A&symbol=A")


@pytest.mark.parametrize(
    ("query", "parameter", "says"),
    [
        ("dimension=symbol", "dimension", "name:operator:value"),
        ("dimension=user_id:eq:u", "dimension", "symbol, strategy_id"),
        ("symbol=gt:5", "symbol", "eq, ne, in, prefix, exists"),
        ("symbol=prefx:BTC", "symbol", "did you mean prefix?"),
        ("symbol=exist:true", "symbol", "did you mean exists?"),
        ("symbol=exists:maybe", "symbol", "true or false"),
        ("symbol=" + "in:" + ",".join(map(str, range(101))), "symbol", "100"),
        ("symbol=A&symbol=B", "symbol", "more than once"),
        ("symbol=%00", "symbol", "control"),
        ('symbol="', "symbol", ""),
    ],
)
def test_refusals(query: str, parameter: str, says: str) -> None:
    if query == 'symbol="':
        assert read(query)[0].values == ('"\\""',)
        return
    with pytest.raises(BadRequest) as caught:
        read(query)
    assert caught.value.extra["parameter"] == parameter
    assert says in caught.value.detail


def test_a_value_with_a_colon_that_is_like_no_operator_is_a_value() -> None:
    for query in ("symbol=foo:BTCUSDT", "symbol=eq:foo:BTCUSDT"):
        assert read(query)[0].values == ('"foo:BTCUSDT"',)
    assert read("symbol=eq:prefx:BTC")[0].values == ('"prefx:BTC"',)
