"""Last values of series, carried forward and summed."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.metrics.points import Point, carried

START = datetime(2026, 1, 31, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WHOLE = st.integers(-1000, 1000).map(float)


def series(account: int, asset: str) -> str:
    return f'{{"account_id": "{account}", "asset": "{asset}"}}'


@given(
    st.dictionaries(
        st.tuples(st.integers(-5, 9), st.integers(0, 2), st.sampled_from("XY")), WHOLE, max_size=30
    ),
    st.booleans(),
)
def test_each_bucket_has_the_sum_of_the_values_that_hold_in_it(last, by_asset):
    found = carried(
        [
            Point(START + minute * MINUTE, series(account, asset), value)
            for (minute, account, asset), value in sorted(last.items())
        ],
        START, START + 8 * MINUTE, MINUTE, ("asset",) if by_asset else (),
    )  # fmt: skip
    expected = []
    for minute in range(8):
        held = {}
        for (at, account, asset), value in sorted(last.items()):
            if at <= minute:
                held[account, asset] = value
        for group in ("X", "Y") if by_asset else (None,):
            values = [value for (_, asset), value in held.items() if group in (None, asset)]
            if values:
                dimensions = f'{{"asset":"{group}"}}' if by_asset else "{}"
                expected.append(Point(START + minute * MINUTE, dimensions, sum(values)))
    assert list(found) == expected
