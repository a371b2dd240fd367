"""Recomputing days whose raw events are in the archive alone: the same numbers to the byte, or a clear refusal."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from analytics_pipeline import cli
from analytics_pipeline.defs.partitions import hour_key
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.settings import Retention, environment, settings
from analytics_pipeline.storage import archived_events, backfill, retention, rollups
from analytics_pipeline.storage.archive import Archive, ArchiveFault
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.metric_versions import register
from analytics_pipeline.storage.partitions import ensure_range
from analytics_pipeline.storage.recompute import RecomputeResult, recompute_hour
from tests.integration.databases import database_copy, fresh_database
from tests.integration.ingest_process import write_config
from tests.integration.rollup_data import land
from tests.integration.test_backfill import command
from tests.integration.test_backfill_dagster import run
from tests.unit.rollups.events import batch

NOW = datetime.now(UTC)
DAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=6)
NEXT = DAY + timedelta(days=1)
HOURS = [DAY + timedelta(hours=number) for number in (3, 4, 23)]
EVERY_HOUR = [DAY + timedelta(hours=number) for number in range(24)]
STATE = (
    "SELECT interval, time_bucket, metric_id, dimension_set, dimensions::text, count, sum_exact, min, max, p50, p95,"
    " p99, distinct_count FROM metric_aggregations WHERE time_bucket < %s ORDER BY 1, 2, 3, 4, 5",
    "SELECT interval, time_bucket, metric_id, dimension_set, dimensions::text, state FROM metric_states"
    " WHERE time_bucket < %s ORDER BY 1, 2, 3, 4, 5",
    "SELECT interval, time_bucket, event_count, late_count, set_hash FROM metric_buckets WHERE time_bucket < %s"
    " ORDER BY 1, 2",
)
Rows = list[list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def archived(
    postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A database with three hours of a day and one of the next, merged, archived and dropped; and the archive."""
    name, folder = "archived_days", tmp_path_factory.mktemp("archived") / "archive"
    with database_copy(postgres, template_database, name) as conninfo:
        keep = Retention(raw_events="3d", archive_uri=f"file://{folder}")
        with connect(conninfo, name="test", autocommit=True) as connection:
            ensure_range(connection, DAY, NOW)
            for number, hour in enumerate([*HOURS, NEXT + timedelta(hours=3)]):
                land(connection, batch(200, seed=number, start=hour, minutes=16), number)
                rollups.merge_hour(connection, hour, run_id="live")
            retention.write_policies(connection, keep)
            archive = Archive(f"file://{folder}", conninfo)
            outcomes = retention.remove_expired(connection, now=NOW, run_id="r", archive=archive)
            assert {each.action for each in outcomes} == {"dropped"}
        yield name, folder


@pytest.fixture
def database(postgres: Postgres, archived: tuple[str, Path], tmp_path: Path) -> Iterator[str]:
    """A copy of both for each test."""
    name, folder = archived
    shutil.copytree(folder, tmp_path / "archive")
    yield from fresh_database(postgres, name)


@pytest.fixture
def db(database: str, archived: tuple[str, Path], tmp_path: Path) -> Iterator[Connection]:
    with connect(database, name="test", autocommit=True) as connection:
        connection.execute(
            "UPDATE retention_removals SET archive = replace(archive, %s, %s)",
            (str(archived[1]), str(tmp_path / "archive")),
        )
        yield connection


def state(db: Connection) -> Rows:
    return [db.execute(query, (NEXT,)).fetchall() for query in STATE]


def of_levels(rows: Rows, *levels: str) -> Rows:
    return [[row for row in table if row[0] in levels] for table in rows]


def damage(db: Connection) -> None:
    db.execute("UPDATE metric_aggregations SET count = count + 1 WHERE dimension_set = ''")


def recomputed(
    db: Connection, database: str, hours: list[datetime] = HOURS, *, write: bool = True
) -> list[RecomputeResult]:
    planned = backfill.plan(db, hours)
    return list(
        backfill.recompute(database, planned, run_id="backfill", before_hour=lambda: None, write=write)
    )


