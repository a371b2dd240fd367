"""The API as people meet it: a process with a port that stays when it is started anew, and events behind it."""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.storage.connection import connect
from tests.integration.api_process import Process, started
from tests.integration.api_support import event, land
from tests.waiting import wait_for

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
STRATEGIES = ("momentum-1", "maker-2")


class Site:
    """A running API and what tests do to it."""

    def __init__(self, database: str, variables: dict[str, str], port: int) -> None:
        self.database = database
        self.base = f"http://127.0.0.1:{port}"
        self._variables = variables | {"B25_SERVER__PORT": str(port)}
        self._life: Any = None

    def start(self) -> None:
        self._life = started(self.database, **self._variables)
        process: Process = self._life.__enter__()
        wait_for(lambda: self._is_ready(process), timeout=120, message="the API answers")

    def stop(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            life.__exit__(None, None, None)

    def _is_ready(self, process: Process) -> bool:
        assert process.running.poll() is None, "the API has ended"
        try:
            return httpx.get(f"{self.base}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: Any) -> Any:
        """What the API answers to whoever asks it without the page."""
        answer = httpx.get(self.base + path, params=parameters, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def points(self, metric_name: str, **parameters: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/metrics", metric_name=metric_name, **parameters)[
            "result"
        ]["data_points"]
        return found

    def land(self, *events: dict[str, Any]) -> None:
        """Events that have landed when this returns."""
        land(self.database, events)


def admit(database: str) -> None:
    """Give the series of what is pending their places, as the landing process does."""
    with connect(database, name="test", autocommit=True) as connection:
        connection.execute(
            "INSERT INTO metric_series (day, metric_id, dimension_set, dimensions) "
            "SELECT DISTINCT (minute AT TIME ZONE 'UTC')::date, metric_id, dimension_set, dimensions "
            "FROM rollup_deltas WHERE dimension_set <> '' AND kind <> 'register' ON CONFLICT DO NOTHING"
        )


@contextmanager
def running_site(database: str, redis: Redis, folder: Path, **variables: str) -> Iterator[Site]:
    """The API, with Redis, without a limit of requests, and without anybody's configuration file."""
    config = folder / "no-settings.yaml"
    config.touch()
    site = Site(
        database,
        {
            "B25_CONFIG": str(config),
            "B25_REDIS__ENABLED": "true",
            "B25_REDIS__HOST": redis.host,
            "B25_REDIS__PORT": str(redis.port),
            "B25_REDIS__PASSWORD": redis.password,
            "B25_SECURITY__RATE_LIMIT__ENABLED": "false",
        }
        | variables,
        free_port(),
    )
    site.start()
    try:
        yield site
    finally:
        site.stop()


def order(event_type: str, at: datetime, **properties: Any) -> dict[str, Any]:
    """An event of an order, of the first symbol and strategy unless said otherwise."""
    return event(
        event_type, at, "user-1", **({"symbol": SYMBOLS[0], "strategy_id": STRATEGIES[0]} | properties)
    )


def stored_events() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two hours of a small market: all but the last 15 minutes, to be settled, and those."""
    chance = random.Random(7)
    now = datetime.now(UTC)
    minute = now.replace(second=0, microsecond=0)
    past: list[dict[str, Any]] = []
    recent: list[dict[str, Any]] = []
    for ago, (place, symbol) in itertools.product(range(125, -1, -1), enumerate(SYMBOLS)):
        for second in (5, 25, 45):
            at = (
                minute
                - timedelta(minutes=ago)
                + timedelta(seconds=second, milliseconds=chance.randrange(1000))
            )
            if at < now:
                (past if ago > 15 else recent).extend(_happenings(chance, at, place, symbol))
    return past, recent


def _happenings(chance: random.Random, at: datetime, place: int, symbol: str) -> Iterator[dict[str, Any]]:
    price = round((60_000, 3_000, 150)[place] * chance.uniform(0.98, 1.02), 2)
    user, strategy = f"user-{chance.randrange(1, 9)}", chance.choice(STRATEGIES)
    of = {"symbol": symbol, "strategy_id": strategy}
    yield event(
        "market.data.update", at, None, symbol=symbol, price=price, volume=10, bid=price - 1, ask=price + 1
    )
    yield event("order.placed", at, user, **of, side="BUY", price=price, quantity=0.5)
    if chance.random() < 0.8:
        yield event(
            "order.filled", at, user, **of, side="BUY", price=price, quantity=0.5,
            latency_ms=round(chance.lognormvariate(2, 0.6), 3), pnl=round(chance.uniform(-40, 50), 2),
        )  # fmt: skip
    elif chance.random() < 0.5:
        yield event("order.rejected", at, user, **of, reason="limit")
