"""A process that has nothing to ask of Redis knows of it all the same."""

import asyncio
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import Redis as RedisSettings
from api import redis_line
from api.redis_line import RedisLine
from tests.integration import conftest
from tests.waiting import wait_for

running = contextmanager(conftest.running)


def test_a_process_without_requests_sees_redis_go_and_come(
    state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_line, "LOOK", 0.05)
    server = Redis(state_folder / "redis-that-goes", port=free_port())

    async def shown() -> float | None:
        await asyncio.sleep(0.01)  # the loop has its turn
        return REGISTRY.get_sample_value("analytics_cache_up", {"service": "api"})

    def seen(wanted: int) -> None:
        wait_for(lambda: runner.run(shown()) == wanted, timeout=20, message=f"analytics_cache_up {wanted}")

    async def listening() -> RedisLine:
        line = RedisLine(
            RedisSettings.model_validate(
                {"host": server.host, "port": server.port, "password": server.password, "timeout": "250ms"}
            )
        )
        line.start()
        return line

    with asyncio.Runner() as runner:
        with running(server.service(), state_folder):
            line = runner.run(listening())
            seen(1)
        seen(0)
        with running(server.service(), state_folder):
            seen(1)
        runner.run(line.close())
