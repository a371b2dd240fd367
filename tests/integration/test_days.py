"""1d is the hours of the day added up: a difference is found, and a backfill of some hours says what it changes."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID
from analytics_pipeline.rollups.compare import Difference
from analytics_pipeline.storage import backfill, rollups
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.days import compare_day
from analytics_pipeline.storage.recompute import RecomputeResult
from tests.integration.rollup_data import land, live
from tests.unit.rollups.events import batch

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
HOURS = [DAY + timedelta(hours=number) for number in range(24)]
FULL = (HOURS[0], HOURS[11], HOURS[23])
EVENTS = 40
ONE_MORE = (
    "UPDATE metric_aggregations SET count = count + 1"
    " WHERE metric_name = 'events.count' AND dimension_set = '' AND interval = '{}'"
)


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    """Events in the first, a middle and the last hour of a day; all merged, but for a batch of the middle one."""
    with connect(database, name="test", autocommit=True) as connection:
        for number, hour in enumerate(FULL):
            land(connection, batch(EVENTS, seed=number, start=hour), number + 1)
            rollups.merge_hour(connection, hour, run_id="run")
        land(connection, batch(EVENTS, seed=9, start=FULL[1]), 9)
        yield connection


def compared(database: str) -> RecomputeResult:
    return compare_day(database, DAY, catalog=BUILT_IN, metric_ids=[*BUILT_IN.by_id, REGISTER_ID])


def backfilled(
    database: str,
    hours: list[datetime],
    *,
    write: bool = False,
    before_hour: Callable[[], None] = lambda: None,
) -> list[Difference]:
    """What a backfill says of 1d."""
    with connect(database, name="test", autocommit=True) as connection:
        planned = backfill.plan(connection, hours)
    results = backfill.recompute(database, planned, run_id="b", before_hour=before_hour, write=write)
    return [one for result in results for one in result.differences if one.interval == "1d"]


def test_a_day_is_its_hours_added_up_while_some_of_it_is_pending(db, database):
    found = compared(database)
    assert (found.differences, found.buckets) == ([], {"1d": 1})
    assert found.rows["1d"] > len(BUILT_IN.metrics)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        ONE_MORE.format("1d"),
        ONE_MORE.format("1h"),
        "UPDATE metric_aggregations SET max = max + 1 WHERE interval = '1d'",
        "DELETE FROM metric_states WHERE interval = '1d'",
        "UPDATE metric_buckets SET set_hash = set_hash + 1 WHERE interval = '1d'",
        f"DELETE FROM metric_aggregations WHERE interval = '1h' AND time_bucket = '{FULL[2]}'",
    ],
)
def test_a_day_that_is_not_its_hours_is_found_and_mended(db, database, damage):
    truth = live(db)
    db.execute(damage)
    assert {one.interval for one in compared(database).differences} == {"1d"}
    backfilled(database, HOURS, write=True)
    assert compared(database).differences == []
    assert live(db) == truth


@pytest.mark.slow
def test_a_day_whose_hours_are_gone_has_nothing_to_be_compared_with(db, database):
    db.execute(ONE_MORE.format("1d"))
    [partition] = db.execute(
        "SELECT partition FROM time_partitions"
        " WHERE parent = 'metric_aggregations_1h' AND lower_bound <= %(day)s AND upper_bound > %(day)s",
        {"day": DAY},
    ).fetchone()
    db.execute(f"DROP TABLE {partition}")
    assert compared(database).differences == []


@pytest.mark.slow
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("hours", [HOURS, HOURS[11:12], HOURS[11:]])
def test_a_backfill_of_any_hours_says_what_it_changes_of_their_day(db, database, hours, write):
    wrong = sum(hour in hours for hour in FULL)
    db.execute(ONE_MORE.format("1h"))
    db.execute(ONE_MORE.replace("count + 1", "count + 3").format("1d"))  # as its hours are
    [total] = backfilled(database, hours, write=write)
    assert (total.metric_name, total.dimensions, total.time_bucket) == ("events.count", "{}", DAY)
    assert (total.value_before, total.value_after) == (4 * EVENTS + 3, 4 * EVENTS + 3 - wrong)


def test_a_day_that_alone_is_wrong_shows_what_is_served_of_it(db, database):
    db.execute(ONE_MORE.format("1d"))
    [total] = backfilled(database, HOURS[3:4])
    assert (total.value_before, total.value_after) == (4 * EVENTS + 1, 4 * EVENTS)


@pytest.mark.slow
def test_hours_that_are_wrong_below_a_right_day_are_no_difference_of_it(db, database):
    db.execute(ONE_MORE.format("1h"))
    assert backfilled(database, HOURS) == []


@pytest.mark.slow
def test_what_lands_and_is_merged_meanwhile_is_no_difference(db, database):
    seeds = iter(range(100, 200))

    def meanwhile() -> None:
        for hour in FULL:
            seed = next(seeds)
            land(db, batch(3, seed=seed, start=hour), seed)
            if seed % 2:
                rollups.merge_hour(db, hour, run_id="run")

    assert backfilled(database, HOURS, before_hour=meanwhile) == []
