"""Keys and windows of the rollup assets."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.defs import partitions

times = st.datetimes(datetime(2026, 1, 1), datetime(2026, 11, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(times)
def test_a_time_lies_in_the_window_of_its_keys(at):
    for definition, key in (
        (partitions.HOURLY, partitions.hour_key(at)),
        (partitions.DAILY, partitions.day_key(at)),
    ):
        window = definition.time_window_for_partition_key(key)
        assert window.start <= at < window.end


@given(times, st.integers(min_value=1, max_value=60))
def test_a_window_is_made_of_its_hours(at, count):
    first = at.replace(hour=0, minute=0, second=0, microsecond=0)
    window = dg.TimeWindow(first, first + timedelta(days=count))
    hours = partitions.hours_in(window)
    assert hours[0] == first
    assert len(hours) == 24 * count
    assert set(hours[::24]) == {first + timedelta(days=number) for number in range(count)}


def test_the_running_hour_and_day_are_partitions_and_the_next_are_not():
    now = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    with dg.partition_loading_context(now):
        assert partitions.HOURLY.get_last_partition_key() == "2026-03-01-12:00"
        assert partitions.DAILY.get_last_partition_key() == "2026-03-01"
