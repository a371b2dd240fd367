"""Raw events archived as Parquet before their partition is dropped: whole, proved, and resumed after any death."""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import archive as archiving
from analytics_pipeline.storage import removal, retention
from analytics_pipeline.storage.archive import Archive, ArchiveFault
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.partitions import ensure_range
from tests.integration.landed import Event, land

DAY = timedelta(days=1)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/archive"


@pytest.fixture
def archive(database: str, uri: str) -> Archive:
    return Archive(uri, database)


@pytest.fixture
def db(database: str, now: datetime, uri: str) -> Iterator[Connection]:
    """A database with events of six days, of which those of three are to be archived."""
    with connect(database, name="test", autocommit=True) as connection:
        ensure_range(connection, now - 6 * DAY, now)
        connection.execute("UPDATE retention_policies SET must_archive = false")
        keep = Retention(raw_events="3d", archive_uri=uri)
        land(connection, [one(now - n * DAY, row) for n in range(7) for row in range(n + 3)])
        retention.write_policies(connection, keep)
        connection.execute("UPDATE retention_state SET raw_floor = '1970-01-01+00'")
        yield connection


def one(at: datetime, row: int) -> Event:
    return Event("page.view", at - timedelta(microseconds=row), {"page": f"/ü/{row}"}, None, f"s{row}")


def name(day: datetime) -> str:
    return f"events_p{day:%Y%m%d}"


def run(db: Connection, now: datetime, archive: Archive | None) -> list[tuple[str, str]]:
    outcomes = retention.remove_expired(db, now=now, run_id="r", archive=archive)
    return [(each.partition, each.action) for each in outcomes if each.partition.startswith("events_")]


def stored(db: Connection, before: datetime) -> list[tuple[object, ...]]:
    """The rows of the days that go, as the archive has to show them."""
    query = (
        "SELECT id, event_type, user_id, session_id, properties::text, timestamp, created_at, source,"
        " source_partition, source_offset, is_late, definition_version FROM events"
        " WHERE timestamp < %s ORDER BY timestamp, id"
    )
    first_kept = before.replace(hour=0, minute=0, second=0, microsecond=0)
    return [tuple(row) for row in db.execute(query, (first_kept,))]


def archived(tmp_path: Path) -> list[tuple[object, ...]]:
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        return duck.execute(
            "SELECT id, event_type, user_id, session_id, properties, timestamp, created_at, source, source_partition,"
            f" source_offset, is_late, definition_version FROM '{tmp_path}/archive/events/*/*.parquet'"
            " ORDER BY timestamp, id"
        ).fetchall()


def tables(db: Connection) -> set[str]:
    rows = db.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'events_p%'")
    return {relation for (relation,) in rows}


def expired(now: datetime) -> list[str]:
    return [name(now - n * DAY) for n in (6, 5, 4)]


def test_expired_days_are_parquet_before_they_are_dropped(db, archive, now, tmp_path):
    rows = stored(db, now - 3 * DAY)
    assert len(rows) == 9 + 8 + 7
    assert run(db, now, archive) == [(day, "dropped") for day in expired(now)]
    assert archived(tmp_path) == rows
    assert not tables(db) & set(expired(now))
    files = sorted(str(path.relative_to(tmp_path / "archive")) for path in tmp_path.rglob("*.*"))
    assert files == [f"events/date={now - n * DAY:%Y-%m-%d}/part-0.parquet" for n in (6, 5, 4)]
    assert (
        pq.ParquetFile(next(tmp_path.rglob("*.parquet"))).metadata.row_group(0).column(0).compression
        == "ZSTD"
    )


def test_the_noted_hash_is_the_registers(db, archive, now):
    run(db, now, archive)
    differing = db.execute(
        "SELECT count(*) FILTER (WHERE archived_hash = set_hash AND archived_rows = event_count), count(*)"
        " FROM retention_removals INNER JOIN metric_buckets ON time_bucket = lower_bound AND interval = '1d'"
        " WHERE parent = 'events'"
    ).fetchone()
    assert differing == (3, 3)


def test_duckdb_reads_the_archive_with_the_documented_line(db, archive, now, tmp_path):
    run(db, now, archive)
    page = (Path(__file__).parents[2] / "docs/retention.md").read_text()
    [line] = re.findall(r"^SELECT .* FROM '/srv/archive/.*$", page, re.MULTILINE)
    line = line.replace("/srv/archive", f"{tmp_path}/archive").replace(
        "2024-05-15", f"{now - 5 * DAY:%Y-%m-%d}"
    )
    assert duckdb.sql(line).fetchall() == [("page.view", 8)]


