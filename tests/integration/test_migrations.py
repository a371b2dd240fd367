"""Applying files one after the other, while others use the tables that they change."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage import migrations
from analytics_pipeline.storage.connection import Connection, connection
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.patience import Held
from tests.integration.databases import fresh_database
from tests.integration.landing_rig import rows

FIRST, SECOND, THIRD = (
    ("0001_first", "CREATE TABLE a (x integer)"),
    ("0002_second", "CREATE TABLE b (x integer)"),
    ("0003_third", "ALTER TABLE a ADD COLUMN y integer"),
)


@pytest.fixture
def empty(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without a table, in which nobody waits long for a lock."""
    monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", "50ms")
    yield from fresh_database(postgres, "template1")


def files(folder: Path, *files: tuple[str, str]) -> Path:
    for name, text in files:
        (folder / f"{name}.sql").write_text(text)
    return folder


def applied(database: str) -> list[str]:
    return [name for (name,) in rows(database, "SELECT name FROM schema_migrations ORDER BY version")]


def reader(database: str) -> Connection:
    """Somebody whose transaction has read a table."""
    opened = psycopg.connect(database, application_name="a long report")
    opened.execute("SELECT FROM a")
    return opened


def test_who_holds_a_table_is_named_and_files_before_it_stay_applied(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "ATTEMPTS", 2)
    with connection(empty, name="test") as opened:
        migrate(opened, files(tmp_path, FIRST))
        with reader(empty) as held:
            who = rf"0003_third .* process {held.info.backend_pid} \(a long report\), .* uses a: end that"
            with pytest.raises(Held, match=who):
                migrate(opened, files(tmp_path, SECOND, THIRD))
        assert applied(empty) == ["0001_first", "0002_second"]
        assert [one.name for one in migrate(opened, tmp_path)] == ["0003_third"]


def test_a_table_that_is_let_go_of_is_changed(empty: str, tmp_path: Path) -> None:
    told: list[str] = []
    with connection(empty, name="test") as opened:
        migrate(opened, files(tmp_path, FIRST))
        with reader(empty) as held:

            def tell(words: str) -> None:
                told.append(words)
                if "waits for" in words:
                    held.rollback()

            assert len(migrate(opened, files(tmp_path, SECOND, THIRD), tell=tell)) == 2
    assert told[:2] == ["applying 0002_second", "applying 0003_third"]
    assert told[2].startswith("0003_third waits for process ")


def test_a_file_that_fails_leaves_nothing_of_its_own_and_lets_others_migrate(
    empty: str, tmp_path: Path
) -> None:
    broken = ("0002_second", "CREATE TABLE b (x integer); SELECT 1 / 0")
    with connection(empty, name="test") as opened:
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrate(opened, files(tmp_path, FIRST, broken))
        assert applied(empty) == ["0001_first"]
        with connection(empty, name="test") as other:
            assert len(migrate(other, files(tmp_path, SECOND, THIRD))) == 2


def test_of_two_that_migrate_at_once_one_does_all(empty: str, tmp_path: Path) -> None:
    files(tmp_path, FIRST, SECOND, THIRD)
    done: list[int] = []

    def run() -> None:
        with connection(empty, name="test") as opened:
            done.append(len(migrate(opened, tmp_path)))

    both = [threading.Thread(target=run) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(timeout=20)
    assert sorted(done) == [0, 3]
