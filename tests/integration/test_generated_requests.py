"""The whole API keeps to its OpenAPI document, whatever is sent; the long form is in `tests/chaos`."""

import random
from pathlib import Path

import pytest

from analytics_pipeline.local_stack.redis import Redis
from tests.generated_requests import OPTION, run, show

SECONDS = 60


@pytest.mark.timeout(240)
def test_answers_are_as_documented(
    database: str, redis_server: Redis, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption(OPTION) or random.Random().randrange(2**31)
    show(run(database, redis_server, tmp_path, seconds=SECONDS, seed=seed))
