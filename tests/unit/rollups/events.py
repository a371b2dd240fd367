"""Random but believable batches of events, as `compute_deltas` wants them."""

import json
import random
from datetime import UTC, datetime

import pyarrow as pa

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
TYPES = (
    "order.placed",
    "order.filled",
    "order.canceled",
    "order.rejected",
    "market.data.update",
    "user.login",
    "balance.updated",
    "alert.triggered",
)


def batch(size: int, *, seed: int, minutes: int = 60, start: datetime = START) -> pa.Table:
    """`size` events within `minutes` of `start`."""
    chance = random.Random(seed)
    rows = [_row(chance, start, minutes) for _ in range(size)]
    return pa.Table.from_pylist(rows, SCHEMA)


SCHEMA = pa.schema(
    [
        ("id", pa.binary(16)),
        ("event_type", pa.string()),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("properties", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("is_late", pa.bool_()),
    ]
)


def _row(chance: random.Random, start: datetime, minutes: int) -> dict[str, object]:
    event_type = chance.choice(TYPES)
    properties: dict[str, object] = {
        "symbol": chance.choice(["BTCUSDT", "ETHUSDT", 'quo"te\u0007']),
        "price": chance.choice([round(chance.uniform(0.01, 60_000), 2), "12", None, 7]),
        "quantity": round(chance.uniform(0.001, 3), 4),
    }
    if chance.random() < 0.9:
        properties["strategy_id"] = f"strategy-{chance.randrange(5)}"
    if event_type == "order.filled":
        properties["latency_ms"] = chance.choice([0, -1.5, round(chance.lognormvariate(1, 1), 3)])
    if event_type == "balance.updated":
        properties = {
            "account_id": chance.choice(["acct-1", "acct-2", None]),
            "asset": chance.choice(["USDT", "BTC"]),
            "balance": chance.choice([-0.0, round(chance.uniform(-10, 1e6), 2), "12", 1e19]),
        }
    return {
        "id": chance.randbytes(16),
        "event_type": event_type,
        "user_id": chance.choice([None, *(f"user-{n}" for n in range(30))]),
        "session_id": f"session-{chance.randrange(3000)}",
        "properties": json.dumps(properties),
        # Some at the very same time: then the id decides which is first.
        "timestamp": int(start.timestamp() * 1e6)
        + chance.randrange(minutes * 60) * chance.choice([1_000_000, 999_983]),
        "is_late": chance.random() < 0.02,
    }
