"""Judging another clock by ours."""

from collections.abc import Callable
from datetime import datetime, timedelta

from analytics_pipeline.doctor.findings import Verdict, ok, problem, remark

_MUCH = timedelta(seconds=5)
_SOME = timedelta(milliseconds=500)
_READINGS = 3


def judge_clock(whose: str, theirs: Callable[[], datetime], ours: Callable[[], datetime]) -> Verdict:
    """Ask several times, take the quickest answer: it lies between our readings before and after it."""
    best: tuple[timedelta, timedelta] | None = None
    for _ in range(_READINGS):
        before = ours()
        there = theirs()
        after = ours()
        took = after - before
        if best is None or took < best[0]:
            best = took, there - (before + took / 2)
    assert best is not None
    took, skew = best
    # Half of what the question took is not known.
    sure = max(timedelta(0), abs(skew) - took / 2)
    side = "ahead of" if skew > timedelta(0) else "behind"
    words = f"the clock of {whose} is {abs(skew).total_seconds():.3f} s {side} ours"
    advice = "let both machines follow NTP (chrony, systemd-timesyncd)"
    if sure > _MUCH:
        return problem(words, advice)
    return remark(words, advice) if sure > _SOME else ok(words)
