"""Last values of series, carried forward and summed."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.times import micros
from api.metrics.carried import LastValues, carried

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
    ordered = sorted(last.items())
    names = sorted({series(account, asset) for _, account, asset in last})
    found = carried(
        LastValues(
            names,
            np.array([names.index(series(account, asset)) for (_, account, asset), _ in ordered], np.intp),
            np.array([micros(START + minute * MINUTE) for (minute, _, _), _ in ordered], np.int64),
            np.array([value for _, value in ordered]),
        ),
        np.array([micros(START + (minute + 1) * MINUTE) for minute in range(8)]),
        ("asset",) if by_asset else (),
    ).sorted()
    expected = []
    for minute in range(8):
        held = {}
        for (at, account, asset), value in ordered:
            if at <= minute:
                held[account, asset] = value
        for group in ("X", "Y") if by_asset else (None,):
            values = [value for (_, asset), value in held.items() if group in (None, asset)]
            if values:
                expected.append((minute, f'{{"asset": "{group}"}}' if by_asset else "{}", sum(values)))
    texts = [found.names[place] for place in found.series]
    assert list(zip(found.bucket.tolist(), texts, found.values.tolist(), strict=True)) == expected


def test_sums_are_those_of_decimals():
    balances = [round(541_351.5641666 + 0.01 * account, 2) for account in range(12)] + [1e10 + 0.1, 0.2]
    last = LastValues(
        [series(account, "USDT") for account in range(len(balances))],
        np.arange(len(balances)),
        np.full(len(balances), micros(START)),
        np.array(balances),
    )
    [total] = carried(last, np.array([micros(START + MINUTE)]), ("asset",)).values.tolist()
    assert total == float(sum(Decimal(repr(one)) for one in balances))
    few = LastValues(last.names[:2], last.series[:2], last.at[:2], np.array([0.1, 0.2]))
    assert carried(few, np.array([micros(START + MINUTE)]), ()).values.tolist() == [0.3]
