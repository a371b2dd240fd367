"""GCRA: a burst, then one per interval, and memory that stays bounded."""

from hypothesis import given
from hypothesis import strategies as st

from api import rate_limit
from api.rate_limit import RateLimiter


def test_a_burst_then_one_per_interval() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=3)
    assert [limiter.check("a", 0.0).remaining for _ in range(3)] == [2, 1, 0]
    refused = limiter.check("a", 0.0)
    assert (refused.is_allowed, refused.remaining) == (False, 0)
    assert (refused.retry_after, refused.reset) == (1.0, 3.0)
    assert limiter.check("c", 0.5).reset == 1.0
    assert not limiter.check("a", 0.9).is_allowed
    assert limiter.check("a", 1.0).is_allowed
    assert limiter.check("b", 1.0).remaining == 2


def test_a_rest_gives_the_burst_back() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=3)
    for _ in range(3):
        limiter.check("a", 0.0)
    assert limiter.check("a", 100.0).remaining == 2


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 600), st.integers(1, 20))
def test_never_more_than_the_rate_plus_the_burst(steps: list[float], per_minute: int, burst: int) -> None:
    limiter = RateLimiter(requests_per_minute=per_minute, burst=burst)
    now, allowed = 0.0, 0
    for step in steps:
        now += step
        verdict = limiter.check("a", now)
        allowed += verdict.is_allowed
        assert 0 <= verdict.remaining <= burst
        assert verdict.is_allowed == (verdict.retry_after == 0)
    assert allowed <= burst + now * per_minute / 60 + 1e-6


def test_memory_is_bounded() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1)
    for client in range(rate_limit.MAX_CLIENTS + 50):
        limiter.check(str(client), 0.0)
    assert len(limiter._arrivals) == rate_limit.MAX_CLIENTS
