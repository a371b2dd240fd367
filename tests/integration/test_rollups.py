"""Merge and recompute against real Postgres: settled + pending = truth, at every level and moment."""

import functools
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from analytics_pipeline.errors import ConfigurationError, InvariantBroken
from analytics_pipeline.rollups import levels
from analytics_pipeline.rollups.catalog import BUILT_IN, REGISTER_ID
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import books, buckets, due, partitions, recompute, rollups
from analytics_pipeline.storage.connection import Connection, connect
from tests.integration.rollup_data import land, live, settled
from tests.unit.rollups import events
from tests.waiting import wait_for

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
HOUR = DAY + timedelta(hours=10)
NEXT = DAY + timedelta(hours=11)
batch = functools.partial(events.batch, minutes=16)
"""Events in a few buckets of every level: what is settled costs by its series."""
STATES = """
SELECT interval, time_bucket, metric_id, dimension_set, dimensions::text, state FROM metric_states
ORDER BY 1, 2, 3, 4, 5
"""


@pytest.fixture
def other(database: str) -> Iterator[Connection]:
    opened = connect(database, name="test-other", autocommit=True)
    yield opened
    opened.close()


def test_a_merge_changes_nothing_that_a_reader_sees(connection):
    for number in range(4):
        land(connection, batch(400, seed=number, start=HOUR), number)
    before = live(connection)
    result = rollups.merge_hour(connection, HOUR, run_id="run", max_batches=3)
    assert result is not None
    assert (result.batches, result.events, result.has_more) == (3, 1200, True)
    assert live(connection) == before
    assert rollups.merge_hour(connection, HOUR, run_id="run").events == 400
    assert live(connection) == before
    assert rollups.pending_hours(connection) == []
    assert all(settled(connection, level, DAY if level == "1d" else HOUR) for level in ("1h", "1d"))


def test_deltas_that_come_or_go_while_they_are_merged_stop_the_merge(connection, monkeypatch):
    """They are read and then deleted, in two statements."""
    land(connection, batch(100, seed=1, start=HOUR), 1)
    before = live(connection)
    monkeypatch.setattr(rollups, "_DELETE_DELTAS", rollups._DELETE_DELTAS + " AND kind <> 'register'")
    with pytest.raises(InvariantBroken, match="came or went"):
        rollups.merge_hour(connection, HOUR, run_id="run")
    assert live(connection) == before
    assert [pending.hour for pending in rollups.pending_hours(connection)] == [HOUR]


@pytest.mark.slow
def test_states_and_register_are_the_same_merged_in_pieces_or_at_once(connection):
    register = (
        "SELECT interval, time_bucket, event_count, late_count, set_hash FROM metric_buckets ORDER BY 1, 2"
    )
    for number in range(5):
        land(connection, batch(200, seed=number, start=HOUR), number)
        rollups.merge_hour(connection, HOUR, run_id="run")
    pieces = connection.execute(STATES).fetchall(), connection.execute(register).fetchall()
    for table in ("metric_states", "metric_aggregations", "metric_buckets", "events"):
        connection.execute(f"TRUNCATE {table}")
    for number in range(5):
        land(connection, batch(200, seed=number, start=HOUR), number)
    rollups.merge_hour(connection, HOUR, run_id="run")
    assert (connection.execute(STATES).fetchall(), connection.execute(register).fetchall()) == pieces


@pytest.mark.slow
@pytest.mark.parametrize("order", list(itertools.permutations([0, 1])))
def test_two_hours_of_a_day_merged_at_once_leave_the_right_day(connection, other, database, order):
    """Both are inside their transactions before either commits; the day lock puts them in line."""
    hours = [HOUR, NEXT]
    land(connection, batch(300, seed=1, start=HOUR), 1)
    land(connection, batch(500, seed=2, start=NEXT), 2)
    land(connection, batch(7, seed=3, start=DAY), 3)
    rollups.merge_hour(connection, DAY, run_id="run")
    truth = live(connection)

    # The first stops inside its transaction, after it wrote the day; the second starts meanwhile.
    reached, go_on = threading.Event(), threading.Event()
    bump = rollups.bump_days

    def stop_here(at: Connection, times: list[datetime]) -> None:
        bump(at, times)
        if times == [hours[order[0]]]:
            reached.set()
            assert go_on.wait(20)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "bump_days", stop_here)
        threads = []
        for position, opened in zip(order, (connection, other), strict=True):
            thread = threading.Thread(
                target=rollups.merge_hour, args=(opened, hours[position]), kwargs={"run_id": "run"}
            )
            thread.start()
            threads.append(thread)
            if position == order[0]:
                assert reached.wait(20)
        with connect(database, name="watch", autocommit=True) as watch:
            wait_for(
                lambda: (
                    watch.execute(
                        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    ).fetchone()[0]
                    == 1
                ),
                timeout=10,
                message="the second merge waits for the day",
            )
            go_on.set()
            for thread in threads:
                thread.join(20)
            assert settled(watch, "1d", DAY) == 807
            assert live(watch) == truth


