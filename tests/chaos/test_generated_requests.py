"""Ten minutes of generated requests; the short form is in `tests/integration`."""

import random
from pathlib import Path

import pytest

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from tests.chaos.servers import PostgresServer, Server, stopping
from tests.generated_requests import OPTION, run, show

SECONDS = 600


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
def test_ten_minutes(chaos_folder: Path, request: pytest.FixtureRequest) -> None:
    folder = chaos_folder / "generated"
    folder.mkdir()
    redis = Redis(folder / "redis", port=free_port())
    seed = request.config.getoption(OPTION) or random.Random().randrange(2**31)
    postgres, cache = PostgresServer(folder, is_durable=False), Server(redis.service(), folder)
    with stopping(postgres), stopping(cache):
        statuses = run(postgres.database, redis, folder, seconds=SECONDS, seed=seed)
    show(statuses)
    succeeded = {operation for operation, counted in statuses.items() if any(one < 400 for one in counted)}
    assert statuses.keys() == succeeded
