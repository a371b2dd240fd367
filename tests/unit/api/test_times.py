"""RFC 3339 in and out, buckets, durations as Go writes them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.times import EPOCH
from api.times import (
    LATEST,
    ceil_time,
    days_of,
    floor_time,
    format_duration,
    format_time,
    parse_time,
)

MOMENTS = st.datetimes(
    min_value=EPOCH.replace(tzinfo=None), max_value=LATEST.replace(tzinfo=None), timezones=st.just(UTC)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T12:00:00-23:59", datetime(2026, 2, 1, 11, 59, tzinfo=UTC)),
        ("2026-01-31T12:00:00.1Z", datetime(2026, 1, 31, 12, 0, 0, 100_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_times_that_are_understood(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-01-31", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00", "2026-01-31T12:00Z",
        "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+02:60", "2026-01-31T12:00:00 02:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-01-31T12:00:00Zx",
        "٢٠٢٦-01-31T12:00:00Z", "2026-01-31T12:00:00.Z", "1700000000", "-2026-01-31T12:00:00Z",
    ],
)  # fmt: skip
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|no such|years|zone offset|%2B"):
        parse_time(text)


def test_a_plus_that_became_a_blank_gets_a_hint() -> None:
    with pytest.raises(ValueError, match="%2B"):
        parse_time("2026-01-31T12:00:00 02:00")


@given(MOMENTS)
def test_what_is_written_is_read_again(at: datetime) -> None:
    assert parse_time(format_time(at)) == at


@given(MOMENTS, st.sampled_from([60, 300, 900, 3600, 86_400]))
def test_buckets_hold_their_times(at: datetime, seconds: int) -> None:
    start, after = floor_time(at, seconds), ceil_time(at, seconds)
    assert start <= at < start + timedelta(seconds=seconds)
    assert after in {start, start + timedelta(seconds=seconds)}
    assert (after == at) == (start == at)
    assert (start - EPOCH) % timedelta(seconds=seconds) == timedelta(0)


def test_days_of_a_range_leave_out_a_midnight_at_its_end() -> None:
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    day = timedelta(days=1)
    assert days_of(midnight, midnight + day) == (midnight.date(), midnight.date())
    assert days_of(midnight, midnight) == (midnight.date(), midnight.date())
    assert days_of(midnight, midnight + day + timedelta(microseconds=1))[1] == (midnight + day).date()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (-1, "0s"), (5e-9, "5ns"), (1.5e-6, "1.5µs"), (0.0611, "61.1ms"), (1, "1s"), (1.5, "1.5s"),
        (59.999, "59.999s"), (62.5, "1m2.5s"), (3600, "1h0m0s"), (90_061.25, "25h1m1.25s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_the_original_did(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
