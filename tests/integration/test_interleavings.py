"""Merge, recompute, landing, finalizing and backfill, stepped two and three at a time.

Each case stops one of them at a named moment, lets another go as far as it can, and then lets the first commit or ends
its server process. After each, settled plus pending is what plain SQL over the raw events says, at every level.
"""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from analytics_pipeline import failpoints
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.failpoints import FailPoint, Point, RunPoint
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage import backfill, landing
from tests.integration.landing_rig import check_books
from tests.integration.rollup_actors import HOUR, NEXT, NOW, Actors, sent
from tests.integration.rollup_truth import check_settled, check_truth
from tests.integration.rollup_worlds import Shared, World, prepared
from tests.integration.stepping import Doing, Steps, blockers, wait_until_blocked


@pytest.fixture(scope="module")
def shared(postgres: Postgres, template_database: str) -> Iterator[Shared]:
    with prepared(postgres, template_database) as template:
        made = Shared(postgres, template)
        yield made
        made.close()


@pytest.fixture
def world(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(landing, "_TIMEOUT", "60s")  # a held one is not ended on a busy machine
    steps = Steps()
    monkeypatch.setattr(failpoints, "_armed", steps)
    with shared.borrowed(steps) as found:
        found.fill()
        yield found


Act = Callable[[Actors], Any]
HELD: dict[str, tuple[str, Act]] = {
    "merge": ("first", lambda actors: actors.merge("first", HOUR)),
    "recompute": ("recompute", lambda actors: actors.recompute(HOUR)),
    "preview": ("recompute", lambda actors: actors.recompute(HOUR, write=False)),
}
"""Those that are stopped: the name of the connection that holds their locks, and what they do."""
OTHERS: dict[str, tuple[str, Act]] = {
    "merge": ("second", lambda actors: actors.merge("second", HOUR)),
    "merge of the next hour": ("second", lambda actors: actors.merge("second", NEXT)),
    "recompute": ("recompute", lambda actors: actors.recompute(HOUR)),
    "recompute of the next hour": ("recompute", lambda actors: actors.recompute(NEXT)),
    "preview": ("recompute", lambda actors: actors.recompute(HOUR, write=False)),
    "landing": ("landing-second", lambda actors: actors.land("second", sent(HOUR, 21))),
    "inbox": ("landing-second", lambda actors: actors.land_inbox("second")),
    "finalize": ("second", lambda actors: actors.finalize("second")),
    "backfill": ("recompute", lambda actors: actors.backfill("second", [HOUR, NEXT])),
}
MOMENTS: dict[str, tuple[Point, ...]] = {
    "merge": (RunPoint.DELTAS_TAKEN, RunPoint.LEVELS_WRITTEN),
    "recompute": (
        RunPoint.HOUR_LOCKED,
        RunPoint.SNAPSHOT_TAKEN,
        RunPoint.SNAPSHOT_READ,
        RunPoint.ROWS_REPLACED,
    ),
    "preview": (RunPoint.SNAPSHOT_TAKEN,),
}
HOLDS_DAY: set[Point] = {RunPoint.DELTAS_TAKEN, RunPoint.LEVELS_WRITTEN, RunPoint.ROWS_REPLACED}
NEEDS_HOUR = {"recompute", "preview", "backfill"}
NEEDS_DAY = {"merge of the next hour", "recompute of the next hour"}
STOPPED = [(held, moment) for held, moments in MOMENTS.items() for moment in moments]
AT_SOME = {
    "merge": {RunPoint.DELTAS_TAKEN, RunPoint.HOUR_LOCKED, RunPoint.SNAPSHOT_TAKEN, RunPoint.ROWS_REPLACED},
    "merge of the next hour": {*HOLDS_DAY, RunPoint.SNAPSHOT_READ},
    "landing": {
        RunPoint.LEVELS_WRITTEN,
        RunPoint.HOUR_LOCKED,
        RunPoint.SNAPSHOT_TAKEN,
        RunPoint.ROWS_REPLACED,
    },
    "inbox": {RunPoint.DELTAS_TAKEN, RunPoint.SNAPSHOT_READ, RunPoint.ROWS_REPLACED},
    "finalize": {RunPoint.LEVELS_WRITTEN, RunPoint.SNAPSHOT_READ, RunPoint.ROWS_REPLACED},
    "recompute": {RunPoint.LEVELS_WRITTEN, RunPoint.SNAPSHOT_READ, RunPoint.ROWS_REPLACED},
    "recompute of the next hour": {RunPoint.LEVELS_WRITTEN, RunPoint.SNAPSHOT_READ, RunPoint.ROWS_REPLACED},
    "preview": {RunPoint.LEVELS_WRITTEN, RunPoint.ROWS_REPLACED},
    "backfill": {RunPoint.DELTAS_TAKEN},
}
"""What holds or has written the same differs little from one moment to the next: each is tried at some moments."""
CASES = [
    pytest.param(held, moment, other, id=f"{held} at {moment}, {other}")
    for held, moment in STOPPED
    for other in OTHERS
    if moment in AT_SOME[other]
]


@pytest.mark.slow
@pytest.mark.parametrize(("held", "moment", "other"), CASES)
def test_one_stops_and_another_goes_on(world: World, held: str, moment: Point, other: str) -> None:
    """Waiting is only for the hour, or for the day, whose row both write; landings and finalizing wait for nothing."""
    if other == "inbox":
        world.actors.post(sent(HOUR, world.seed + 1000, 8))
    role, do = HELD[held]
    world.steps.hold("held", moment)
    first = Doing("held", lambda: do(world.actors))
    world.steps.wait_at("held", moment)
    waiting, act = OTHERS[other]
    second = Doing("other", lambda: act(world.actors))
    if other in NEEDS_HOUR or (other in NEEDS_DAY and moment in HOLDS_DAY):
        wait_until_blocked(world.conninfo, waiting)
        assert blockers(world.conninfo, waiting) == {role}
    elif other == "merge":
        assert second.result() is None, "a live merge leaves a busy hour alone"
    else:
        assert second.result() is not None
        check_truth(world.db)
    world.steps.release("held", moment)
    assert first.result() is not None
    second.result()
    world.check()


@pytest.mark.parametrize(("held", "moment"), STOPPED)
def test_one_dies_and_another_does_its_work(world: World, held: str, moment: Point) -> None:
    """Its server process is ended where it stands: nothing of it remains, and the next merge takes what it held."""
    role, do = HELD[held]
    other = "merge of the next hour"
    world.steps.hold("held", moment)
    first = Doing("held", lambda: do(world.actors))
    world.steps.wait_at("held", moment)
    waiting, act = OTHERS[other]
    second = Doing("other", lambda: act(world.actors))
    if moment in HOLDS_DAY:
        wait_until_blocked(world.conninfo, waiting)
    world.db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
        (f"analytics-{role}",),
    )
    second.result()
    world.steps.release("held", moment)
    with pytest.raises((psycopg.Error, EnvironmentFault)):
        first.result()
    world.check()
    merged = world.actors.merge("second", HOUR)
    assert merged is not None
    assert merged.events >= 8
    world.check()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["merge", "recompute", "finalize"])
