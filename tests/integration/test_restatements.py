"""The feed of restatements: what changed after it was final, why, and in the same transaction."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import buckets, recompute, rollups
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.restatements import Restatement, restatements
from tests.integration.rollup_data import land
from tests.unit.rollups.events import SCHEMA, batch

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
HOUR = DAY + timedelta(hours=10)
BUCKETS = {level: DAY if level == "1d" else HOUR for level in LEVELS}


@pytest.fixture
def final(connection: Connection) -> Connection:
    """100 events in the first minute of an hour, final at all five levels."""
    land(connection, batch(100, seed=1, start=HOUR, minutes=1), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    finalize(connection)
    return connection


def finalize(connection: Connection) -> None:
    assert (
        buckets.finalize_buckets(
            connection, now=datetime.now(UTC), graces=dict.fromkeys(LEVELS, timedelta(0)), run_id="run"
        )
        >= 5
    )


def states(connection: Connection) -> dict[tuple[str, datetime], tuple[str, int]]:
    found = connection.execute("SELECT interval, time_bucket, state, revision FROM metric_buckets")
    return {(level, at): (state, revision) for level, at, state, revision in found}


def counts(found: list[Restatement]) -> dict[str, tuple[int | None, int | None]]:
    return {one.interval: (one.old_count, one.new_count) for one in found}


def fill(latency: float, minute: int = 0) -> pa.Table:
    """One event more, an order filled after so many ms."""
    one = {
        "id": bytes(15) + bytes([minute]),
        "event_type": "order.filled",
        "properties": f'{{"price": 10, "quantity": 2.5, "latency_ms": {latency}}}',
        "timestamp": HOUR + timedelta(minutes=minute, seconds=1),
        "is_late": True,
    }
    return pa.Table.from_pylist([one], SCHEMA)


def test_nothing_is_fed_before_a_bucket_is_final(connection):
    for number in range(2):
        land(connection, batch(50, seed=number, start=HOUR, minutes=1), number)
        rollups.merge_hour(connection, HOUR, run_id="run")
    assert restatements(connection) == []


def test_a_late_event_is_fed_at_every_level_with_old_and_new_values(final):
    before = datetime.now(UTC) - timedelta(seconds=1)
    land(final, fill(latency=5000), 2)
    rollups.merge_hour(final, HOUR, run_id="late-run")
    found = restatements(final, metric_name="events.count")
    assert counts(found) == dict.fromkeys(LEVELS, (100, 101))
    assert {one.interval: one.time_bucket for one in found} == BUCKETS
    assert {(one.reason, one.run_id, one.revision) for one in found} == {("late", "late-run", 2)}
    assert all(before < one.restated_at <= datetime.now(UTC) for one in found)
    [volume] = restatements(final, metric_name="trading.total_volume", interval="1h")
    assert volume.new_sum - volume.old_sum == 25
    [latency] = restatements(final, metric_name="trading.order_latency", interval="1h")
    assert latency.old_max < latency.new_max == 5000
    assert latency.old_p50 <= latency.new_p50 <= latency.new_p95 <= latency.new_p99
    assert restatements(final, metric_name="trading.orders_placed") == []
    assert {state for state, _ in states(final).values()} == {"restated"}


def test_a_total_that_was_not_there_has_no_old_values(connection):
    logins = batch(40, seed=3, start=HOUR, minutes=1)
    land(connection, logins.filter(pa.compute.equal(logins["event_type"], "user.login")), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    finalize(connection)
    land(connection, fill(latency=1), 2)
    rollups.merge_hour(connection, HOUR, run_id="run")
    [filled] = restatements(connection, metric_name="trading.orders_filled", interval="1m")
    assert (filled.old_count, filled.new_count) == (None, 1)


def test_a_merge_that_fails_feeds_nothing(final, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("stopped before COMMIT")

    land(final, fill(latency=1), 2)
    monkeypatch.setattr(rollups, "bump_days", fail)
    with pytest.raises(RuntimeError):
        rollups.merge_hour(final, HOUR, run_id="run")
    assert restatements(final) == []


def test_a_recompute_that_finds_the_same_restates_nothing(final, database):
    before = states(final)
    recompute.recompute_hour(database, HOUR, run_id="backfill")
    assert restatements(final) == []
    assert states(final) == before


def test_a_recompute_feeds_only_the_buckets_that_change(connection, database):
    land(connection, batch(300, seed=1, start=HOUR, minutes=3), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    finalize(connection)
    second = HOUR + timedelta(minutes=1)
    connection.execute(
        "UPDATE metric_aggregations SET count = count + 7 WHERE metric_name = 'events.count'"
        " AND dimension_set = '' AND interval = '1m' AND time_bucket = %s",
        (second,),
    )
    recompute.recompute_hour(database, HOUR, run_id="repair")
    [one] = restatements(connection)
    assert (one.interval, one.time_bucket, one.reason, one.run_id, one.revision) == (
        "1m", second, "backfill", "repair", 2,
    )  # fmt: skip
    assert one.old_count - one.new_count == 7
    assert states(connection)["1m", second] == ("restated", 2)
    assert {state for at, state in states(connection).items() if at != ("1m", second)} == {("final", 1)}


def test_a_recompute_that_settles_late_events_calls_them_late(final, database):
    land(final, fill(latency=1), 2)
    result = recompute.recompute_hour(database, HOUR, run_id="backfill")
    assert result.differences == []
    found = restatements(final, metric_name="events.count")
    assert counts(found) == dict.fromkeys(LEVELS, (100, 101))
    assert {one.reason for one in found} == {"late"}
    assert set(states(final).values()) == {("restated", 2)}


def test_a_recompute_of_one_metric_restates_its_buckets_and_leaves_the_register_alone(final, database):
    from analytics_pipeline.rollups.catalog import BUILT_IN

    register = "SELECT event_count, late_count, set_hash FROM metric_buckets ORDER BY interval, time_bucket"
    before = final.execute(register).fetchall()
    final.execute("UPDATE metric_aggregations SET count = count + 1 WHERE dimension_set = ''")
    placed = BUILT_IN.by_name["trading.orders_placed"]
    recompute.recompute_hour(database, HOUR, run_id="backfill", metric_ids=[placed.metric_id])
    found = restatements(final)
    assert {one.metric_name for one in found} == {"trading.orders_placed"}
    assert counts(found).keys() == set(LEVELS)
    assert all(one.old_count - one.new_count == 1 for one in found)
    assert final.execute(register).fetchall() == before


@pytest.mark.slow
def test_a_bucket_whose_events_are_gone_is_restated_to_nothing(final, database):
    final.execute("DELETE FROM events")
    recompute.recompute_hour(database, HOUR, run_id="backfill")
    assert counts(restatements(final, metric_name="events.count")) == dict.fromkeys(LEVELS, (100, None))
    assert set(states(final).values()) == {("restated", 2)}


def test_the_feed_is_listed_by_bucket_and_time_of_change_and_in_pages(final):
    for number in (2, 3):
        land(final, fill(latency=1, minute=number), number)
        rollups.merge_hour(final, HOUR, run_id=f"run-{number}")
    everything = restatements(final, limit=1000)
    assert [one.id for one in everything] == sorted((one.id for one in everything), reverse=True)
    pages = restatements(final, limit=5)
    while page := restatements(final, limit=5, before=pages[-1].id):
        pages += page
    assert pages == everything
    hours = [one for one in everything if one.interval == "1h" and one.metric_name == "events.count"]
    assert [(one.old_count, one.new_count) for one in hours] == [(101, 102), (100, 101)]
    chosen = {"metric_name": "events.count", "interval": "1h"}
    assert restatements(final, **chosen, since=hours[0].restated_at) == hours[:1]
    assert restatements(final, **chosen, until=hours[0].restated_at) == hours[1:]
    assert restatements(final, **chosen, start=HOUR, end=HOUR + timedelta(hours=1)) == hours
    assert restatements(final, **chosen, end=HOUR) == []
