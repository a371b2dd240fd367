"""Whatever happens in whatever order, every metric is what plain SQL over the raw events says."""

from collections.abc import Iterator

import pytest

from tests.oracle.run import OPTION, check_all_happened, run, seeds
from tests.oracle.world import World


@pytest.fixture
def world(database: str) -> Iterator[World]:
    made = World(database)
    yield made
    made.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lives", [range(34), pytest.param(range(34, 84), marks=pytest.mark.slow)], ids=str)
def test_numbers_are_those_of_plain_sql_after_every_step(
    world: World, request: pytest.FixtureRequest, lives: range
) -> None:
    """As many as take a minute and a half, and in the slow tests as many as take two more."""
    chosen = seeds(request.config, lives)
    for seed in chosen:
        run(world, seed, shrink=request.config.getoption(OPTION) is not None)
    if len(chosen) > 1:
        check_all_happened()
