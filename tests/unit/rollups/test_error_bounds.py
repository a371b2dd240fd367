"""How far quantiles and distinct counts may be off, from events to the day: 1m, 5m, 15m, 1h and 1d."""

import json
import math
import random
from collections.abc import Callable
from functools import cache

import pyarrow as pa
import pytest

from analytics_pipeline.rollups import levels, states
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import project_file
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


DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "log-normal": lambda chance: chance.lognormvariate(2, 1.5),
    "bimodal": lambda chance: chance.gauss(5, 0.1) if chance.random() < 0.7 else chance.gauss(900, 20),
    "heavy-tailed": lambda chance: chance.paretovariate(0.8),
    "negative": lambda chance: -chance.lognormvariate(0, 2),
    "constant": lambda chance: 42.0,
    "zero and both signs": lambda chance: chance.choice([0.0, -3.0, 8.0]),
}
WHAT = {
    "log-normal": "log-normal, μ 2, σ 1.5",
    "bimodal": "bimodal: 70 % about 5, 30 % about 900",
    "heavy-tailed": "heavy-tailed: Pareto, α 0.8",
    "negative": "negative: log-normal, μ 0, σ 2",
    "constant": "constant: 42",
    "zero and both signs": "0, −3 and 8",
}
SHOWN = (50, 95, 99)


@cache
def quantiles(name: str) -> list[tuple[float, float]]:
    """p0 to p100 of 2,000 values of a day of minutes: the true value and what the state says."""
    chance = random.Random(11)
    values = [DISTRIBUTIONS[name](chance) for _ in range(2_000)]
    [state] = total(day([(None, value) for value in values], chance)["1d"], "trading.order_latency")
    ordered = sorted(values)
    return [
        (ordered[math.floor(step / 100 * (len(values) - 1))], states.quantile_value(state, step / 100))
        for step in range(101)
    ]


def table() -> str:
    """The largest error of each distribution, as `docs/metrics.md` shows it."""

    def error(true: float, found: float) -> float:
        return abs(found - true) / abs(true) if true else abs(found)

    lines = [
        "| 2,000 values in a day of minutes | p50 | p95 | p99 | largest, p0 to p100 |",
        "|---|---|---|---|---|",
    ]
    for name, what in WHAT.items():
        errors = [error(*both) for both in quantiles(name)]
        shown = [f"{100 * each:.2f} %" for each in (*(errors[step] for step in SHOWN), max(errors))]
        lines.append(f"| {' | '.join([what, *shown])} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_any_quantile_of_a_day_of_minutes_is_within_half_a_percent(name: str) -> None:
    for true, found in quantiles(name):
        # The latter is the rounding of each value to 1e-9.
        assert found == pytest.approx(true, rel=states.RELATIVE_ERROR * 1.0001, abs=1e-9)


def test_the_docs_say_how_far_off_they_are() -> None:
    """Printed by `python -m tests.unit.rollups.test_error_bounds`."""
    assert table() in (project_file("docs") / "metrics.md").read_text(encoding="utf-8")


def test_distinct_users_of_a_day_of_minutes_are_exact_up_to_the_size_and_an_estimate_beyond() -> None:
    chance = random.Random(12)
    for users, tolerance in ((states.DISTINCT_SIZE, 0.0), (5_000, 0.16)):
        seen = [(f"user-{number}", None) for number in (*range(users), *range(0, users, 2))]
        chance.shuffle(seen)
        [state] = total(day(seen, chance)["1d"], "users.active")
        assert states.distinct_count(state) == pytest.approx(users, rel=tolerance, abs=0)


if __name__ == "__main__":
    print(table())