def test_an_archive_that_was_verified_is_looked_at_again_before_a_later_run_drops(
    db, archive, now, tmp_path, monkeypatch
):
    rows = stored(db, now - 3 * DAY)
    whole = removal.patiently

    def dies(*arguments):
        if arguments[-1] == "the table":
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(removal, "patiently", dies)
    with pytest.raises(Killed):
        run(db, now, archive)
    monkeypatch.undo()
    [written] = tmp_path.rglob("*.parquet")
    written.unlink()
    assert run(db, now, archive)[0] == (expired(now)[0], "skipped")
    assert expired(now)[0] in tables(db)
    assert run(db, now, archive) == [(expired(now)[0], "dropped")]
    assert archived(tmp_path) == rows


def test_parts_that_a_killed_run_left_do_not_stay(db, archive, now, tmp_path, monkeypatch):
    rows = stored(db, now - 3 * DAY)
    whole = Archive.write

    def dies(self, partition):
        whole(self, partition)
        [written] = tmp_path.rglob("part-0.parquet")
        written.with_name("part-1.parquet").write_bytes(written.read_bytes())
        raise Killed

    monkeypatch.setattr(Archive, "write", dies)
    with pytest.raises(Killed):
        run(db, now, archive)
    monkeypatch.undo()
    assert run(db, now, archive) == [(day, "dropped") for day in expired(now)]
    assert archived(tmp_path) == rows


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def with_another_text(path: Path) -> None:
    """Still decodable, and the same events by number and hash: only a checksum can tell."""
    content = path.read_bytes()
    assert b"page.view" in content
    path.write_bytes(content.replace(b"page.view", b"page.vieW", 1))


def short_of_a_row(path: Path) -> None:
    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(1), path)


def with_another_event(path: Path) -> None:
    rows = pq.read_table(path, partitioning=None)
    ids = rows["id"].to_pylist()
    ids[0] = uuid.uuid4()
    pq.write_table(rows.set_column(0, rows.schema.field("id"), [ids]), path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [truncated, with_another_text, short_of_a_row, with_another_event, Path.unlink]
)
def test_a_damaged_archive_keeps_the_events_and_is_written_again(
    db, archive, now, tmp_path, monkeypatch, damage
):
    rows = stored(db, now - 3 * DAY)
    whole = Archive.write

    def damaged(self, partition):
        contents = whole(self, partition)
        damage(next(Path(self.folder(partition).removeprefix("file://")).glob("*.parquet")))
        return contents

    monkeypatch.setattr(Archive, "write", damaged)
    assert run(db, now, archive) == [(day, "skipped") for day in expired(now)]
    assert set(expired(now)) <= tables(db)
    monkeypatch.undo()
    assert run(db, now, archive) == [(day, "dropped") for day in expired(now)]
    assert archived(tmp_path) == rows


def test_files_of_somebody_else_are_never_overwritten(db, archive, now, tmp_path):
    theirs = tmp_path / "archive" / "events" / f"date={now - 5 * DAY:%Y-%m-%d}" / "part-0.parquet"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    outcomes = retention.remove_expired(db, now=now, run_id="r", archive=archive)
    assert [each.action for each in outcomes] == ["dropped", "skipped", "dropped"]
    assert "move them away" in outcomes[1].reason
    assert theirs.read_bytes() == b"theirs"
    assert expired(now)[1] in tables(db)


def test_an_archive_out_of_reach_keeps_the_events(db, archive, now, tmp_path):
    (tmp_path / "archive").write_text("a file where the folder should be")
    outcomes = retention.remove_expired(db, now=now, run_id="r", archive=archive)
    assert {each.action for each in outcomes} == {"skipped"}
    assert all("its archive file://" in each.reason for each in outcomes)
    assert set(expired(now)) <= tables(db)
    (tmp_path / "archive").unlink()
    assert run(db, now, archive) == [(day, "dropped") for day in expired(now)]


