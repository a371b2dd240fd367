"""Fills the marts the way Dagster does, without its start, and makes streams of events to fill them from.

Belongs here: what the tests of several marts share. Each test file says itself what its mart should hold.
"""

import json
import math
import random
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dbt.cli.main import dbtRunner

from analytics_pipeline.settings import adopt, settings
from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.connection import Connection
from tests.integration.landed import Event, land

LENGTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


def build_marts(command: str = "run", *models: str) -> bool:
    """dbt inside this process, which spares most of its start; whether it succeeded."""
    from analytics_pipeline.defs.marts.resources import PROJECT, dbt_environment

    folder, target = str(PROJECT.project_dir), str(PROJECT.target_path / "tests")
    places = [
        "--project-dir",
        folder,
        "--profiles-dir",
        folder,
        "--target-path",
        target,
        "--log-path",
        target,
    ]
    chosen = ["--select", *models] if models else []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("PGOPTIONS", "")  # put back afterwards: it is of every connection that says nothing else
        adopt(dbt_environment(settings().database.conninfo()))
        return dbtRunner().invoke([*command.split(), "--quiet", *places, *chosen]).success


def document_marts() -> dict[str, Any]:
    """What `dbt docs generate` writes: the catalog of tables and columns as they are in the database."""
    from analytics_pipeline.defs.marts.resources import PROJECT

    assert build_marts("docs generate")
    found: dict[str, Any] = json.loads((PROJECT.target_path / "tests" / "catalog.json").read_text())
    return found


def bucket_start(level: str, at: datetime) -> datetime:
    """The start of the bucket that holds a time; UTC."""
    return at - (at - datetime(2000, 1, 1, tzinfo=UTC)) % LENGTHS[level]


def merge_all(db: Connection) -> None:
    for pending in rollups.pending_hours(db):
        rollups.merge_hour(db, pending.hour, run_id="test")


def let_time_pass(db: Connection) -> None:
    """All that the last run saw had landed, and was merged, ten minutes before it: beyond the overlap of runs."""
    db.execute("UPDATE ingest_batches SET committed_at = committed_at - interval '10 minutes'")
    db.execute("UPDATE metric_buckets SET computed_at = computed_at - interval '10 minutes'")


def is_close(actual: Any, expected: Any) -> bool:
    """Equal within 1e-9, or both None."""
    if actual is None or expected is None:
        return actual is expected
    return math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-12)


def landings(
    db: Connection, chance: random.Random, make: Callable[[datetime], Event], *, events: int, batches: int
) -> Iterator[list[Event]]:
    """Land random events of both sides of a midnight in batches, in no order; what has landed, after each batch.

    Half of each batch stands within ten minutes, so that minutes are touched again and again. Between two batches time
    passes, and now and then all that is pending is merged.
    """
    landed: list[Event] = []
    starts = [MIDNIGHT - timedelta(minutes=7), MIDNIGHT + timedelta(minutes=4), MIDNIGHT + timedelta(hours=5)]
    for _ in range(batches):
        center = chance.choice(starts)
        batch = []
        for _ in range(events // batches):
            spread = 600 if chance.random() < 0.5 else 8_000
            # times ten seconds apart make twins, which only their ids can order
            batch.append(make(center + timedelta(seconds=10 * chance.randrange(spread // 10))))
        land(db, batch)
        landed += batch
        if chance.random() < 0.5:
            merge_all(db)
        yield landed
        let_time_pass(db)


def check_in_any_order(
    db: Connection,
    mart: str,
    make: Callable[[random.Random, datetime], Event],
    assert_equal: Callable[[Connection, list[Event]], None],
) -> None:
    """After each of several random landings, a run makes the mart what it should be; at the end dbt's tests agree."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    for landed in landings(db, chance, lambda at: make(chance, at), events=240, batches=3):
        assert build_marts("run", mart)
        assert_equal(db, landed)
    assert build_marts("test", mart)


def rows(db: Connection, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    return db.execute(query, arguments).fetchall()
