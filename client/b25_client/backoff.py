"""How long to wait before sending again.

Belongs here: the arithmetic. Does not belong here: waiting, and what is worth sending again (`rest`).

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015): clients that failed together must
not come back together. `Retry-After` (RFC 9110, 10.2.3) is never undercut, and is spread upwards for the same reason.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST = 0.1
"""Seconds: the longest first wait."""
LONGEST = 10.0
"""Seconds: the longest wait that nobody asked for."""
LONGEST_ASKED = 300.0
"""Seconds: the longest wait that a service may ask for."""
_SPREAD = 0.25


def wait_before(attempt: int, asked: float | None, random: Callable[[], float]) -> float:
    """Seconds to wait before attempt number `attempt` + 1.

    Args:
        attempt: how many there have been, from 1.
        asked: seconds of `Retry-After`, None without one.
        random: from [0, 1).
    """
    if asked is not None:
        return min(max(asked, 0.0), LONGEST_ASKED) * (1 + _SPREAD * random()) + FIRST * random()
    return random() * min(LONGEST, FIRST * 2.0 ** min(attempt - 1, 30))


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number or a date; None if it says nothing readable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
