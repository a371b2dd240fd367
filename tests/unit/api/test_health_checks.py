"""How often health looks, however many ask."""

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from analytics_pipeline.settings import Settings
from api.database import Database
from api.errors import Unavailable
from api.health_checks import Health


class Away:
    """A Postgres that is down."""

    def __init__(self) -> None:
        self.pings = 0

    async def ping(self) -> None:
        self.pings += 1
        raise Unavailable("Postgres is not reachable.")


def test_an_absent_postgres_is_not_asked_for_by_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away()
    health = Health(Settings(), cast("Database", away), None, lambda: datetime.now(UTC))

    async def ask() -> None:
        for _ in range(3):
            assert not (await health.check()).database

    asyncio.run(ask())
    assert away.pings == 1
    monkeypatch.setattr("api.health_checks._WHILE_DOWN", 0.0)
    asyncio.run(health.check())
    assert away.pings == 2
