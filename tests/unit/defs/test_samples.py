"""Which part of which hour a check takes in its turn."""

from datetime import UTC, datetime, timedelta

from analytics_pipeline.defs.checks.every_metric import Piece, sample

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_hours_take_turns():
    closed = [(NOON + n * HOUR, 1000) for n in range(3)]
    assert [sample(closed, turn, 2000) for turn in range(4)] == [
        Piece(NOON + n * HOUR, NOON + (n + 1) * HOUR) for n in (0, 1, 2, 0)
    ]


def test_of_an_hour_at_ten_thousand_events_a_second_three_minutes_are_taken_and_all_of_them_in_time():
    closed = [(NOON, 36_000_000), (NOON + HOUR, 1000)]
    taken = [sample(closed, turn, 2_000_000) for turn in range(0, 40, 2)]
    assert {piece.last - piece.first for piece in taken} == {timedelta(minutes=3)}
    assert sorted(piece.first for piece in taken) == [NOON + timedelta(minutes=3 * n) for n in range(20)]
    assert sample(closed, 40, 2_000_000) == taken[0]
    assert sample(closed, 1, 2_000_000).is_hour


def test_the_last_part_of_an_hour_ends_with_it():
    closed = [(NOON, 17_000_000)]
    taken = [sample(closed, turn, 2_000_000) for turn in range(9)]
    assert taken[8] == Piece(NOON + timedelta(minutes=56), NOON + HOUR)


def test_one_minute_is_taken_however_many_events_it_has():
    assert sample([(NOON, 10**9)], 61, 2_000_000).last - NOON == timedelta(minutes=2)
