"""A backfill passes hours in which there is nothing, and no hour in which anything is."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID
from analytics_pipeline.storage import backfill, rollups
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.empty_hours import empty_hours
from analytics_pipeline.storage.metric_versions import register
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.recompute import RecomputeResult
from tests.integration.rollup_data import land, live
from tests.unit.rollups.events import batch

NAME = "trading.total_volume"
METRIC = BUILT_IN.by_name[NAME]
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
HOUR = timedelta(hours=1)
BEFORE, AT, AFTER = (DAY + number * HOUR for number in (8, 9, 10))
MANY = 2_000


def nothing_in(database: str) -> dict[datetime, bool]:
    return dict(empty_hours(database, [BEFORE, AT, AFTER], [METRIC.metric_id]))


def test_an_hour_is_empty_where_nothing_is_and_its_day_too(database):
    assert nothing_in(database) == dict.fromkeys([BEFORE, AT, AFTER], True)


ROW = (
    "INSERT INTO metric_aggregations (metric_name, metric_id, interval, time_bucket, count, sum, sum_exact,"
    " dimensions, dimension_set) VALUES ('any', 'any', '{}', '{}', 1, 1, 1, '{{}}', '')"
)
LAST_MOMENT = AFTER - timedelta(microseconds=1)
SOMETHING = {
    "a raw event": "INSERT INTO events (id, event_type, properties, timestamp, source, source_partition,"
    f" source_offset) VALUES (gen_random_uuid(), 'page.view', '{{}}', '{LAST_MOMENT}', 's', 0, 0)",
    "a pending batch": f"INSERT INTO pending_batches VALUES ('{AT}', 1)",
    "a delta": "INSERT INTO rollup_deltas (hour, batch_id, minute, metric_id, metric_name, dimension_set, dimensions,"
    f" kind, count) VALUES ('{AT}', 1, '{AT}', 'any', 'any', '', '{{}}', 'value', 1)",
    "a row of a metric": ROW.format("1m", AT + 59 * timedelta(minutes=1)),
    "a state": "INSERT INTO metric_states (metric_id, interval, time_bucket, dimension_set, dimensions, kind, state)"
    f" VALUES ('any', '1h', '{AT}', '', '{{}}', 'value', '')",
    "a row of the register": "INSERT INTO metric_buckets (interval, time_bucket, event_count, late_count, set_hash,"
    f" run_id) VALUES ('15m', '{AT + 15 * timedelta(minutes=1)}', 0, 0, 0, 'run')",
    "a gap": f"INSERT INTO metric_gaps (metric_id, hour, batch_id) VALUES ('{METRIC.metric_id}', '{AT}', 1)",
}


@pytest.mark.parametrize("what", SOMETHING)
def test_anything_in_an_hour_makes_it_one_that_is_recomputed(database, connection, what):
    connection.execute(SOMETHING[what])
    assert nothing_in(database) == dict.fromkeys([BEFORE, AFTER], True)


def test_days_of_which_raw_events_are_going_or_gone_are_never_taken_for_empty(database, connection):
    connection.execute("UPDATE retention_state SET raw_floor = %s", (AFTER,))
    assert nothing_in(database) == {AFTER: True}
    connection.execute("INSERT INTO frozen_days (day) VALUES (%s)", (DAY.date(),))
    assert nothing_in(database) == {}


def test_a_day_that_has_something_at_1d_is_put_together_anew(database, connection):
    """Nothing of it is in any of its hours, so what stands there is wrong."""
    connection.execute(ROW.format("1d", DAY))
    assert nothing_in(database) == dict.fromkeys([BEFORE, AT, AFTER], False)
    connection.execute(
        "UPDATE metric_aggregations SET metric_id = %s, metric_name = %s", (METRIC.metric_id, NAME)
    )
    register(connection, BUILT_IN.metrics)
    done = backfilled(connection, database, [BEFORE, AT, AFTER])
    assert [each.is_empty for each in done] == [
        False,
        True,
        False,
    ]  # the last one tells what is different at 1d
    assert live(connection) == []


def backfilled(db: Connection, database: str, hours: list[datetime]) -> list[RecomputeResult]:
    planned = backfill.plan(db, hours, metric_ids=[METRIC.metric_id, REGISTER_ID])
    return list(backfill.carry_out(db, database, planned, run_id="b", before_hour=lambda: None))


@pytest.mark.slow
def test_only_hours_with_events_are_computed_and_all_are_noted(database, connection, monkeypatch):
    for number, hour in enumerate((BEFORE, AFTER)):
        land(connection, batch(40, seed=number, start=hour), number)
        rollups.merge_hour(connection, hour, run_id="run")
    truth = live(connection)
    connection.execute("UPDATE metric_aggregations SET count = count + 1 WHERE metric_name = %s", (NAME,))
    hours = [DAY + number * HOUR for number in range(24)]
    planned = backfill.plan(connection, hours, metric_ids=[METRIC.metric_id, REGISTER_ID])
    running = backfill.carry_out(connection, database, planned, run_id="b", before_hour=lambda: None)
    found = [result for result, _ in zip(running, hours[:-1], strict=False)]
    running.close()
    computed = {hour for hour, result in zip(hours, found, strict=False) if not result.is_empty}
    assert computed == {DAY, BEFORE, AFTER}  # the first puts the day together
    assert (
        backfill.plan(connection, hours, metric_ids=planned.metric_ids).hours
        == hours[hours.index(AFTER) + 1 :]
    )
    [*_, last] = backfilled(connection, database, hours)
    assert {one.interval for one in last.differences} <= {"1d"}
    assert live(connection) == truth
    assert connection.execute("SELECT count(*) FROM backfill_progress").fetchone() == (0,)


@pytest.mark.slow
def test_thousands_of_empty_hours_need_no_computation(database, connection, monkeypatch, capsys):
    first = DAY - MANY * HOUR
    ensure_range(connection, first, DAY)
    land(connection, batch(1, seed=1, start=DAY), 1)
    register(connection, BUILT_IN.metrics)
    switch = "UPDATE metric_versions SET available_from = %s WHERE metric_id = %s"
    connection.execute(switch, (DAY, METRIC.metric_id))

    def never(*_: object, **__: object) -> RecomputeResult:
        raise AssertionError("an empty hour was computed")

    monkeypatch.setattr(backfill, "recompute_hour", never)
    began = time.monotonic()
    results = backfilled(connection, database, backfill.whole_hours(first, DAY))
    seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"\n{MANY:,} empty hours: {seconds:.2f} s, {1000 * seconds / MANY:.2f} ms each")
    assert (len(results), {result.events for result in results}) == (MANY, {0})
    answers = "SELECT available_from FROM metric_versions WHERE metric_id = %s"
    assert connection.execute(answers, (METRIC.metric_id,)).fetchone() == (first,)