def test_a_busy_hour_is_skipped_and_keeps_its_deltas(connection, other):
    land(connection, batch(100, seed=1, start=HOUR), 1)
    with rollups.hour_lock(other, HOUR, wait=True) as is_held:
        assert is_held
        assert rollups.merge_hour(connection, HOUR, run_id="run") is None
    assert rollups.merge_hour(connection, HOUR, run_id="run").events == 100


def test_a_merge_that_fails_keeps_everything(connection, monkeypatch):
    land(connection, batch(100, seed=1, start=HOUR), 1)
    before = live(connection)

    def fail(*_: object) -> None:
        raise RuntimeError("stopped before COMMIT")

    monkeypatch.setattr(rollups, "bump_days", fail)
    with pytest.raises(RuntimeError):
        rollups.merge_hour(connection, HOUR, run_id="run")
    monkeypatch.undo()
    assert live(connection) == before
    assert settled(connection, "1h", HOUR) is None
    assert rollups.merge_hour(connection, HOUR, run_id="run").events == 100


def test_late_events_restate_final_buckets(connection):
    land(connection, batch(100, seed=1, start=HOUR, minutes=1), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    now = datetime.now(UTC)
    assert buckets.finalize_buckets(
        connection, now=now, graces=dict.fromkeys(LEVELS, timedelta(seconds=30)), run_id="run"
    ) == len(LEVELS) - 1 + (now - DAY >= timedelta(days=1, seconds=30))
    state = (
        "SELECT state, revision, event_count FROM metric_buckets WHERE interval = '1m' AND time_bucket = %s"
    )
    assert connection.execute(state, (HOUR,)).fetchone() == ("final", 1, 100)
    land(connection, batch(5, seed=2, start=HOUR, minutes=1), 2)
    rollups.merge_hour(connection, HOUR, run_id="run")
    assert connection.execute(state, (HOUR,)).fetchone() == ("restated", 2, 105)


def test_lag_keeps_buckets_from_becoming_final(connection):
    land(connection, batch(100, seed=1, start=HOUR, minutes=1), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    connection.execute("INSERT INTO ingest_offsets VALUES ('t', 0, 0, 1, %s)", (HOUR,))
    close = {
        "now": datetime.now(UTC),
        "graces": dict.fromkeys(LEVELS, timedelta(seconds=30)),
        "run_id": "run",
    }
    assert buckets.finalize_buckets(connection, **close) == 0
    connection.execute("UPDATE ingest_offsets SET caught_up_at = now()")
    connection.execute("INSERT INTO http_inbox (payload, received_at) VALUES ('', %s)", (HOUR,))
    assert buckets.finalize_buckets(connection, **close) == 0
    connection.execute("DELETE FROM http_inbox")
    land(connection, batch(1, seed=2, start=HOUR, minutes=1), 2)
    assert buckets.finalize_buckets(connection, **close) == 0
    rollups.merge_hour(connection, HOUR, run_id="run")
    assert buckets.finalize_buckets(connection, **close) >= 4


GRACES = {"1m": 30, "5m": 60, "15m": 90, "1h": 600, "1d": 3600}


def test_each_level_waits_as_long_as_is_set_for_it(connection):
    land(connection, batch(20, seed=1, start=HOUR + timedelta(minutes=59), minutes=1), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    graces = {level: timedelta(seconds=seconds) for level, seconds in GRACES.items()}
    finals = "SELECT DISTINCT interval FROM metric_buckets WHERE state = 'final'"
    ends = {"1d": DAY + timedelta(days=1)}
    seen: set[str] = set()
    for level in LEVELS:
        end = ends.get(level, HOUR + timedelta(hours=1))
        for at in (end + graces[level] - timedelta(microseconds=1), end + graces[level]):
            assert bool(due.buckets_due(connection, now=at, graces=graces)) == (at == end + graces[level])
            buckets.finalize_buckets(connection, now=at, graces=graces, run_id="run")
            seen |= {level} if at == end + graces[level] else set()
            assert {row[0] for row in connection.execute(finals)} == seen


def test_no_bucket_is_final_before_those_within_it(connection, database):
    """Where one of them is held back, here by somebody who is changing it, those around it wait too."""
    land(connection, batch(100, seed=1, start=HOUR, minutes=1), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    close = {"now": HOUR + timedelta(days=2), "graces": dict.fromkeys(LEVELS, timedelta(0)), "run_id": "run"}
    with connect(database, name="test") as other:
        other.execute("SELECT FROM metric_buckets WHERE interval = '5m' FOR UPDATE")
        assert buckets.finalize_buckets(connection, **close) == 1
        assert connection.execute("SELECT interval FROM metric_buckets WHERE state = 'final'").fetchall() == [
            ("1m",)
        ]
    assert buckets.finalize_buckets(connection, **close) == 4


@pytest.mark.slow
def test_a_recompute_of_right_numbers_finds_no_difference_and_settles_what_was_pending(connection, database):
    for number in range(3):
        land(connection, batch(300, seed=number, start=HOUR), number)
    rollups.merge_hour(connection, HOUR, run_id="run", max_batches=2)
    truth = live(connection)
    preview = recompute.recompute_hour(database, HOUR, run_id="preview", write=False)
    assert (preview.events, preview.differences, preview.is_written) == (900, [], False)
    assert len(rollups.pending_hours(connection)) == 1
    result = recompute.recompute_hour(database, HOUR, run_id="backfill")
    assert result.differences == []
    assert live(connection) == truth
    assert rollups.pending_hours(connection) == []
    after = connection.execute(STATES).fetchall()
    recompute.recompute_hour(database, HOUR, run_id="again")
    assert connection.execute(STATES).fetchall() == after


@pytest.mark.parametrize("level", list(LEVELS))
def test_a_recompute_repairs_every_level(connection, database, level):
    land(connection, batch(300, seed=1, start=HOUR), 1)
    land(connection, batch(200, seed=2, start=NEXT), 2)
    rollups.merge_hour(connection, HOUR, run_id="run")
    rollups.merge_hour(connection, NEXT, run_id="run")
    truth = live(connection)
    connection.execute("UPDATE metric_aggregations SET count = count + 1 WHERE interval = %s", (level,))
    assert live(connection) != truth
    for hour in (HOUR, NEXT):
        recompute.recompute_hour(database, hour, run_id="repair")
    assert live(connection) == truth


def test_deltas_that_land_during_a_recompute_stay_pending(connection, other, database, monkeypatch):
    land(connection, batch(300, seed=1, start=HOUR), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    replace = recompute._replace

    def land_meanwhile(*arguments: object, **named: object) -> None:
        land(other, batch(50, seed=2, start=HOUR), 2)
        assert rollups.merge_hour(other, HOUR, run_id="live") is None
        land(other, batch(60, seed=3, start=NEXT), 3)
        assert rollups.merge_hour(other, NEXT, run_id="live").events == 60
        replace(*arguments, **named)

    monkeypatch.setattr(recompute, "_replace", land_meanwhile)
    assert recompute.recompute_hour(database, HOUR, run_id="backfill").events == 300
    assert settled(connection, "1d", DAY) == 360
    assert [pending.hour for pending in rollups.pending_hours(connection)] == [HOUR]
    rollups.merge_hour(connection, HOUR, run_id="run")
    assert settled(connection, "1d", DAY) == 410


def test_an_hour_whose_raw_events_are_going_is_not_recomputed(connection, database):
    land(connection, batch(10, seed=1, start=HOUR), 1)
    connection.execute("UPDATE retention_state SET raw_floor = %s", (NEXT,))
    with pytest.raises(ConfigurationError, match="beyond the raw retention line"):
        recompute.recompute_hour(database, HOUR, run_id="backfill")


def test_buckets_are_closed_at_once_however_much_is_pending(connection):
    """A list of what is pending, read again for each bucket, would take minutes."""
    now = datetime.now(UTC)
    connection.execute("SET work_mem = '64kB'")
    connection.execute("SET statement_timeout = '3s'")
    connection.execute(
        "INSERT INTO metric_buckets (interval, time_bucket) SELECT '1m', at"
        " FROM generate_series(%s::timestamptz, %s, interval '1 minute') AS at",
        (DAY, DAY + timedelta(minutes=1439)),
    )
    connection.execute(
        "INSERT INTO rollup_deltas"
        " (hour, batch_id, minute, metric_id, metric_name, dimension_set, dimensions, kind, count)"
        " SELECT date_trunc('hour', at, 'UTC'), 1, at, '_', '_', '', '{}', 'register', 1"
        " FROM generate_series(%s::timestamptz, %s, interval '1 minute') AS at",
        (DAY + timedelta(minutes=1430), DAY + timedelta(minutes=101_430)),
    )
    connection.execute("ANALYZE rollup_deltas")
    done = buckets.finalize_buckets(
        connection, now=now, graces=dict.fromkeys(LEVELS, timedelta(0)), run_id="run"
    )
    assert done == 1430  # the others wait for what is pending


def test_a_merge_takes_as_many_batches_as_have_so_many_deltas(connection):
    for number in range(1, 5):
        land(connection, batch(100, seed=number, start=HOUR), number)
    counts = dict(connection.execute("SELECT batch_id, count(*) FROM rollup_deltas GROUP BY 1").fetchall())
    before = live(connection)

    def merged(max_deltas: int) -> tuple[list[int], bool]:
        result = rollups.merge_hour(connection, HOUR, run_id="run", max_deltas=max_deltas)
        assert result is not None
        assert result.deltas == sum(counts[each] for each in result.batch_ids)
        return list(result.batch_ids), result.has_more

    assert merged(1) == ([1], True)  # one at least
    assert merged(counts[2] + counts[3]) == ([2, 3], True)
    assert merged(counts[4]) == ([4], False)
    assert live(connection) == before


def test_a_merge_reads_the_states_of_the_series_it_touches_alone(connection, monkeypatch):
    land(connection, batch(400, seed=1, start=HOUR, minutes=1), 1)
    rollups.merge_hour(connection, HOUR, run_id="run")
    some = batch(100, seed=2, start=HOUR, minutes=1)
    land(connection, some.filter(pc.equal(some.column("event_type"), "order.filled")).slice(0, 1), 2)
    [there] = connection.execute(
        "SELECT count(*) FROM metric_states WHERE interval = '1m'"
        " AND metric_id IN (SELECT metric_id FROM rollup_deltas WHERE state IS NOT NULL)"
    ).fetchone()
    fetch, read = rollups.fetch, []

    def counting(*arguments):
        found = fetch(*arguments)
        if "metric_states" in arguments[1]:
            read.append(found.num_rows)
        return found

    monkeypatch.setattr(rollups, "fetch", counting)
    rollups.merge_hour(connection, HOUR, run_id="run")
    assert len(read) == len(LEVELS)
    assert 0 < max(read) < there / 2


def test_pending_minutes_are_the_sum_of_all_landings_to_the_byte(connection):
    batches = [batch(200, seed=number, start=HOUR, minutes=2) for number in range(3)]
    for number, events_of in enumerate(batches):
        land(connection, events_of, number)
    deltas = pa.concat_tables([compute_deltas(events_of, BUILT_IN) for events_of in batches])
    ids = [*BUILT_IN.by_id, REGISTER_ID]
    found = rollups.pending_minutes(connection, HOUR, ids)
    assert in_order(found) == in_order(levels.roll_up(deltas, "1m"))
    assert found.num_rows < deltas.num_rows
    some = rollups.pending_minutes(connection, HOUR, ids[:2])
    assert in_order(some) == [row for row in in_order(found) if row["metric_id"] in ids[:2]]
    assert rollups.pending_minutes(connection, NEXT, ids).num_rows == 0


def in_order(rows: pa.Table) -> list[dict[str, object]]:
    key = ("time_bucket", "metric_id", "dimension_set", "dimensions")
    return sorted(rows.to_pylist(), key=lambda row: tuple(str(row[name]) for name in key))


def test_buckets_of_a_run_are_those_that_hold_its_hours(connection):
    for number, hour in enumerate((DAY, HOUR, NEXT)):
        land(connection, batch(50, seed=number, start=hour), number)
        rollups.merge_hour(connection, hour, run_id="other" if hour == NEXT else "run")
    found = books.buckets_of_run(connection, "run", [HOUR, NEXT])
    expected = connection.execute(
        "SELECT interval, time_bucket FROM metric_buckets"
        " WHERE run_id = 'run' AND interval <> '1d' AND time_bucket >= %s",
        (HOUR,),
    ).fetchall()
    assert sorted(found) == sorted(expected)
    land(connection, batch(1, seed=9, start=HOUR), 9)
    rollups.merge_hour(connection, HOUR, run_id="last")
    assert {level for level, _ in books.buckets_of_run(connection, "last", [HOUR])} == set(LEVELS)
    assert ("1d", DAY) in books.buckets_of_run(connection, "last", [HOUR])
    assert books.buckets_of_run(connection, "last", []) == []


def test_days_ahead_end_at_the_first_hole(connection):
    now = datetime.now(UTC)
    assert 2 < partitions.days_ahead(connection, now=now).get("events", 0.0) <= 3
    partition = "SELECT partition FROM time_partitions WHERE parent = 'events' AND lower_bound = %s"
    for ahead, left in ((1, 1), (0, 0)):
        day = DAY + timedelta(days=1 + ahead)
        [name] = connection.execute(partition, (day,)).fetchone()
        connection.execute(f"DROP TABLE {name}")
        assert 0 <= partitions.days_ahead(connection, now=now).get("events", 0.0) <= left
    assert partitions.days_ahead(connection, now=now).get("events", 0.0) == 0
