"""The sizes of all tables, by family; and the page about retention says of each of them how long it is kept."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import retention
from analytics_pipeline.storage import sizes as measuring
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.measuring import tell_sizes
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.sizes import sizes
from analytics_pipeline.telemetry import RETENTION_OVERDUE, TABLE_BYTES

DAY = timedelta(days=1)
PAGE = (Path(__file__).parents[2] / "docs/retention.md").read_text()


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    with connect(database, name="test", autocommit=True) as connection:
        yield connection


def measured(db: Connection) -> measuring.Sizes:
    return sizes(db, dagster_schema="dagster")


def bytes_of(db: Connection) -> dict[str, int]:
    return {name: family.bytes for name, family in measured(db).families.items()}


def test_every_byte_belongs_to_one_family(db, now):
    db.execute("CREATE SCHEMA dagster")
    db.execute("CREATE TABLE dagster.runs AS SELECT n FROM generate_series(1, 9000) AS n")
    db.execute("CREATE TABLE dagster.events AS SELECT n FROM generate_series(1, 9000) AS n")
    ensure_range(db, now - 70 * DAY, now)
    found = bytes_of(db)
    all_of_it = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'm')"
        " AND relnamespace IN ('public'::regnamespace, 'dagster'::regnamespace)"
    )
    assert db.execute(all_of_it).fetchone() == (sum(found.values()),)
    partitions = "SELECT parent, sum(bytes)::bigint FROM time_partitions WHERE bytes > 0 GROUP BY parent"
    of_partitions = dict(db.execute(partitions).fetchall())
    assert {family: found[family] for family in of_partitions} == of_partitions
    assert found["dagster"] > 2 * 9000 * 8
    assert len(found) < 60


def test_a_day_that_is_detached_still_counts(db, now):
    ensure_range(db, now - 8 * DAY, now)
    before = bytes_of(db)["events"]
    partition = f"events_p{now - 8 * DAY:%Y%m%d}"
    db.execute(f"ALTER TABLE events DETACH PARTITION {partition}")
    db.execute(
        "INSERT INTO retention_removals (partition, parent, lower_bound, upper_bound, state)"
        " VALUES (%s, 'events', now(), now(), 'detached')",
        (partition,),
    )
    assert bytes_of(db)["events"] == before


def test_somebodys_own_tables_are_one_family_at_most(db, monkeypatch):
    before = bytes_of(db)
    monkeypatch.setattr(measuring, "MOST", 5)
    found = bytes_of(db)
    assert len(found) == 6
    assert sum(found.values()) == sum(before.values())


def test_what_should_have_gone_is_overdue_until_it_is_gone(db, now):
    ensure_range(db, now - 8 * DAY, now)
    retention.write_policies(db, Retention(raw_events="30d"))
    assert measured(db).overdue == 0
    retention.write_policies(db, Retention(raw_events="3d"))
    late = measured(db).overdue
    assert timedelta(days=3) < timedelta(seconds=late) < timedelta(days=5)
    tell_sizes(measured(db), {"events", "gone"}, is_cleaned=True)
    assert RETENTION_OVERDUE._value.get() == pytest.approx(late, abs=60)
    assert TABLE_BYTES.labels("events")._value.get() == measured(db).families["events"].bytes
    assert TABLE_BYTES.labels("gone")._value.get() == 0
    retention.remove_expired(db, now=now, run_id="r")
    assert measured(db).overdue == 0
    tell_sizes(measured(db)._replace(overdue=9e9), set(), is_cleaned=False)
    assert RETENTION_OVERDUE._value.get() == 0


def test_the_page_says_how_long_each_table_is_kept(db):
    """Nothing grows for ever: who adds a table says when its rows go."""
    families = {re.sub(r"_(\d+[mhd]|fine|coarse)$", "", each) for each in measured(db).families}
    assert {each for each in families if f"`{each}`" not in PAGE} == set()


def test_dead_rows_and_days_ahead_are_told_by_family(db, now):
    db.execute("CREATE TABLE somebodys AS SELECT n FROM generate_series(1, 500) AS n")
    db.execute("ALTER TABLE somebodys SET (autovacuum_enabled = false)")
    db.execute("DELETE FROM somebodys WHERE n <= 200")
    db.execute("SELECT pg_stat_force_next_flush()")
    found = measured(db)
    assert found.families["somebodys"][1:] == (300, 200)
    assert 1 < found.days_ahead["events"] <= 3
    assert found.days_ahead.keys() == {
        parent for (parent,) in db.execute("SELECT parent FROM time_partitions")
    }
