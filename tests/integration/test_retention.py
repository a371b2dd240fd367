"""Removing expired partitions: by the asset's code, and by `SELECT cleanup_old_data();`."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import patience, removal, retention
from analytics_pipeline.storage.connection import Connection, Lock, connect
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.recompute import recompute_hour
from analytics_pipeline.storage.rollups import hour_key, merge_hour, pending_hours
from tests.integration.landed import Event, land
from tests.waiting import wait_for

DAY = timedelta(days=1)
KEEP = Retention(raw_events="3d")


@pytest.fixture
def db(database: str, now: datetime) -> Iterator[Connection]:
    """A database with partitions of the last 8 days, and raw events kept for 3."""
    with connect(database, name="test", autocommit=True) as connection:
        ensure_range(connection, now - 8 * DAY, now)
        yield connection


def one_a_day(now: datetime, days: int = 8) -> list[Event]:
    return [Event("page.view", now - n * DAY, {"page": "/"}, "u1", "s1") for n in range(days + 1)]


def merge_all(db: Connection) -> None:
    for pending in pending_hours(db):
        merge_hour(db, pending.hour, run_id="test")


def event_partitions(db: Connection) -> list[str]:
    rows = db.execute("SELECT partition FROM time_partitions WHERE parent = 'events' ORDER BY 1")
    return [partition for (partition,) in rows]


def name(day: datetime) -> str:
    return f"events_p{day:%Y%m%d}"


def scalar(db: Connection, query: str, *values: object) -> object:
    row = db.execute(query, values).fetchone()
    assert row is not None
    return row[0]


def policies_without_raising_the_floor(db: Connection) -> None:
    retention.write_policies(db, KEEP)
    db.execute("UPDATE retention_state SET raw_floor = '1970-01-01+00'")


def test_the_asset_drops_whole_days_after_merging_and_freezing_them(db, database, now):
    land(db, one_a_day(now))
    policies_without_raising_the_floor(db)
    outcomes = retention.remove_expired(db, now=now, run_id="r1")
    gone = [name(now - n * DAY) for n in range(8, 3, -1)]
    assert [(each.partition, each.action) for each in outcomes] == [(day, "dropped") for day in gone]
    assert event_partitions(db)[0] == name(now - 3 * DAY)
    assert scalar(db, "SELECT raw_floor FROM retention_state").date() == (now - 3 * DAY).date()
    assert (
        scalar(
            db, "SELECT sum(count) FROM metrics_live WHERE interval = '1d' AND metric_name = 'events.count'"
        )
        == 9
    )
    assert {pending.hour.date() for pending in pending_hours(db)} == {
        (now - n * DAY).date() for n in range(4)
    }
    frozen = retention.frozen_days(db, (now - 9 * DAY).date(), now.date())
    assert frozen == [(now - n * DAY).date() for n in range(8, 3, -1)]
    with pytest.raises(ConfigurationError, match="retention"):
        recompute_hour(database, (now - 4 * DAY).replace(minute=0, second=0, microsecond=0), run_id="r")
    assert retention.remove_expired(db, now=now, run_id="r2") == []


def test_landings_go_on_while_the_asset_works_and_a_late_one_is_below_the_floor(db, database, now):
    land(db, one_a_day(now))
    policies_without_raising_the_floor(db)
    with connect(database, name="landing") as landing:
        landing.execute("SELECT pg_advisory_xact_lock_shared(%s, 0)", (Lock.FLOOR,))
        removal = threading.Thread(
            target=retention.remove_expired, args=(db,), kwargs={"now": now, "run_id": "r"}
        )
        removal.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND NOT granted"
        wait_for(
            lambda: scalar(landing, waiting, Lock.FLOOR), message="retention waits for the landing in flight"
        )
        assert scalar(landing, "SELECT raw_floor FROM retention_state").year == 1970
        landing.execute(
            "INSERT INTO events (event_type, timestamp) VALUES ('late.but.in.flight', %s)", (now - 5 * DAY,)
        )
        landing.commit()
        removal.join(timeout=30)
        assert not removal.is_alive()
        assert scalar(landing, "SELECT raw_floor FROM retention_state") > now - 4 * DAY
    assert event_partitions(db)[0] == name(now - 3 * DAY)


def test_a_landing_that_never_ends_stops_retention_before_anything_is_removed(db, database, now, monkeypatch):
    monkeypatch.setattr(patience, "ATTEMPTS", 2)
    policies_without_raising_the_floor(db)
    with connect(database, name="landing") as landing:
        landing.execute("SELECT pg_advisory_xact_lock_shared(%s, 0)", (Lock.FLOOR,))
        with pytest.raises(retention.Held, match="floor"):
            retention.remove_expired(db, now=now, run_id="r")
    assert len(event_partitions(db)) == 11
    assert retention.remove_expired(db, now=now, run_id="r")


def test_a_reader_delays_the_detach_without_delaying_landings(db, database, now):
    land(db, one_a_day(now))
    policies_without_raising_the_floor(db)
    with connect(database, name="reader") as reader, connect(database, name="landing") as landing:
        reader.execute("SELECT count(*) FROM events")
        removal = threading.Thread(
            target=retention.remove_expired, args=(db,), kwargs={"now": now, "run_id": "r"}
        )
        removal.start()
        waiting = "SELECT count(*) FROM time_partitions WHERE is_detaching"
        wait_for(lambda: scalar(landing, waiting), message="the detach waits for the reader")
        landing.execute("SET statement_timeout = '500ms'")
        landing.execute("INSERT INTO events (event_type, timestamp) VALUES ('x', %s)", (now,))
        landing.commit()
        reader.commit()
        removal.join(timeout=30)
        assert not removal.is_alive()
    assert event_partitions(db)[0] == name(now - 3 * DAY)


def test_an_interrupted_detach_is_finalized(db, database, now, monkeypatch):
    land(db, one_a_day(now))
    policies_without_raising_the_floor(db)
    monkeypatch.setattr(removal, "_DETACH_PATIENCE", "200ms")
    with connect(database, name="reader") as reader:
        reader.execute("SELECT count(*) FROM events")
        skipped = retention.remove_expired(db, now=now, run_id="r1")
        assert {each.action for each in skipped} == {"skipped"}
        assert scalar(db, "SELECT count(*) FROM time_partitions WHERE is_detaching") == 1
    assert [each.action for each in retention.remove_expired(db, now=now, run_id="r2")] == ["dropped"] * 5


def test_rollup_partitions_go_by_the_policy_of_their_level(db, now):
    old = now - timedelta(days=800)
    ensure_range(db, old, old)
    retention.write_policies(db, Retention())
    dropped = {each.partition for each in retention.remove_expired(db, now=now, run_id="r")}
    for level in ("1m", "5m", "15m", "1h"):
        assert f"metric_aggregations_{level}_p{old:%Y%m}" in dropped
    assert not any("_1d_" in partition for partition in dropped)
    assert f"order_analytics_p{old:%Y%m}" in dropped


def cleanup(db: Connection) -> dict[str, tuple[str, str]]:
    rows = db.execute("SELECT partition, action, reason FROM cleanup_old_data()")
    return {partition: (action, reason) for partition, action, reason in rows}


def test_cleanup_old_data_drops_expired_days_and_refuses_those_with_pending_deltas(db, now):
    land(db, one_a_day(now))
    merge_all(db)
    land(db, [Event("late", now - 6 * DAY)])
    policies_without_raising_the_floor(db)
    done = cleanup(db)
    assert done.pop(name(now - 6 * DAY))[0] == "skipped"
    assert done == {name(now - n * DAY): ("dropped", None) for n in (8, 7, 5, 4)}
    assert scalar(db, "SELECT raw_floor FROM retention_state").date() == (now - 3 * DAY).date()
    assert event_partitions(db)[0] == name(now - 6 * DAY)
    merge_all(db)
    assert cleanup(db) == {name(now - 6 * DAY): ("dropped", None)}
    assert cleanup(db) == {}
    assert (
        scalar(
            db, "SELECT sum(count) FROM metrics_live WHERE interval = '1d' AND metric_name = 'events.count'"
        )
        == 10
    )


def test_the_originals_call_works_as_it_stands(db, now):
    retention.write_policies(db, KEEP)
    assert len(db.execute("SELECT cleanup_old_data();").fetchall()) == 5


@pytest.mark.slow
def test_cleanup_old_data_waits_for_landings_no_longer_than_its_tries(db, database, now):
    policies_without_raising_the_floor(db)
    with connect(database, name="landing") as landing:
        landing.execute("SELECT pg_advisory_xact_lock_shared(%s, 0)", (Lock.FLOOR,))
        [(partition, (action, reason))] = cleanup(db).items()
    assert (partition, action) == (None, "skipped")
    assert "floor" in reason
    assert len(event_partitions(db)) == 11


def test_cleanup_old_data_skips_what_a_recompute_or_a_reader_holds(db, database, now):
    policies_without_raising_the_floor(db)
    busy = (now - 5 * DAY).replace(minute=0, second=0, microsecond=0)
    with connect(database, name="recompute") as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", (Lock.HOUR, hour_key(busy)))
        done = cleanup(db)
        assert done[name(busy)] == ("skipped", "one of its hours is being merged or recomputed")
        assert sum(action == "dropped" for action, _ in done.values()) == 4
    with connect(database, name="reader") as reader:
        reader.execute(f"SELECT count(*) FROM {name(busy)}")
        assert cleanup(db) == {name(busy): ("skipped", "a running query holds it")}
    assert cleanup(db) == {name(busy): ("dropped", None)}


def test_cleanup_old_data_leaves_archived_policies_to_the_asset_and_finishes_what_it_left(db, now):
    policies_without_raising_the_floor(db)
    db.execute("UPDATE retention_policies SET must_archive = true WHERE parent = 'events'")
    assert {action for action, _ in cleanup(db).values()} == {"skipped"}
    partition = name(now - 8 * DAY)
    db.execute(f"ALTER TABLE events DETACH PARTITION {partition}")
    db.execute(
        "INSERT INTO retention_removals (partition, parent, lower_bound, upper_bound, state)"
        " VALUES (%s, 'events', now(), now(), 'verified')",
        (partition,),
    )
    assert cleanup(db)[partition][0] == "dropped"
    assert scalar(db, "SELECT to_regclass(%s)", partition) is None


def test_cleanup_old_data_and_the_asset_never_work_at_once(db, database, now):
    policies_without_raising_the_floor(db)
    with connect(database, name="other") as other:
        other.execute("SELECT pg_advisory_lock(%s, 0)", (Lock.RETENTION,))
        assert cleanup(db) == {None: ("skipped", "the retention asset is at work")}
        with pytest.raises(retention.Held):
            retention.remove_expired(db, now=now, run_id="r")


def test_policies_follow_the_settings_and_lift_the_floor_to_their_line(db, now):
    assert retention.write_policies(db, KEEP) == len(retention.policies(KEEP))
    assert retention.write_policies(db, KEEP) == 0
    assert scalar(db, "SELECT raw_floor FROM retention_state").date() == (now - 3 * DAY).date()
    assert retention.write_policies(db, Retention(raw_events="2d")) == 2
    assert scalar(db, "SELECT keep FROM retention_policies WHERE parent = 'metric_states_1m'") == timedelta(
        days=2
    )


def test_partitions_have_their_bounds_in_utc_whatever_the_session(db, database, now):
    lower = "SELECT lower_bound FROM time_partitions WHERE partition = %s"
    there = make_conninfo(database, options="-c timezone=Asia/Kathmandu")
    with psycopg.connect(there) as elsewhere:
        found = elsewhere.execute(lower, (name(now),)).fetchone()
    assert found is not None
    assert found[0] == now.replace(hour=0, minute=0, second=0, microsecond=0)


def detached(db: Connection, day: datetime, state: str) -> str:
    """A day's partition as a run leaves it that was killed after detaching."""
    partition = name(day)
    db.execute(f"ALTER TABLE events DETACH PARTITION {partition}")
    db.execute(
        "INSERT INTO retention_removals (partition, parent, lower_bound, upper_bound, state)"
        " VALUES (%s, 'events', now(), now(), %s)",
        (partition, state),
    )
    return partition


