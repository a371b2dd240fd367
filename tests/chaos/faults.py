"""Planned faults and those that really fired: a fault that never fired has tested nothing."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest


class Faults:
    """Draws the seed, counts, prints, and fails when the count is short."""

    def __init__(self) -> None:
        self.seed = random.SystemRandom().randrange(2**32)
        self.rng = random.Random(self.seed)
        self._planned: Counter[str] = Counter()
        self._fired: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._seconds: dict[str, list[float]] = {}
        print(f"seed {self.seed}")

    def plan(self, what: str, times: int = 1) -> None:
        self._planned[what] += times

    def fired(self, what: str) -> None:
        self._fired[what] += 1

    def note(self, what: str) -> None:
        """Count something worth knowing, that nothing depends on."""
        self._notes[what] += 1

    def took(self, what: str, seconds: float) -> None:
        self._seconds.setdefault(what, []).append(seconds)

    def report(self) -> None:
        """Print; every planned fault must have fired as often as planned."""
        for what, planned in self._planned.items():
            print(f"{what}: {self._fired[what]} of {planned} fired")
        for what, count in self._notes.items():
            print(f"{what}: {count}")
        for what, found in self._seconds.items():
            ordered = sorted(found)
            print(f"{what}: median {ordered[len(ordered) // 2]:.1f} s, longest {ordered[-1]:.1f} s")
        assert self._fired == self._planned, f"faults that never fired: {self._planned - self._fired}"


def times(short: int | None, long: int) -> Sequence[object]:
    """Parameters of a test: how often in the short form (None: too slow for it) and in the long one."""
    return [
        *([] if short is None else [pytest.param(short, id="short")]),
        pytest.param(long, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ]