def test_a_full_disk_keeps_the_events(db, archive, now, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rows = stored(db, now - 3 * DAY)
    monkeypatch.setattr(archiving, "_set_hash", full)  # between two chunks
    outcomes = retention.remove_expired(db, now=now, run_id="r", archive=archive)
    assert {each.action for each in outcomes} == {"skipped"}
    assert "No space left on device" in outcomes[0].reason
    assert not list(tmp_path.rglob("*.parquet"))
    monkeypatch.undo()
    assert run(db, now, archive) == [(day, "dropped") for day in expired(now)]
    assert archived(tmp_path) == rows


def test_without_an_archive_nothing_goes_that_should_be_archived(db, now):
    assert run(db, now, None) == [(day, "skipped") for day in expired(now)]
    assert len(stored(db, now - 3 * DAY)) == 24


def test_cleanup_old_data_drops_only_what_is_verified(db, archive, now, tmp_path, monkeypatch):
    def cleanup() -> dict[str, str]:
        rows = db.execute("SELECT partition, action FROM cleanup_old_data() WHERE parent = 'events'")
        return dict(rows.fetchall())

    assert cleanup() == dict.fromkeys(expired(now), "skipped")
    monkeypatch.setattr(Archive, "read", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        run(db, now, archive)  # the first day is archived, and not verified
    monkeypatch.undo()
    assert "dropped" not in cleanup().values()
    assert expired(now)[0] in tables(db)
    whole = removal.patiently

    def dies(*arguments):
        if arguments[-1] == "the table":
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(removal, "patiently", dies)
    with pytest.raises(Killed):
        run(db, now, archive)  # now it is verified
    monkeypatch.undo()
    assert cleanup()[expired(now)[0]] == "dropped"
    assert tables(db) & set(expired(now)) == set(expired(now)[1:])


@pytest.mark.slow
def test_a_long_day_becomes_several_files(db, archive, now, tmp_path, monkeypatch):
    monkeypatch.setattr(archiving, "_PART_ROWS", 1)
    db.execute(
        "INSERT INTO events (id, event_type, properties, timestamp)"
        " SELECT md5(n::text)::uuid, 'x', jsonb_build_object('text', repeat(md5(n::text), 30)),"
        " %s - n * interval '1 microsecond' FROM generate_series(1, 40000) AS n",
        (now - 6 * DAY,),
    )
    expected = db.execute(f"SELECT count(*) FROM {expired(now)[0]}").fetchone()
    assert run(db, now, archive)[0] == (expired(now)[0], "dropped")
    parts = list((tmp_path / "archive" / "events" / f"date={now - 6 * DAY:%Y-%m-%d}").iterdir())
    assert len(parts) > 1
    assert (sum(pq.ParquetFile(part).metadata.num_rows for part in parts),) == expected


def test_an_empty_day_has_an_empty_file(db, archive, now, tmp_path):
    db.execute(f"TRUNCATE {expired(now)[0]}")
    assert run(db, now, archive)[0] == (expired(now)[0], "dropped")
    file = tmp_path / "archive" / "events" / f"date={now - 6 * DAY:%Y-%m-%d}" / "part-0.parquet"
    assert pq.ParquetFile(file).metadata.num_rows == 0


def test_the_preview_names_what_goes_and_changes_nothing(db, archive, now, uri):
    settings = Retention(raw_events="3d", archive_uri=uri)
    before = db.execute("SELECT * FROM retention_state").fetchall()
    told = retention.preview(db, settings, now=now)
    assert [(each.partition, each.reason) for each in told] == [
        (day, "archived, then dropped") for day in expired(now)
    ]
    assert all(each.bytes for each in told)
    assert db.execute("SELECT count(*) FROM retention_removals").fetchone() == (0,)
    assert db.execute("SELECT * FROM retention_state").fetchall() == before
    assert [partition for partition, _ in run(db, now, archive)] == [each.partition for each in told]


def remade(db: Connection, day: datetime) -> None:
    """Its partition, as maintenance of earlier versions made it anew where raw_events was raised."""
    db.execute("DELETE FROM frozen_days")
    ensure_range(db, day, day)


@pytest.mark.slow
def test_a_day_that_was_removed_is_not_made_anew(db, archive, now):
    run(db, now, archive)
    ensure_range(db, now - 6 * DAY, now)
    assert not set(expired(now)) & tables(db)


def test_the_archive_of_a_day_that_was_made_anew_stays(db, archive, now, tmp_path):
    rows = stored(db, now - 3 * DAY)
    run(db, now, archive)
    remade(db, now - 5 * DAY)
    assert run(db, now, archive) == [(expired(now)[1], "dropped")]
    assert archived(tmp_path) == rows
    noted = db.execute("SELECT archived_rows, state FROM retention_removals ORDER BY lower_bound").fetchall()
    assert noted == [(9, "dropped"), (8, "dropped"), (7, "dropped")]


def test_events_of_a_day_that_was_made_anew_are_neither_lost_nor_do_they_replace_its_archive(
    db, archive, now, tmp_path
):
    rows = stored(db, now - 3 * DAY)
    run(db, now, archive)
    remade(db, now - 5 * DAY)
    db.execute("INSERT INTO events (event_type, timestamp) VALUES ('by.hand', %s)", (now - 5 * DAY,))
    for _ in range(2):
        [outcome] = retention.remove_expired(db, now=now, run_id="r", archive=archive)
        assert (outcome.action, "made anew and has 1 events" in outcome.reason) == ("skipped", True)
    assert archived(tmp_path) == rows
    assert db.execute(f"SELECT event_type FROM {expired(now)[1]}").fetchall() == [("by.hand",)]


@pytest.mark.slow
def test_a_table_that_somebody_dropped_before_its_proof_is_told(db, archive, now, monkeypatch):
    def unreadable(*_: object) -> None:
        raise ArchiveFault("unreadable")

    with monkeypatch.context() as spoiled:
        spoiled.setattr(Archive, "read", unreadable)
        assert {action for _, action in run(db, now, archive)} == {"skipped"}
    db.execute(f"DROP TABLE {expired(now)[0]}")
    outcomes = retention.remove_expired(db, now=now, run_id="r", archive=archive)
    assert [each.action for each in outcomes] == ["skipped", "dropped", "dropped"]
    assert outcomes[0].reason == "somebody dropped its table before its archive was proved"
