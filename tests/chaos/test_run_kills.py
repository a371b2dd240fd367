"""SIGKILL of runs over what has landed, at each named moment: merges, recomputes and backfills.

What settles is broken by hand before a recompute or a backfill, so that it has something to mend: after a kill,
every number is what it was before the run, or, of an hour that a backfill has done, what plain SQL says.
"""

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.failpoints import RunPoint
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID
from analytics_pipeline.storage import backfill
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from tests.chaos.faults import Faults, times
from tests.chaos.run_process import Run, carry_out, killed_at
from tests.chaos.servers import PostgresServer
from tests.integration.landing_rig import check_books
from tests.integration.rollup_actors import HOUR, NEXT, NOW, Actors, prepare
from tests.integration.rollup_truth import check_idle, check_settled, check_truth, remember
from tests.integration.rollup_worlds import World

POINTS = {
    Run.MERGE: (RunPoint.DELTAS_TAKEN, RunPoint.LEVELS_WRITTEN),
    Run.RECOMPUTE: (
        RunPoint.HOUR_LOCKED,
        RunPoint.SNAPSHOT_TAKEN,
        RunPoint.SNAPSHOT_READ,
        RunPoint.ROWS_REPLACED,
    ),
}
POINTS[Run.BACKFILL] = POINTS[Run.RECOMPUTE]
CASES = [(run, point) for run, points in POINTS.items() for point in points]
HOURS = [HOUR, NEXT]
IDS = [*BUILT_IN.by_id, REGISTER_ID]

_SERVED = """
SELECT metric_name, interval, time_bucket, dimension_set, dimensions::text, count, sum, min, max FROM metrics_live
WHERE interval <> '1d' AND time_bucket >= %(first)s AND time_bucket < %(end)s ORDER BY 1, 2, 3, 4, 5
"""
_STATES = """
SELECT * FROM metric_states WHERE interval <> '1d' AND time_bucket >= %(first)s AND time_bucket < %(end)s
ORDER BY metric_id, interval, time_bucket, dimension_set, dimensions::text
"""
_REGISTERED = """
SELECT * FROM metric_buckets WHERE interval <> '1d' AND time_bucket >= %(first)s AND time_bucket < %(end)s
ORDER BY interval, time_bucket
"""
_DAY = "SELECT * FROM metric_aggregations WHERE interval = '1d' ORDER BY metric_id, time_bucket, dimensions::text"
_BREAK = """
UPDATE metric_aggregations SET count = count + 1, sum_exact = sum_exact + 1
WHERE interval <> '1d' AND time_bucket >= %s AND time_bucket < %s
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[World]:
    """A database of its own, with hours that are partly settled and partly pending."""
    server, name = postgres_server.settings, f"run_kills_{next(_numbers)}"
    conninfo = make_conninfo(server.conninfo(), dbname=name)
    with psycopg.connect(server.superuser_conninfo(), autocommit=True) as root:
        root.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(server.user))
        )
        with psycopg.connect(conninfo) as opened:
            migrate(opened)
            opened.commit()
            ensure_partitions(opened, now=NOW, keep=timedelta(days=2), ahead_days=2)
        with Actors(conninfo) as actors, connect(conninfo, name="test", autocommit=True) as db:
            remember(db)
            prepare(conninfo)
            yield World(actors, db)
        root.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def faults() -> Iterator[Faults]:
    made = Faults()
    yield made
    made.report()


@pytest.mark.slow
@pytest.mark.parametrize("rounds", times(1, 5))
@pytest.mark.parametrize(("run", "point"), CASES, ids=[f"{run}-{point}" for run, point in CASES])
def test_a_run_is_killed(
    world: World, faults: Faults, tmp_path: Path, run: Run, point: RunPoint, rounds: int
) -> None:
    """Nothing of what it was doing is there, its locks are free, and the next run does its work.

    A kill of the second hour leaves the first one done, wholly: a backfill goes on behind it.
    """
    for number in range(rounds):
        passage = 1 + number % 2 if rounds > 1 else faults.rng.choice([1, 2])
        _one(world, faults, tmp_path / "run.log", run, point, passage)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", times(1, 5))
def test_after_all_kills_every_state_is_that_of_a_recompute(world: World, rounds: int) -> None:
    check_settled(world.db, world.conninfo)
    check_books(world.conninfo)


def _one(world: World, faults: Faults, log: Path, run: Run, point: RunPoint, passage: int) -> None:
    world.fill()
    if run is not Run.MERGE:
        for hour in HOURS:
            world.db.execute(_BREAK, (hour, hour + timedelta(hours=1)))
    before = [_numbers_of(world.db, hour) for hour in HOURS]
    day = world.db.execute(_DAY).fetchall()
    what = f"{run} killed at {point}"
    faults.plan(what)
    if killed_at(point, passage, run, world.conninfo, HOURS, log):
        faults.fired(what)
    check_idle(world.db)
    done, left = HOURS[: passage - 1], HOURS[passage - 1 :]
    for hour, found in zip(HOURS, before, strict=True):
        if hour in left:
            assert _numbers_of(world.db, hour) == found, f"a run that was {what} has changed {hour}"
    if run is Run.MERGE:
        check_truth(world.db)
    elif not done:
        assert world.db.execute(_DAY).fetchall() == day, f"a run that was {what} has changed the day"
    if run is Run.BACKFILL:
        assert backfill.plan(world.db, HOURS).hours == left
        assert carry_out(run, world.conninfo, HOURS) == len(left)
        assert backfill.plan(world.db, HOURS).done == 0
    else:
        assert carry_out(run, world.conninfo, left) == len(left)
    world.check()


def _numbers_of(connection: Connection, hour: datetime) -> list[Any]:
    """All that is served of an hour, and all that is stored of it."""
    span = {"first": hour, "end": hour + timedelta(hours=1)}
    return [connection.execute(query, span).fetchall() for query in (_SERVED, _STATES, _REGISTERED)]
