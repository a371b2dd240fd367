"""Running lives: a seed draws one, and draws the same one again.

Belongs here: Hypothesis' settings, seeds, what must have happened. Does not belong here: the steps (`machine`).

Not Hypothesis' own rules: of 500 steps that it chose by itself, 7 merged anything; and a seed of it draws a whole run,
so that one failure took minutes to see again.
"""

from collections.abc import Iterable

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.oracle.machine import NEEDED, Oracle, steps_done
from tests.oracle.world import World

STEPS = 10
OPTION = "--oracle-seed"

_NOTHING = 0
"""What Hypothesis draws first, of every seed: that example ends at once."""


def seeds(config: pytest.Config, otherwise: Iterable[int]) -> list[int]:
    """The one that was asked for, or these."""
    wanted = config.getoption(OPTION)
    return list(otherwise) if wanted is None else [wanted]


def run(world: World, seed: int, *, shrink: bool) -> None:
    """Live the life of a seed; to shrink a failure takes up to five minutes, Hypothesis' limit."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=2,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrink else [])],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def life(data: st.DataObject) -> None:
        if data.draw(st.integers(0, 1_000_000)) == _NOTHING:
            return
        oracle = Oracle(world, data)
        try:
            oracle.begin()
            for _ in range(STEPS):
                oracle.step()
            oracle.end()
        finally:
            oracle.close()

    try:
        life()
    except BaseException as error:
        error.add_note(f"to see it again, and as short as it gets, run this test with {OPTION}={seed}")
        raise


def check_all_happened() -> None:
    """A kind of step that never really ran proves nothing; prints how often each did."""
    print(", ".join(f"{kind} {count}" for kind, count in sorted(steps_done.items())))
    never = NEEDED - steps_done.keys()
    assert not never, f"never happened: {', '.join(sorted(never))}"