@pytest.mark.parametrize("source", ["landing", "inbox"])
def test_a_landing_stops_before_its_commit(world: World, source: str, other: str) -> None:
    """What it writes is nobody's yet: it stays pending beside whatever is settled meanwhile."""
    if source == "inbox":
        world.actors.post(sent(HOUR, world.seed + 1000, 8))
    world.steps.hold("held", FailPoint.AFTER_DELTAS)
    landing_one = OTHERS[source][1]
    first = Doing("held", lambda: landing_one(world.actors))
    world.steps.wait_at("held", FailPoint.AFTER_DELTAS)
    assert Doing("other", lambda: OTHERS[other][1](world.actors)).result() is not None
    check_truth(world.db)
    world.steps.release("held", FailPoint.AFTER_DELTAS)
    assert first.result().lines[0].read > 0
    world.check()


@pytest.mark.slow
@pytest.mark.parametrize("held", ["merge", "recompute"])
def test_finalizing_leaves_what_is_being_changed_to_the_next_run(world: World, held: str) -> None:
    """It locks many buckets, in whatever order they are found: if it waited for one, a deadlock could follow.

    All of the day, whose version it has to raise, and which the other is raising.
    """
    actors, moment = world.actors, MOMENTS[held][-1]
    world.db.execute("UPDATE metric_buckets SET state = 'open'")
    world.db.execute("ANALYZE metric_buckets")  # of few rows: they are found as they lie
    actors.merge("second", HOUR)
    actors.land("setup", sent(HOUR, world.seed + 2000, 3))
    world.steps.hold("held", moment)
    first = Doing("held", lambda: HELD[held][1](actors))
    world.steps.wait_at("held", moment)
    assert actors.finalize("second", NOW) == 0
    world.steps.release("held", moment)
    first.result()
    unsettled = "SELECT count(*) FROM metric_buckets WHERE state IN ('open', 'settling')"
    assert world.db.execute(unsettled).fetchone() != (0,)
    actors.merge("second", NEXT)
    assert actors.finalize("second", NOW) > 0
    world.check()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["merge", "recompute"])
