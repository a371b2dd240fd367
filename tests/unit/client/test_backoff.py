"""Waits between attempts."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from b25_client.backoff import FIRST, LONGEST, LONGEST_ASKED, retry_after, wait_before

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    longest = [wait_before(attempt, None, lambda: 1.0) for attempt in range(1, 40)]
    assert longest[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert max(longest) == LONGEST
    assert all(wait_before(attempt, None, lambda: 0.0) == 0 for attempt in range(1, 40))


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
def test_what_the_service_asks_for_is_never_undercut(random: float) -> None:
    for asked in (0.0, 1.0, 30.0):
        assert asked <= wait_before(1, asked, lambda: random) <= asked * 1.25 + FIRST
    assert wait_before(1, 1e9, lambda: random) <= LONGEST_ASKED * 1.25 + FIRST


def test_clients_that_failed_together_come_back_apart() -> None:
    assert wait_before(1, 5.0, lambda: 0.1) != wait_before(1, 5.0, lambda: 0.9)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 120 ", 120.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds
