"""Rows about rollups that nobody asks for any more, and those that are still asked for."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import forgotten_rows
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.forgotten_rows import ForgottenRows, forget_rows, preview_forgotten_rows
from analytics_pipeline.storage.partitions import ensure_range

DAY = timedelta(days=1)
KEEP = Retention(restatements="10d")
NOTHING = ForgottenRows(0, 0, 0, 0)


@pytest.fixture
def db(database: str, now: datetime) -> Iterator[Connection]:
    with connect(database, name="test", autocommit=True) as connection:
        connection.execute("UPDATE retention_state SET raw_floor = %s", (now - 5 * DAY,))
        yield connection


def went(db: Connection, now: datetime) -> ForgottenRows:
    """What a run removed, which is what a dry run had told; the next one finds nothing."""
    told = preview_forgotten_rows(db, KEEP, now=now)
    assert preview_forgotten_rows(db, KEEP, now=now) == told
    done = forget_rows(db, KEEP, now=now)
    assert done == told
    assert forget_rows(db, KEEP, now=now) == NOTHING
    return done


def column(db: Connection, query: str) -> list[object]:
    return [value for (value,) in db.execute(query).fetchall()]


def test_old_restatements_go_in_portions(db, now, monkeypatch):
    monkeypatch.setattr(forgotten_rows, "_AT_ONCE", 2)
    for age in (9, 11, 12, 13, 14, 15):
        db.execute(
            "INSERT INTO metric_restatements (restated_at, reason, run_id, interval, time_bucket, revision, metric_id,"
            " metric_name, new_count) VALUES (%s, 'late', 'r', '1m', %s, 2, 'm', 'n', %s)",
            (now - age * DAY, now, age),
        )
    assert went(db, now) == ForgottenRows(5, 0, 0, 0)
    assert column(db, "SELECT new_count FROM metric_restatements") == [9]


def test_a_backfill_is_given_up_as_a_whole(db, now):
    """One that has gone on for long, and still does, keeps what it did at first."""
    for name, ages in {"given up": (60, 31), "at work": (60, 31, 1)}.items():
        for age in ages:
            db.execute(
                "INSERT INTO backfill_progress VALUES (%s, %s, 'r', %s)",
                (name, now - age * DAY, now - age * DAY),
            )
    for name, age in {"given up": 31, "at work": 60, "just begun": 1, "never begun": 31}.items():
        db.execute(
            "INSERT INTO backfill_plans VALUES (%s, '{[2026-01-01,2026-01-02)}', %s)", (name, now - age * DAY)
        )
    for name, age in {"old": 31, "fresh": 29}.items():
        db.execute(
            "INSERT INTO backfill_previews (run_id, first, last, total_hours, updated_at, backend, backend_start)"
            " VALUES (%(name)s, %(at)s, %(at)s, 1, %(at)s, 1, %(at)s)",
            {"name": name, "at": now - age * DAY},
        )
    assert went(db, now) == ForgottenRows(0, 5, 0, 0)
    assert column(db, "SELECT run_id FROM backfill_previews") == ["fresh"]
    assert column(db, "SELECT DISTINCT metric_set FROM backfill_progress") == ["at work"]
    assert column(db, "SELECT metric_set FROM backfill_plans ORDER BY 1") == ["at work", "just begun"]


def test_gaps_and_versions_of_days_stay_as_long_as_rollups_of_any_level(db, now):
    """A gap says of a bucket that it is incomplete, also where no recompute can mend it."""
    oldest = now - 800 * DAY
    ensure_range(db, oldest, oldest)
    [begin] = column(
        db, "SELECT min(lower_bound) FROM time_partitions WHERE parent = 'metric_aggregations_1d'"
    )
    for at in (begin - DAY, oldest, now - 6 * DAY, now):
        db.execute("INSERT INTO metric_gaps VALUES ('m', date_trunc('hour', %s), 1)", (at,))
        db.execute("INSERT INTO rollup_days (day, revision) VALUES ((%s AT TIME ZONE 'UTC')::date, 1)", (at,))
    assert went(db, now) == ForgottenRows(0, 0, 1, 1)
    [(partition,)] = db.execute(
        "SELECT partition FROM time_partitions WHERE parent = 'metric_aggregations_1d' AND lower_bound = %s",
        (begin,),
    ).fetchall()
    db.execute(f"DROP TABLE {partition}")
    assert went(db, now) == NOTHING, "finer levels of that time are still there"
    finer = (
        "SELECT partition FROM time_partitions WHERE starts_with(parent, 'metric_agg') AND lower_bound < %s"
    )
    for (each,) in db.execute(finer, (now - 100 * DAY,)).fetchall():
        db.execute(f"DROP TABLE {each}")
    left = column(db, "SELECT min(hour) FROM metric_gaps")
    assert went(db, now).metric_gaps >= 1
    assert column(db, "SELECT min(hour) FROM metric_gaps") > left


def test_nothing_goes_that_may_still_be_merged(db, now):
    """Without any partition, the floor is the line."""
    db.execute("UPDATE retention_state SET raw_floor = '1970-01-01+00'")
    db.execute("INSERT INTO metric_gaps VALUES ('m', date_trunc('hour', now()) - interval '3000 days', 1)")
    db.execute("INSERT INTO rollup_days (day, revision) VALUES (current_date - 3000, 1)")
    assert went(db, now) == NOTHING
