"""The pace gives exactly the rate, whenever it is asked."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.simulator.pace import LONGEST_NAP, SHORTEST_NAP, Pace

RATES = st.floats(0.1, 20_000)
WAITS = st.lists(st.floats(0.0, 1.9), min_size=1, max_size=60)


@given(rate=RATES, start=st.floats(0, 1e6), waits=WAITS)
def test_slots_due_are_rate_times_elapsed(rate: float, start: float, waits: list[float]) -> None:
    pace = Pace(rate, start)
    now, taken = start, 0
    for wait in waits:
        now += wait
        taken += pace.due(now).number
        assert taken == pytest.approx((now - start) * rate, abs=1.001)
    assert pace.given_up == 0


@given(rate=RATES, waits=WAITS)
def test_slots_follow_each_other_without_gap_or_repeat(rate: float, waits: list[float]) -> None:
    pace = Pace(rate, 0.0)
    now, times = 0.0, []
    for wait in waits:
        now += wait
        slots = pace.due(now)
        times += [slots.first + number * slots.step for number in range(min(slots.number, 500))]
        if slots.number > 500:
            return
        assert all(time <= now + 1e-6 for time in times)
    for earlier, later in pairwise(times):
        assert later - earlier == pytest.approx(1 / rate)


def test_a_whole_second_holds_exactly_the_rate() -> None:
    for rate in (1, 3, 7, 100, 333, 1_000, 20_000):
        pace = Pace(rate, 17.25)
        assert sum(pace.due(17.25 + step / 100).number for step in range(101)) == rate


def test_what_was_missed_for_long_is_given_up() -> None:
    pace = Pace(100, 0.0, patience=2.0)
    assert pace.due(1.0).number == 100
    assert pace.due(60.0).number == 0
    assert pace.given_up == pytest.approx(59.0)
    assert pace.due(61.0).number == 100


def test_a_slow_rate_is_not_taken_for_being_behind() -> None:
    pace = Pace(0.1, 0.0)
    assert [pace.due(second).number for second in range(31)].count(1) == 3
    assert pace.given_up == 0


@given(rate=RATES, now=st.floats(0, 10))
def test_naps_are_short_enough_to_notice_a_stop(rate: float, now: float) -> None:
    pace = Pace(rate, 0.0)
    pace.due(now)
    assert SHORTEST_NAP <= pace.nap(now) <= LONGEST_NAP
