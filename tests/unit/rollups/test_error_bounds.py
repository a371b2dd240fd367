"""How far quantiles and distinct counts may be off, from events to the day: 1m, 5m, 15m, 1h and 1d."""

import json
import math
import random
from collections.abc import Callable

import pyarrow as pa
import pytest

from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from tests.unit.rollups.events import SCHEMA, START

DAY = int(START.replace(hour=0).timestamp() * 1e6)
_BATCH = 700


def day(rows: list[tuple[str | None, float | None]], chance: random.Random) -> dict[str, pa.Table]:
    """All levels of order.filled events of (user, latency) somewhere in a day, landed in batches, out of order."""
    events = pa.Table.from_pylist(
        [
            {
                "id": chance.randbytes(16),
                "event_type": "order.filled",
                "user_id": user,
                "properties": json.dumps({"latency_ms": latency}),
                "timestamp": DAY + chance.randrange(86_400_000_000),
                "is_late": False,
            }
            for user, latency in rows
        ],
        SCHEMA,
    )
    batches = [events.slice(at, _BATCH) for at in range(0, events.num_rows, _BATCH)]
    found = pa.concat_tables([compute_deltas(batch, BUILT_IN) for batch in batches])
    rolled = {}
    for level in LEVELS:
        found = rolled[level] = levels.roll_up(found, level)
    return rolled


def total(rows: pa.Table, metric_name: str) -> list[bytes]:
    """The states of the metric's total, a bucket each."""
    return [
        row["state"]
        for row in rows.to_pylist()
        if row["metric_name"] == metric_name and row["dimension_set"] == ""
    ]


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda chance: chance.lognormvariate(2, 1.5), id="log-normal"),
        pytest.param(
            lambda chance: chance.gauss(5, 0.1) if chance.random() < 0.7 else chance.gauss(900, 20),
            id="bimodal",
        ),
        pytest.param(lambda chance: chance.paretovariate(0.8), id="heavy-tailed"),
        pytest.param(lambda chance: -chance.lognormvariate(0, 2), id="negative"),
        pytest.param(lambda chance: 42.0, id="constant"),
        pytest.param(lambda chance: chance.choice([0.0, -3.0, 8.0]), id="zero and both signs"),
    ],
)
def test_any_quantile_of_a_day_of_minutes_is_within_half_a_percent(
    draw: Callable[[random.Random], float],
) -> None:
    chance = random.Random(11)
    values = [draw(chance) for _ in range(2_000)]
    [state] = total(day([(None, value) for value in values], chance)["1d"], "trading.order_latency")
    ordered = sorted(values)
    for step in range(101):
        true = ordered[math.floor(step / 100 * (len(values) - 1))]
        # The latter is the rounding of each value to 1e-9.
        assert states.quantile_value(state, step / 100) == pytest.approx(
            true, rel=states.RELATIVE_ERROR * 1.0001, abs=1e-9
        )


def test_distinct_users_of_a_day_of_minutes_are_exact_up_to_the_size_and_an_estimate_beyond() -> None:
    chance = random.Random(12)
    for users, tolerance in ((states.DISTINCT_SIZE, 0.0), (5_000, 0.16)):
        seen = [(f"user-{number}", None) for number in (*range(users), *range(0, users, 2))]
        chance.shuffle(seen)
        [state] = total(day(seen, chance)["1d"], "users.active")
        assert states.distinct_count(state) == pytest.approx(users, rel=tolerance, abs=0)