def test_what_becomes_final_meanwhile_is_restated(world: World, other: str) -> None:
    """A change that waits for a bucket's state sees that it is final by then, and feeds what it changes."""
    actors = world.actors
    actors.merge("second", HOUR)
    actors.land("setup", sent(HOUR, world.seed + 2000, 3))
    world.db.execute("UPDATE metric_buckets SET state = 'open'")
    with psycopg.connect(world.conninfo, application_name="analytics-finalize") as finalizing:
        finalizing.execute("UPDATE metric_buckets SET state = 'final' WHERE interval = '1h'")
        role, act = OTHERS[other]
        changing = Doing("other", lambda: act(actors))
        wait_until_blocked(world.conninfo, role)
        assert blockers(world.conninfo, role) == {"finalize"}
        finalizing.commit()
    assert changing.result() is not None
    state = "SELECT state FROM metric_buckets WHERE interval = '1h' AND time_bucket = %s"
    assert world.db.execute(state, (HOUR,)).fetchone() == ("restated",)
    world.check()


@pytest.mark.slow
def test_two_backfills_of_the_same_hours(world: World) -> None:
    actors = world.actors
    world.steps.hold("held", RunPoint.SNAPSHOT_READ)
    first = Doing("held", lambda: actors.backfill("first", [HOUR, NEXT]))
    world.steps.wait_at("held", RunPoint.SNAPSHOT_READ)
    second = Doing("other", lambda: actors.backfill("second", [HOUR, NEXT]))
    wait_until_blocked(world.conninfo, "recompute")
    world.steps.release("held", RunPoint.SNAPSHOT_READ)
    assert first.result() == 2
    assert second.result() == 2
    assert backfill.plan(world.db, [HOUR, NEXT]).done == 0
    world.check()


@pytest.mark.slow
def test_three_at_once_and_a_landing(world: World) -> None:
    """A recompute waits for the day that a merge holds; another merge and another recompute queue behind both."""
    actors = world.actors
    world.steps.hold("merge", RunPoint.LEVELS_WRITTEN)
    merge = Doing("merge", lambda: actors.merge("first", NEXT))
    world.steps.wait_at("merge", RunPoint.LEVELS_WRITTEN)
    recompute = Doing("recompute", lambda: actors.recompute(HOUR))
    wait_until_blocked(world.conninfo, "recompute")
    landed = actors.land("second", [*sent(HOUR, world.seed + 2000, 5), *sent(NEXT, world.seed + 3000, 5)])
    assert landed.lines[0].stored == 10
    assert actors.merge("second", HOUR) is None
    preview = Doing("preview", lambda: actors.recompute(NEXT, write=False))
    check_truth(world.db)
    world.steps.release("merge", RunPoint.LEVELS_WRITTEN)
    for each in (merge, recompute, preview):
        assert each.result() is not None
    world.check()


@pytest.mark.slow
def test_after_all_of_them_every_state_is_that_of_a_recompute(world: World) -> None:
    check_settled(world.db, world.conninfo)
    check_books(world.conninfo)
    world.check()
