"""Windows of the dashboard: whole minutes plus the open one."""

from datetime import UTC, datetime

from api.dashboard.schemas import Windows


def at(hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2026, 1, 31, hour, minute, second, tzinfo=UTC)


def test_windows() -> None:
    windows = Windows(at(12, 34, 56))
    assert (windows.end, windows.rate) == (at(12, 35), at(12, 33))
    assert (windows.active, windows.hour) == (at(12, 29), at(11, 34))
    assert windows.elapsed == 116


def test_on_a_full_minute_the_open_one_has_just_begun() -> None:
    windows = Windows(at(12, 0))
    assert (windows.end, windows.rate, windows.elapsed) == (at(12, 1), at(11, 59), 60)