def test_cleanup_old_data_tells_of_a_left_over_table_that_is_held(db, database, now):
    policies_without_raising_the_floor(db)
    held, free = detached(db, now - 8 * DAY, "detached"), detached(db, now - 7 * DAY, "archived")
    with connect(database, name="reader") as reader:
        reader.execute(f"SELECT count(*) FROM {held}")
        done = cleanup(db)
        assert done.pop(held) == ("skipped", "it was detached already, and a running query holds it")
        assert {action for action, _ in done.values()} == {"dropped"}
        assert {free, name(now - 4 * DAY)} <= done.keys()
    assert cleanup(db) == {held: ("dropped", "it was detached already")}
    assert scalar(db, "SELECT count(*) FROM retention_removals WHERE state <> 'dropped'") == 0


def test_cleanup_old_data_waits_for_three_locks_and_no_more(db, database, now):
    """Landings wait as long as it does: here for 0.6 s, not for 1 s and more."""
    policies_without_raising_the_floor(db)
    with connect(database, name="reader") as reader:
        reader.execute("SELECT count(*) FROM events")
        reasons = [reason for _, reason in cleanup(db).values()]
        assert reasons == ["a running query holds it"] * 3 + ["running queries hold too much: call again"] * 2
    assert {action for action, _ in cleanup(db).values()} == {"dropped"}


