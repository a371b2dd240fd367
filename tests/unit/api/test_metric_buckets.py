"""Buckets in any zone, made of what is kept, and those that they are compared with."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.events.times import EPOCH, micros
from analytics_pipeline.rollups.schema import LEVELS
from api.errors import BadRequest
from api.metrics.buckets import Compare, buckets_of, compared_with, moment

KEPT = dict.fromkeys(LEVELS, EPOCH)
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    "UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
    "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "America/Havana", "Pacific/Apia", "Africa/Casablanca",
    "Pacific/Chatham",
]  # fmt: skip


def hours(start: datetime, end: datetime, zone: str) -> list[float]:
    return (buckets_of(start, end, "1d", ZoneInfo(zone), KEPT).seconds / 3600).tolist()


def test_days_have_23_24_or_25_hours() -> None:
    spring, autumn = datetime(2026, 3, 27, 23, tzinfo=UTC), datetime(2026, 10, 23, 22, tzinfo=UTC)
    assert hours(spring, spring + timedelta(hours=71), "Europe/Berlin") == [24, 23, 24]
    assert hours(autumn, autumn + timedelta(days=3), "Europe/Berlin") == [24, 25, 24]
    # Lord Howe moves by half an hour, and Apia left out a whole day.
    howe = datetime(2026, 4, 3, 13, tzinfo=UTC)
    assert hours(howe, howe + timedelta(days=3), "Australia/Lord_Howe") == [24, 24.5, 24]
    apia = datetime(2011, 12, 29, 10, tzinfo=UTC)
    assert hours(apia, apia + timedelta(days=2), "Pacific/Apia") == [24, 24]


def test_a_day_begins_where_clocks_skip_midnight() -> None:
    start = datetime(2018, 11, 3, 3, tzinfo=UTC)
    buckets = buckets_of(start, start + timedelta(days=2.9), "1d", ZoneInfo("America/Sao_Paulo"), KEPT)
    assert [moment(at) for at in buckets.starts] == [
        datetime(2018, 11, 3, 3, tzinfo=UTC),
        datetime(2018, 11, 4, 3, tzinfo=UTC),
        datetime(2018, 11, 5, 2, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("zone", "interval", "level", "is_composed"),
    [
        ("UTC", "1d", "1d", False),
        ("Africa/Abidjan", "1d", "1d", False),
        ("Europe/Berlin", "1d", "1h", True),
        ("Asia/Kolkata", "1d", "15m", True),
        ("Europe/Berlin", "1h", "1h", False),
        ("Asia/Kolkata", "1h", "15m", True),
        ("Asia/Kathmandu", "15m", "15m", False),
        ("Asia/Kolkata", "1m", "1m", False),
    ],
)
def test_the_level_that_is_read(zone: str, interval: str, level: str, is_composed: bool) -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    found = buckets_of(start, start + timedelta(days=2), interval, ZoneInfo(zone), KEPT)
    assert (found.level, found.is_composed) == (level, is_composed)


def test_beyond_what_is_kept_there_is_a_sentence() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    kept = KEPT | {"15m": start, "1h": start - timedelta(days=10)}
    span = start - timedelta(days=5), start
    assert buckets_of(*span, "1d", BERLIN, kept).level == "1h"
    assert len(buckets_of(*span, "1d", ZoneInfo("UTC"), kept)) == 5
    with pytest.raises(BadRequest, match=r"no whole hour.*15m.*2026-05-01"):
        buckets_of(*span, "1d", ZoneInfo("Asia/Kolkata"), kept)
    with pytest.raises(BadRequest, match=r"1h buckets.*2026-04-21"):
        buckets_of(start - timedelta(days=20), start, "1d", BERLIN, kept)
    with pytest.raises(BadRequest, match="quarter of an hour"):
        buckets_of(
            EPOCH + timedelta(days=9), EPOCH + timedelta(days=19), "1d", ZoneInfo("Africa/Monrovia"), kept
        )


@given(
    st.sampled_from(ZONES),
    st.sampled_from(["15m", "1h", "1d"]),
    st.integers(1_230_768_000, 1_798_761_600).map(lambda at: EPOCH + timedelta(seconds=at)),
    st.timedeltas(timedelta(), timedelta(days=5)),
)
def test_buckets_are_where_the_clock_shows_a_whole_one(
    zone: str, interval: str, start: datetime, length: timedelta
) -> None:
    name = ZoneInfo(zone)
    found = [moment(at) for at in buckets_of(start, start + length, interval, name, KEPT).starts]
    quarter = timedelta(minutes=15)
    at = start - (start - EPOCH) % quarter
    expected = []
    while at < start + length:
        local, before = at.astimezone(name), (at - quarter).astimezone(name)
        is_whole = (local.hour * 3600 + local.minute * 60) % LEVELS[interval] == 0
        if interval == "1d":
            is_whole = local.date() > before.date()
        if at >= start and is_whole:
            expected.append(at)
        at += quarter
    assert found == expected


@pytest.mark.parametrize("interval", ["1h", "1d"])
def test_a_week_before_is_the_same_time_by_the_clock(interval: str) -> None:
    start = datetime(2026, 3, 25, 23, tzinfo=UTC)
    buckets = buckets_of(start, start + timedelta(days=9), interval, BERLIN, KEPT)
    earlier, position = compared_with(buckets, Compare.WEEK, KEPT)
    for at, place in zip(buckets.starts, position, strict=True):
        now, then = moment(at).astimezone(BERLIN), moment(earlier.starts[place]).astimezone(BERLIN)
        wanted = now.replace(tzinfo=None) - timedelta(days=7)
        if not (wanted.day == 29 and wanted.month == 3 and wanted.hour == 2):  # an hour that was left out
            assert then.replace(tzinfo=None) == wanted


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("America/St_Johns", datetime(2026, 3, 5, tzinfo=UTC)),  # by an hour on March 8
        ("America/St_Johns", datetime(2026, 10, 29, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 4, 3, tzinfo=UTC)),  # by half an hour on April 5
        ("Australia/Lord_Howe", datetime(2026, 10, 5, tzinfo=UTC)),  # whole hours, a week after halves
    ],
)
def test_a_week_before_is_the_same_time_where_offsets_are_no_whole_hours(name: str, first: datetime) -> None:
    zone = ZoneInfo(name)
    for start in (first, first + timedelta(days=3)):
        buckets = buckets_of(start, start + timedelta(days=5), "1h", zone, KEPT)
        earlier, position = compared_with(buckets, Compare.WEEK, KEPT)
        assert (position >= 0).sum() > 100
        for at, place in zip(buckets.starts, position, strict=True):
            wanted = moment(at).astimezone(zone).replace(tzinfo=None) - timedelta(days=7)
            there = wanted.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)
            if there == wanted:  # else the clock left it out
                then = moment(earlier.starts[place]).astimezone(zone)
                assert then.replace(tzinfo=None) == wanted


def test_before_is_as_many_buckets() -> None:
    start = datetime(2026, 10, 24, 22, tzinfo=UTC)  # the day of 25 hours, and the next
    buckets = buckets_of(start, start + timedelta(days=2), "1d", BERLIN, KEPT)
    earlier, position = compared_with(buckets, Compare.PREVIOUS, KEPT)
    assert position.tolist() == [0, 1]
    assert [moment(at) for at in earlier.edges] == [start - timedelta(days=days) for days in (2, 1, 0)]
    hours = buckets_of(start, start + timedelta(hours=5), "1h", BERLIN, KEPT)
    earlier, position = compared_with(hours, Compare.PREVIOUS, KEPT)
    assert micros(earlier.end) == hours.edges[0]
    assert np.array_equal(position, np.arange(5))