def let_go(db: Connection, *parents: str) -> None:
    """Drop the partitions of the day, as retention does when their time has come."""
    for parent in parents:
        rows = db.execute(
            "SELECT partition FROM time_partitions WHERE parent = %s AND lower_bound <= %s AND upper_bound > %s",
            (parent, DAY, DAY),
        )
        [(partition,)] = rows.fetchall()
        db.execute(f"DROP TABLE {partition}")


def let_levels_go(db: Connection, *levels: str) -> None:
    let_go(
        db, *(f"metric_{kind}_{level}" for level in levels for kind in ("aggregations", "states", "buckets"))
    )


def test_an_archived_day_is_recomputed_to_the_same_bytes(db, database):
    truth = state(db)
    [nothing, *_] = recomputed(db, database)
    assert (nothing.events, nothing.differences) == (200, [])
    assert state(db) == truth
    damage(db)
    found = recomputed(db, database)
    assert [result.hour for result in found] == HOURS
    assert {one.interval for one in found[0].differences} == {"1m", "5m", "15m", "1h"}
    assert state(db) == truth


@pytest.mark.slow
def test_rows_that_were_lost_come_back_from_the_archive(db, database):
    truth = state(db)
    for table in ("metric_aggregations", "metric_states", "metric_buckets"):
        db.execute(f"DELETE FROM {table} WHERE time_bucket < %s", (NEXT,))
    recomputed(db, database)
    found = state(db)
    kept = [tuple(row) for row in found[2] if row[2]]
    assert (found[:2], kept) == (truth[:2], truth[2])


@pytest.mark.slow
def test_a_preview_of_an_archived_hour_writes_nothing(db, database):
    damage(db)
    before = state(db)
    assert all(result.differences for result in recomputed(db, database, write=False))
    assert state(db) == before


def test_what_is_read_is_bounded_and_far_row_groups_are_left_alone(db, database, tmp_path, monkeypatch):
    """The day is written again, sorted, in groups of 50, and its bytes outside the hour's groups are destroyed."""
    [path] = (tmp_path / "archive" / "events" / f"date={DAY:%Y-%m-%d}").iterdir()
    rows = pq.read_table(path, partitioning=None).sort_by("timestamp")
    pq.write_table(rows, path, row_group_size=50, write_page_checksum=True)
    truth = state(db)
    archives = archived_events.Archives()
    day = archives.prove(db, HOURS[1])
    groups = [pq.ParquetFile(path).metadata.row_group(number) for number in (0, 1, 10, 11)]
    content = bytearray(path.read_bytes())
    for group in groups:
        first = group.column(0)
        content[first.file_offset or first.data_page_offset : first.data_page_offset + 8] = b"\0" * 8
    path.write_bytes(bytes(content))
    monkeypatch.setattr(archived_events, "CHUNK_ROWS", 40)
    monkeypatch.setattr(archived_events, "READ_ROWS", 20)
    sizes = [chunk.num_rows for chunk in archives.events(day, HOURS[1])]
    assert sum(sizes) == 200
    assert max(sizes) <= 60
    damage(db)
    assert recompute_hour(database, HOURS[1], run_id="r", archives=archives).events == 200
    for hour in (HOURS[0], HOURS[2]):
        with pytest.raises(ArchiveFault):
            recompute_hour(database, hour, run_id="r", archives=archives)
    minutes = [row for row in truth[0] if row[0] == "1m" and HOURS[1] <= row[1] < HOURS[2]]
    assert [row for row in state(db)[0] if row[0] == "1m" and HOURS[1] <= row[1] < HOURS[2]] == minutes


def removed(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def with_another_byte(path: Path) -> None:
    """The last of the dictionary of event types, which has nothing to do with number and hash."""
    types = pq.ParquetFile(path).metadata.row_group(0).column(1)
    content = bytearray(path.read_bytes())
    content[types.data_page_offset - 1] ^= 1
    path.write_bytes(bytes(content))


def short_of_a_row(path: Path) -> None:
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(1), path)


def with_another_event(path: Path) -> None:
    rows = pq.read_table(path, partitioning=None)
    ids = rows["id"].to_pylist()
    ids[0] = uuid.uuid4()
    pq.write_table(rows.set_column(0, rows.schema.field("id"), [ids]), path)


def with_a_second_part(path: Path) -> None:
    shutil.copy(path, path.with_name("part-1.parquet"))


DAMAGES = [removed, truncated, with_another_byte, short_of_a_row, with_another_event, with_a_second_part]


