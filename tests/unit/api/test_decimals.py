"""Sums and differences of the decimals that doubles stand for."""

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from api.metrics.decimals import differences, from_billionths, to_billionths

BILLIONTHS = st.integers(-(10**18), 10**18).map(lambda units: units / 10**9)
CENTS = st.integers(-(10**14), 10**14).map(lambda cents: cents / 100)
VALUES = st.lists(st.one_of(BILLIONTHS, CENTS, st.just(1e18), st.just(-1e18)), min_size=1, max_size=40)


def exact(value: float) -> Decimal:
    return Decimal(repr(value))


@given(VALUES)
def test_a_sum_is_the_double_next_to_the_sum_of_the_decimals(values: list[float]) -> None:
    billionths = to_billionths(np.array(values))
    assert from_billionths(billionths).tolist() == values
    assert from_billionths(np.array([billionths.sum()], billionths.dtype)).tolist() == [
        float(sum(map(exact, values)))
    ]


@given(st.lists(st.tuples(BILLIONTHS, BILLIONTHS), max_size=20))
def test_a_difference_is_that_of_the_decimals(pairs: list[tuple[float, float]]) -> None:
    values, earlier = (np.array([pair[side] for pair in pairs], np.float64) for side in (0, 1))
    assert differences(values, earlier).tolist() == [float(exact(one) - exact(other)) for one, other in pairs]


def test_without_one_of_both_there_is_no_difference() -> None:
    found = differences(np.array([1.5, np.nan, 0.3]), np.array([np.nan, 1.0, 0.1]))
    assert np.isnan(found[:2]).all()
    assert found[2] == 0.2
