"""Ranges of time in run config."""

from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.defs.ranges import Range, hours_of, told
from analytics_pipeline.errors import ConfigurationError

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOON = NOW.replace(minute=0)


def test_a_range_is_the_whole_hours_that_it_touches_until_now_at_the_latest():
    assert hours_of(Range(start="2026-03-01T10:59Z", end="2026-03-01T12:00Z"), NOW) == [
        NOON - 2 * HOUR,
        NOON - HOUR,
    ]
    assert hours_of(Range(start="2026-03-01T13:10+01:00", end="2030-01-01T00:00Z"), NOW) == [NOON]
    assert hours_of(Range(start="2026-03-01T11:00Z"), NOW) == [NOON - HOUR, NOON]


def test_a_range_without_a_start_begins_where_it_can():
    assert hours_of(Range(), NOW, begin=NOON) == [NOON]
    with pytest.raises(ConfigurationError, match="start '' is no time"):
        hours_of(Range(), NOW)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Range(start="noon"), "start 'noon' is no time with a zone: write one like 2026-05-15T12:00Z"),
        (Range(start="2026-03-01T10:00"), "start '2026-03-01T10:00' is no time with a zone"),
        (Range(start="2026-03-01", end="x"), "start '2026-03-01' is no time with a zone"),
        (Range(start="0001-01-01T00:00+23:59"), "start '0001-01-01T00:00+23:59' is no time with a zone"),
        (Range(start="2026-03-02T00:00Z"), "start 2026-03-02T00:00Z is not before end now: there is nothing"),
        (
            Range(start="2026-03-01T10:00Z", end="2026-03-01T10:00Z"),
            "start 2026-03-01T10:00Z is not before end 2026-03-01T10:00Z",
        ),
    ],
)
def test_what_is_no_range_is_one_sentence(asked, sentence):
    with pytest.raises(ConfigurationError) as refused:
        hours_of(asked, NOW)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_hours_are_told_in_a_few_words():
    assert told([NOON]) == "1 hour, 2026-03-01T12:00Z"
    assert told([NOON, NOON + HOUR]) == "2 hours, 2026-03-01T12:00Z to 2026-03-01T13:00Z"
