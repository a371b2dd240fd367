"""Retention stepped against landings, merges, recomputes, readers and itself, at every moment of a removal.

Rollups must be those of all that ever landed, and what is refused as too old must be counted as that.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from analytics_pipeline import failpoints
from analytics_pipeline.errors import ConfigurationError, EnvironmentFault
from analytics_pipeline.failpoints import FailPoint, Point, RunPoint
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage import landing
from analytics_pipeline.storage.patience import Held
from tests.integration.rollup_actors import HOUR, NEXT, OLD, OLD_DAY, TODAY, Actors, sent
from tests.integration.rollup_truth import check_truth
from tests.integration.rollup_worlds import World, copied, prepared
from tests.integration.stepping import Doing, Steps, blockers, wait_until_blocked
from tests.waiting import wait_for

PARTITION = f"events_p{OLD_DAY:%Y%m%d}"
GONE = [(PARTITION, "dropped")]


@pytest.fixture(scope="module")
def template(postgres: Postgres, template_database: str) -> Iterator[str]:
    with prepared(postgres, template_database) as name:
        yield name


@pytest.fixture
def world(postgres: Postgres, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """One of its own: a day that is gone does not come back."""
    monkeypatch.setattr(landing, "_TIMEOUT", "60s")  # a held one is not ended on a busy machine
    steps = Steps()
    monkeypatch.setattr(failpoints, "_armed", steps)
    with copied(postgres, template) as found:
        found.steps = steps
        yield found
        steps.release_all()


Act = Callable[[Actors], Any]
ACTS: dict[str, Act] = {
    "merge": lambda actors: actors.merge("held", OLD),
    "recompute": lambda actors: actors.recompute(OLD),
    "recompute of what is merged": lambda actors: actors.recompute(OLD),
    "landing": lambda actors: actors.land("held", sent(OLD, 71, 9)),
    "inbox": lambda actors: actors.land_inbox("held"),
}
PENDING = "it has pending deltas: merge them first"
BUSY = "one of its hours is being merged or recomputed"
FLOOR = "landings hold the floor lock: try again"
FIRST: list[tuple[str, Point, str]] = [
    ("merge", RunPoint.DELTAS_TAKEN, PENDING),
    ("merge", RunPoint.LEVELS_WRITTEN, PENDING),
    ("recompute", RunPoint.HOUR_LOCKED, PENDING),
    ("recompute", RunPoint.SNAPSHOT_TAKEN, PENDING),
    ("recompute", RunPoint.SNAPSHOT_READ, PENDING),
    ("recompute", RunPoint.ROWS_REPLACED, PENDING),
    ("recompute of what is merged", RunPoint.HOUR_LOCKED, BUSY),
    ("recompute of what is merged", RunPoint.SNAPSHOT_READ, BUSY),
    ("landing", FailPoint.AFTER_COPY, FLOOR),
    ("landing", FailPoint.BEFORE_COMMIT, FLOOR),
    ("inbox", FailPoint.AFTER_DELTAS, FLOOR),
]


def is_attached(world: World) -> bool:
    found = world.db.execute("SELECT count(*) FROM time_partitions WHERE partition = %s", (PARTITION,))
    return found.fetchone() == (1,)


def is_at(world: World, state: str) -> bool:
    found = world.db.execute("SELECT state FROM retention_removals WHERE partition = %s", (PARTITION,))
    return found.fetchone() == (state,)


@pytest.mark.slow
@pytest.mark.parametrize(("who", "moment", "reason"), FIRST, ids=[f"{who} at {at}" for who, at, _ in FIRST])
def test_retention_comes_while_another_is_at_work(world: World, who: str, moment: Point, reason: str) -> None:
    """It takes nothing away from who came first: the asset waits, plain SQL says why it does not."""
    actors = world.actors
    if who == "inbox":
        actors.post(sent(OLD, 72, 9))
    if who.endswith("merged"):
        actors.merge("second", OLD)
    world.steps.hold("held", moment)
    first = Doing("held", lambda: ACTS[who](actors))
    world.steps.wait_at("held", moment)
    told = {partition: (action, why) for partition, action, why in actors.cleanup("sql")}
    assert told[None if reason == FLOOR else PARTITION] == ("skipped", reason)
    removal = Doing("retention", lambda: actors.retain("retention"))
    if reason == FLOOR:
        landing_holds = {"landing-held"}  # it is waited for again and again
        wait_for(
            lambda: blockers(world.conninfo, "retention") == landing_holds, 20, "it waits for the landing"
        )
    else:
        wait_for(lambda: is_at(world, "planned" if reason == PENDING else "merged"), 20, "it has begun")
    check_truth(world.db)
    assert is_attached(world)
    assert not removal.has_ended
    world.steps.release("held", moment)
    assert first.result() is not None
    assert removal.result() == GONE
    world.check()
    assert world.db.execute("SELECT count(*) FROM rollup_deltas WHERE hour = %s", (OLD,)).fetchone() == (0,)


def too_old(actors: Actors, events: int = 6) -> None:
    [line] = actors.land("late", sent(OLD, 73, events)).lines
    assert (line.stored, line.dead) == (0, events)


def posted_too_old(actors: Actors) -> None:
    actors.post(sent(OLD, 74, 5))
    [line] = actors.land_inbox("late").lines
    assert (line.stored, line.dead) == (0, 5)


def landed(actors: Actors) -> None:
    [line] = actors.land("today", [*sent(HOUR, 75, 6), *sent(TODAY, 76, 6)]).lines
    assert line.stored == 12


def merged(hour: datetime) -> Act:
    return lambda actors: actors.merge("other", hour) is not None


def recomputed_yesterday(actors: Actors) -> None:
    assert actors.recompute(NEXT).events > 0


def refused(actors: Actors) -> None:
    with pytest.raises(ConfigurationError, match="no verified archive holds them"):
        actors.recompute(OLD)


def told_that_retention_works(actors: Actors) -> None:
    assert actors.cleanup("sql") == [(None, "skipped", "the retention asset is at work")]
    with pytest.raises(Held, match="another run"):
        actors.retain("second")


def read(actors: Actors) -> None:
    with psycopg.connect(actors.conninfo, autocommit=True) as reader:
        reader.execute("SET statement_timeout = '5s'")
        reader.execute("SELECT count(*) FROM events WHERE event_type = 'user.login'").fetchone()
        reader.execute("SELECT count(*) FROM metrics_live").fetchone()


OTHERS: dict[str, Act] = {
    "late landing": too_old,
    "late posts": posted_too_old,
    "landing of yesterday and today": landed,
    "reader": read,
    "merge of yesterday": merged(HOUR),
    "finalize": lambda actors: actors.finalize("other"),
    "retention again": told_that_retention_works,
}
"""They wait for retention at no moment."""
AT: list[Point] = [
    RunPoint.FLOOR_RAISED,
    RunPoint.PARTITION_PLANNED,
    RunPoint.LEVELS_WRITTEN,
    RunPoint.HOURS_FREEZING,
    RunPoint.DAY_FROZEN,
    RunPoint.PARTITION_DETACHING,
    RunPoint.TABLE_DETACHED,
    RunPoint.TABLE_DROPPED,
]
HOLDS_HOURS = {RunPoint.LEVELS_WRITTEN, RunPoint.HOURS_FREEZING}


@pytest.mark.slow
@pytest.mark.parametrize("moment", AT)
def test_others_come_while_retention_is_at_work(world: World, moment: Point) -> None:
    """Each goes on as if it were not there; only who wants the very hours that it holds waits, and is refused then."""
    actors = world.actors
    world.steps.hold("held", moment)
    removal = Doing("held", lambda: actors.retain("held"))
    world.steps.wait_at("held", moment)
    for name, act in OTHERS.items():
        other = Doing(name, lambda act=act: act(actors))
        assert other.result() is not False, name
        check_truth(world.db)
    if moment in HOLDS_HOURS:
        assert actors.merge("other", OLD) is None
        waiting = Doing("recompute", lambda: refused(actors))
        wait_until_blocked(world.conninfo, "recompute")
        assert blockers(world.conninfo, "recompute") == {"held"}
    else:
        waiting = Doing("recompute", lambda: refused(actors))
        waiting.result()
        recomputed_yesterday(actors)
    world.steps.release("held", moment)
    assert removal.result() == GONE
    waiting.result()
    world.check()
    assert actors.cleanup("sql") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [RunPoint.LEVELS_WRITTEN, RunPoint.HOURS_FREEZING, RunPoint.TABLE_DETACHED, RunPoint.TABLE_DROPPED],
)
def test_retention_dies_and_the_next_run_ends_its_work(world: World, moment: Point) -> None:
    """Its server process is ended where it stands; what was not committed is as if it had never been."""
    actors = world.actors
    world.steps.hold("held", moment)
    removal = Doing("held", lambda: actors.retain("held"))
    world.steps.wait_at("held", moment)
    too_old(actors)
    world.db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'analytics-held'"
    )
    world.steps.release("held", moment)
    with pytest.raises((psycopg.Error, EnvironmentFault)):
        removal.result()
    world.check()
    assert actors.retain("next") == GONE
    world.check()


def test_a_reader_of_the_day_delays_the_asset_and_nobody_else(world: World) -> None:
    actors = world.actors
    with psycopg.connect(world.conninfo, application_name="analytics-reader") as reader:
        count = "SELECT count(*) FROM events WHERE timestamp >= %s"
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seen = reader.execute(count, (OLD_DAY,)).fetchone()
        removal = Doing("retention", lambda: actors.retain("retention"))
        wait_until_blocked(world.conninfo, "retention")
        assert blockers(world.conninfo, "retention") == {"reader"}
        for name, act in OTHERS.items():
            assert Doing(name, lambda act=act: act(actors)).result() is not False, name
        refused(actors)
        assert reader.execute(count, (OLD_DAY,)).fetchone() == seen, "a snapshot keeps what it has seen"
    assert removal.result() == GONE
    world.check()
