"""A thousand random lives of merges, recomputes, retention and their ends in the middle; the short form is in
`tests/integration/test_oracle.py`."""

import random
import time
from pathlib import Path

import pytest

from tests.chaos.servers import PostgresServer, stopping
from tests.oracle.run import OPTION, check_all_happened, run, seeds
from tests.oracle.world import World

LIVES = 1000
_HOURS = 3


@pytest.mark.long
@pytest.mark.timeout(_HOURS * 3600)
def test_a_thousand_lives(chaos_folder: Path, request: pytest.FixtureRequest) -> None:
    first = random.Random().randrange(1_000_000_000)
    chosen = seeds(request.config, range(first, first + LIVES))
    print(f"seeds {chosen[0]} to {chosen[-1]}")
    folder = chaos_folder / "oracle"
    folder.mkdir()
    server = PostgresServer(folder, is_durable=False)
    with stopping(server):
        world, started = World(server.database), time.monotonic()
        for seed in chosen:
            run(world, seed, shrink=request.config.getoption(OPTION) is not None)
        world.close()
    print(f"{len(chosen)} lives in {time.monotonic() - started:.0f} s")
    if len(chosen) > 1:
        check_all_happened()
