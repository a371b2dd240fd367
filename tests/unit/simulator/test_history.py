"""The history fills the past with the events of a day, the same for the same `now`."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from analytics_pipeline.settings import Simulator
from analytics_pipeline.simulator.envelope import SECOND
from analytics_pipeline.simulator.history import activity, busy_end, default_seed, past_events, past_slots
from analytics_pipeline.simulator.market import INSTRUMENTS

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
END = int(NOW.timestamp() * SECOND)
DAY = 86_400 * SECOND


def simulator(**values: object) -> Simulator:
    return Simulator.model_validate({"history_events": 6_000, **values})


def test_slots_are_as_many_as_asked_in_order_within_the_range() -> None:
    slots = past_slots(END - DAY, END, 10_000)
    assert len(slots) == 10_000
    assert all(a <= b for a, b in pairwise(slots))
    assert END - DAY <= slots[0] < slots[-1] < END
    assert slots[0] - (END - DAY) < 60 * SECOND
    assert END - slots[-1] < 60 * SECOND


def test_the_day_has_a_shape() -> None:
    assert sum(activity(hour / 4) for hour in range(96)) / 96 == pytest.approx(1)
    hours = [0] * 24
    for slot in past_slots(END - DAY, END, 24_000):
        hours[slot // (3600 * SECOND) % 24] += 1
    assert max(hours) > 2 * min(hours) > 0
    assert 12 <= hours.index(max(hours)) <= 17


def test_a_short_history_has_all_its_events() -> None:
    assert len(past_slots(END - SECOND, END, 10)) == 10


def test_the_same_now_gives_the_same_messages() -> None:
    seed = default_seed(NOW)
    first = list(past_events(simulator(), NOW, seed))
    assert first == list(past_events(simulator(), NOW, seed))
    assert len(first) == 6_000


def test_events_are_of_the_past_and_none_is_late() -> None:
    settings = simulator(duplicate_ratio=0, broken_ratio=0, late_ratio=1)
    times = [message.time for message in past_events(settings, NOW, 1)]
    assert all(a <= b for a, b in pairwise(times))
    assert END - DAY <= times[0] <= times[-1] < END


@pytest.mark.parametrize("values", [{"history_events": 0}, {"history": timedelta(0)}])
def test_no_history_is_possible(values: dict[str, object]) -> None:
    assert list(past_events(simulator(**values), NOW, 1)) == []


def test_the_last_minutes_are_as_busy_as_the_simulator_will_be() -> None:
    settings = simulator(rate=20, history_events=40_000)
    busy = busy_end(settings)
    assert busy == 15 * 60
    slots = [message.time for message in past_events(settings, NOW, 1)]
    assert len(slots) == 40_000
    for minute in range(1, 16):
        begin = END - minute * 60 * SECOND
        assert sum(begin <= slot < begin + 60 * SECOND for slot in slots) == pytest.approx(20 * 60, rel=0.05)
    assert sum(END - 3600 * SECOND <= slot < END - busy * SECOND for slot in slots) < 1_500


def test_a_history_that_is_busier_than_the_simulator_is_so_all_the_time() -> None:
    assert busy_end(simulator(rate=1, history=timedelta(hours=1), history_events=4_000)) == 0


def test_prices_end_where_the_simulator_begins() -> None:
    newest = {}
    for message in past_events(simulator(history_events=20_000, broken_ratio=0), NOW, 1):
        event = json.loads(message.value)
        if event["event_type"] == "market.data.update":
            newest[event["properties"]["symbol"]] = event["properties"]["price"]
    begun = {pit.symbol: pit.base for pit in INSTRUMENTS}
    assert newest == pytest.approx(begun, rel=0.005)