@pytest.mark.slow
def test_an_archive_that_holds_something_else_changes_nothing(db, database, tmp_path):
    damage(db)
    before = state(db)
    day = tmp_path / "archive" / "events" / f"date={DAY:%Y-%m-%d}"
    whole = (day / "part-0.parquet").read_bytes()
    for spoil in DAMAGES:
        spoil(day / "part-0.parquet")
        with pytest.raises(ArchiveFault, match="its archive"):
            recomputed(db, database, HOURS[:1])
        assert state(db) == before, spoil
        shutil.rmtree(day)
        day.mkdir()
        (day / "part-0.parquet").write_bytes(whole)
    recomputed(db, database, HOURS[:1])
    assert state(db) != before


def test_a_day_whose_archive_is_not_verified_is_refused(db, database):
    for how_far in ("planned", "frozen", "detached", "archived"):
        db.execute("UPDATE retention_removals SET state = %s WHERE lower_bound = %s", (how_far, DAY))
        with pytest.raises(ConfigurationError, match="nothing before can be recomputed: begin there"):
            backfill.plan(db, HOURS)
        with pytest.raises(ConfigurationError, match="no verified archive holds them"):
            recompute_hour(database, HOURS[0], run_id="r")
        with pytest.raises(
            ConfigurationError, match=rf"raw events of {DAY:%Y-%m-%d} are gone .*leave them out"
        ):
            backfill.plan(db, [*HOURS, NEXT])


@pytest.mark.slow
def test_levels_that_retention_let_go_are_left_out(db, database):
    truth = state(db)
    let_levels_go(db, "1m", "5m")
    damage(db)
    found = recomputed(db, database)
    assert {one.interval for one in found[0].differences} == {"15m", "1h"}
    assert state(db) == of_levels(truth, "15m", "1h", "1d")


@pytest.mark.slow
def test_minutes_without_states_keep_what_their_states_told(db, database):
    """1m states go with raw events: what is left is compared without them, and nothing looks different."""
    truth = state(db)
    let_go(db, "metric_states_1m")
    assert [result.differences for result in recomputed(db, database)] == [[], [], []]
    damage(db)
    recomputed(db, database)
    assert state(db) == [truth[0], *of_levels(truth[1:2], "5m", "15m", "1h", "1d"), truth[2]]


@pytest.mark.slow
def test_a_day_without_hours_is_recomputed_whole_and_only_so(db, database):
    truth = of_levels(state(db), "1d")
    let_levels_go(db, "1m", "5m", "15m", "1h")
    for part in (HOURS, EVERY_HOUR[1:], EVERY_HOUR[:-1]):
        with pytest.raises(ConfigurationError, match="only as a whole: take in all of it or none"):
            backfill.plan(db, part)
    with pytest.raises(ConfigurationError, match="only the whole day can be"):
        recompute_hour(database, HOURS[0], run_id="r")
    damage(db)
    damaged = state(db)
    [preview] = recomputed(db, database, EVERY_HOUR, write=False)
    assert state(db) == damaged
    [found] = recomputed(db, database, EVERY_HOUR)
    assert (found.hour, found.hours, found.events, set(found.rows)) == (DAY, 24, 600, {"1d"})
    assert found.differences == preview.differences
    assert {one.interval for one in found.differences} == {"1d"}
    assert state(db) == truth


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [False, True])
def test_an_archived_day_keeps_to_its_verdicts(db, database, is_whole):
    """All places of event types but two went to others when the day landed."""
    metric = BUILT_IN.by_name["events.count"]
    level, kept = "1d" if is_whole else "1h", ("order.placed", "user.login")
    counts = (
        "SELECT dimensions ->> 'event_type', sum(count)::bigint FROM metric_aggregations WHERE metric_id = %s"
        " AND dimension_set = 'event_type' AND interval = %s AND time_bucket < %s GROUP BY 1"
    )
    before = dict(db.execute(counts, (metric.metric_id, level, NEXT)).fetchall())
    for kinds in (kept, tuple(map(str, range(metric.series_limit - 2)))):
        db.execute(
            "INSERT INTO metric_series SELECT %s, %s, 'event_type', jsonb_build_object('event_type', kind)"
            " FROM unnest(%s::text[]) AS kind",
            (DAY, metric.metric_id, list(kinds)),
        )
    if is_whole:
        let_levels_go(db, "1m", "5m", "15m", "1h")
    recomputed(db, database, EVERY_HOUR if is_whole else HOURS)
    expected = {kind: before[kind] for kind in kept}
    assert dict(db.execute(counts, (metric.metric_id, level, NEXT)).fetchall()) == {
        **expected,
        "__other__": sum(before.values()) - sum(expected.values()),
    }


