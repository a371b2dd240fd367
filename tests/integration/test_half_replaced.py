"""A reader who asks all the time never sees a bucket that is half replaced.

Merges, recomputes, a backfill that ends and retention run while somebody reads between each two of their statements:
the total is always the sum of its groups, and both are what was true before or what is true afterwards.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN, Catalog
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import backfill, metric_versions
from analytics_pipeline.storage.recompute import recompute_hour
from tests.integration.polling import Poller, Seen, looking_between_statements
from tests.integration.rollup_actors import DAY, HOUR, NEXT, OLD, OLD_DAY
from tests.integration.rollup_worlds import Shared, World, copied, prepared
from tests.integration.stepping import Doing, Steps

_BREAK = """
UPDATE metric_aggregations SET count = 2 * count, sum_exact = 2 * sum_exact, sum = 2 * sum
WHERE time_bucket >= %s AND time_bucket < %s OR interval = '1d' AND time_bucket = %s
"""
_VOLUME = "trading.total_volume"
_EDITED = replace(BUILT_IN.by_name[_VOLUME], value="quantity")
_NEXT_RELEASE = Catalog(tuple(_EDITED if one.name == _VOLUME else one for one in BUILT_IN.metrics))


@pytest.fixture(scope="module")
def template(postgres: Postgres, template_database: str) -> Iterator[str]:
    with prepared(postgres, template_database) as name:
        yield name


@pytest.fixture(scope="module")
def shared(postgres: Postgres, template: str) -> Iterator[Shared]:
    made = Shared(postgres, template)
    yield made
    made.close()


@pytest.fixture
def world(shared: Shared) -> Iterator[World]:
    """Something is pending for both hours of the day."""
    with shared.borrowed(Steps()) as found:
        found.fill()
        yield found


def watched(world: World, day: datetime, do: Callable[[], Any]) -> Poller:
    with (
        Poller(world.conninfo, day, catalog=BUILT_IN) as poller,
        looking_between_statements(poller, "writer"),
    ):
        writing = Doing("writer", do, limit=60)
        assert writing.result() is not None
    return poller


def changed(poller: Poller) -> dict[tuple[str, ...], list[Seen]]:
    return {key: seen for key, seen in poller.changes.items() if len(seen) > 1}


def test_a_merge_changes_nothing_for_a_reader(world: World) -> None:
    poller = watched(world, DAY, lambda: world.actors.merge("writer", HOUR))
    assert {key[0] for key in poller.changes} == {*LEVELS, "api"}
    assert changed(poller) == {}
    world.check()


@pytest.mark.slow
@pytest.mark.parametrize("names", [None, [_VOLUME, "events.count"]], ids=["all metrics", "some"])
def test_a_recompute_replaces_all_levels_at_once(world: World, names: list[str] | None) -> None:
    """What it mends was doubled by hand: each bucket is doubled, or right, and never anything between."""
    world.db.execute(_BREAK, (HOUR, HOUR + timedelta(hours=1), DAY))
    ids = backfill.ids_of(names or [], BUILT_IN)
    poller = watched(
        world, DAY, lambda: recompute_hour(world.conninfo, HOUR, run_id="writer", metric_ids=ids)
    )
    found = changed(poller)
    assert {key[0] for key in found} == {*LEVELS, "api"}
    assert {len(seen) for seen in found.values()} == {2}, "a reader saw something between before and after"
    if names is None:
        world.check()
    else:
        recompute_hour(world.conninfo, HOUR, run_id="rest")
        world.check()


@pytest.mark.slow
def test_a_backfill_of_an_edited_metric_switches_all_buckets_at_once(world: World) -> None:
    metric_versions.register(world.db, BUILT_IN.metrics)
    assert metric_versions.register(world.db, _NEXT_RELEASE.metrics) == [_VOLUME]
    hours = [DAY, HOUR, NEXT]  # there is nothing in those between
    available = "UPDATE metric_versions SET available_from = %s WHERE metric_id = %s"
    world.db.execute(available, (hours[-1] + timedelta(hours=1), _EDITED.metric_id))
    planned = backfill.plan(world.db, hours, catalog=_NEXT_RELEASE, metric_ids=[_EDITED.metric_id])
    names: list[str] = []
    with world.actors.connected("writer") as opened:
        doing = backfill.carry_out(
            opened,
            world.conninfo,
            planned,
            run_id="writer",
            before_hour=lambda: None,
            switched=lambda found, _first: names.extend(found),
        )
        for _ in hours[:-1]:
            next(doing)
        poller = watched(world, DAY, lambda: list(doing))
    assert names == [_VOLUME]
    found = changed(poller)
    assert {key[0] for key in found} == {*LEVELS, "api"}
    assert {_VOLUME} == {key[1] if key[0] == "api" else key[2] for key in found}
    assert {len(seen) for seen in found.values()} == {2}, "a reader saw something between before and after"


@pytest.mark.slow
@pytest.mark.parametrize("by", ["asset", "cleanup_old_data"])
def test_retention_changes_no_bucket_of_the_day_it_takes(postgres: Postgres, template: str, by: str) -> None:
    """Its raw events go, and its last deltas settle."""
    with copied(postgres, template) as world:
        if by == "cleanup_old_data":  # it leaves a day alone that has pending deltas
            world.actors.merge("setup", OLD)
        retain = world.actors.retain if by == "asset" else world.actors.cleanup
        poller = watched(world, OLD_DAY, lambda: retain("writer"))
        assert {key[0] for key in poller.changes} == {*LEVELS, "api"}
        assert changed(poller) == {}
        left = world.db.execute("SELECT count(*) FROM events WHERE timestamp < %s", (DAY,)).fetchone()
        assert left == (0,)