def test_partitions_of_marts_are_not_made_for_what_their_policy_lets_go(db, now):
    """Else each run of retention would drop what the last run of maintenance has made."""
    retention.write_policies(db, Retention())
    ensure_range(db, now - 90 * DAY, now)
    oldest = "SELECT min(lower_bound) FROM time_partitions WHERE parent = %s"
    assert scalar(db, oldest, "order_analytics") <= now - 90 * DAY
    assert scalar(db, oldest, "system_metrics") > now - 62 * DAY
    assert scalar(db, oldest, "system_metrics") <= now - 30 * DAY
    gone = retention.remove_expired(db, now=now, run_id="r")
    assert [each.partition for each in gone if not each.partition.startswith("events_p")] == []


def test_a_detach_that_was_interrupted_is_ended_although_the_policy_has_changed(
    db, database, now, monkeypatch
):
    """Its rows are out of sight by then, and no other partition of the table could be detached."""
    policies_without_raising_the_floor(db)
    monkeypatch.setattr(removal, "_DETACH_PATIENCE", "200ms")
    with connect(database, name="reader") as reader:
        reader.execute("SELECT count(*) FROM events")
        retention.remove_expired(db, now=now, run_id="r1")
    [(pending,)] = db.execute("SELECT partition FROM time_partitions WHERE is_detaching").fetchall()
    retention.write_policies(db, Retention(raw_events="30d"))
    assert [each.partition for each in retention.preview(db, Retention(raw_events="30d"), now=now)] == [
        pending
    ]
    [done] = retention.remove_expired(db, now=now, run_id="r2")
    assert (done.partition, done.action) == (pending, "dropped")