def test_the_command_names_a_whole_day_and_lists_its_differences(db, database, tmp_path, monkeypatch, capsys):
    register(db, BUILT_IN.metrics)
    let_levels_go(db, "1m", "5m", "15m", "1h")
    db.execute("UPDATE metric_aggregations SET count = count + 1 WHERE metric_name = 'events.count'")
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    config = write_config(tmp_path, database, None, [])
    span = ("--from", f"{DAY:%Y-%m-%dT%H:%MZ}", "--to", f"{NEXT:%Y-%m-%dT%H:%MZ}", "--metric", "events.count")
    monkeypatch.setattr("sys.argv", command(config, *span))
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    shown = capsys.readouterr()
    [total] = [one.split() for one in shown.out.splitlines() if one.split()[2:4] == ["601", "600"]]
    assert total == [f"{DAY:%Y-%m-%d}", "events.count", "601", "600", "-1"]
    assert "24 hours recomputed from 600 raw events" in shown.out
    assert f"recomputed {DAY:%Y-%m-%d} whole: 600 events (24 of 24 hours)" in shown.err


@pytest.mark.slow
def test_dagster_recomputes_an_archived_hour(db, database, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("B25_DATABASE__URL", database)
    monkeypatch.setenv("B25_LOCAL_STACK__STATE_FOLDER", str(tmp_path_factory.getbasetemp() / "dagster"))
    settings.cache_clear()
    truth = state(db)
    damage(db)
    with dg.DagsterInstance.ephemeral() as instance:
        levels = tuple(level for level in LEVELS if level != "1d")
        assert run(instance, "recompute_hours", levels, hour_key(HOURS[0])).success
    repaired = [row for row in truth[0] if row[0] == "1h" and row[1] == HOURS[0]]
    assert [row for row in state(db)[0] if row[0] == "1h" and row[1] == HOURS[0]] == repaired


@pytest.mark.slow
def test_whole_days_and_hours_of_one_range_are_noted_as_they_are_done(db, database, monkeypatch):
    let_levels_go(db, "1m", "5m", "15m", "1h")
    ensure_range(db, NEXT, NEXT)  # where the next day is of the same month, its hours are new
    if NEXT.month == DAY.month:
        monkeypatch.setattr(
            backfill,
            "kept",
            lambda _, day: archived_events.Kept(list(LEVELS) if day == NEXT else ["1d"], list(LEVELS)),
        )
    hours = [*EVERY_HOUR, NEXT + timedelta(hours=3)]
    planned = backfill.plan(db, hours)
    assert planned.whole_days == {DAY.date()}
    monkeypatch.setattr(backfill, "recompute_hour", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(backfill.carry_out(db, database, planned, run_id="b", before_hour=lambda: None))
    left = backfill.plan(db, hours)
    assert (left.hours, left.done) == (hours[24:], 24)


def test_nothing_is_left_to_recompute_where_the_days_are_gone_too(db):
    let_levels_go(db, *LEVELS)
    with pytest.raises(ConfigurationError, match=rf"no rollups of {DAY:%Y-%m-%d} are kept any more"):
        backfill.plan(db, EVERY_HOUR)


@pytest.mark.slow
def test_each_archived_day_is_proved_once_a_run(db, database, monkeypatch):
    proved: list[str] = []
    whole: Callable[..., Any] = archived_events.read_contents

    def counted(folder: str, columns: list[str]) -> Any:
        proved.append(folder)
        return whole(folder, columns)

    monkeypatch.setattr(archived_events, "read_contents", counted)
    recomputed(db, database, [*HOURS[:2], NEXT + timedelta(hours=3)])
    assert [folder[-10:] for folder in proved] == [f"{DAY:%Y-%m-%d}", f"{NEXT:%Y-%m-%d}"]
