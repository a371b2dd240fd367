"""`analytics import` and `analytics migrate` beside the original's database: words, exit codes, and what is refused."""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.errors import ConfigurationError, SchemaMismatch
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.migrations import check_schema, migrate
from tests.commands import run_command
from tests.integration.databases import fresh_database
from tests.integration.ingest_process import write_config
from tests.integration.landing_rig import execute, rows, value
from tests.integration.original_service import AS_WRITTEN, create_tables, event, history, past, store

PAGE = (Path(__file__).parents[2] / "docs/migrating.md").read_text()
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def theirs(postgres: Postgres) -> Iterator[str]:
    for conninfo in fresh_database(postgres, "template1"):
        create_tables(conninfo)
        rng = random.Random(7)
        store(conninfo, [*history(rng, 30, [2, 1]), event(rng, past(1), event_type="")])
        execute(
            conninfo,
            "INSERT INTO metric_aggregations (metric_name, interval, time_bucket, count)"
            " VALUES ('events.count.page.view', '1d', %s, 5)",
            past(400),
        )
        yield conninfo


@pytest.fixture
def run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER", "B25_DATABASE__URL"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    monkeypatch.delenv("B25_DATABASE__URL")
    config = write_config(tmp_path, database, None, [])

    def call(*words: object) -> tuple[int, str, str]:
        common = ["--config", str(config), "--state-folder", str(tmp_path / "none")]
        return run_command(monkeypatch, capsys, ["analytics", *map(str, words), *common])

    return call


@pytest.mark.slow
def test_a_dry_run_and_a_run_tell_of_each_day(run: Run, database: str, theirs: str) -> None:
    older, newer = past(2).date(), past(1).date()
    code, out, err = run("import", "--from-url", theirs, "--dry-run")
    assert (code, value(database, "SELECT count(*) FROM events")) == (0, 0)
    assert f"{older}: 30 events: 30 would be stored, 0 duplicate, 0 dead\n" in out
    assert f"{newer}: 31 events: 30 would be stored, 0 duplicate, 1 dead (bad_event_type 1)\n" in out
    assert f"2 days with events, {older} to {newer}" in err
    assert "left: 1 rows of their metric_aggregations" in err
    assert "61 events: 60 would be stored, 0 duplicate, 1 dead" in err
    code, out, err = run("import", "--from-url", theirs, "--from", older, "--to", newer, "--yes", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "day": older.isoformat(), "read": 30, "stored": 30, "duplicate": 0, "dead": 0, "reasons": {}, "younger": 0,
            "unchanged": False,
        }
    ]  # fmt: skip
    assert f"left: 31 events from {newer} on" in err
    code, out, err = run("import", "--from-url", theirs, "--yes")
    assert code == 0
    assert f"{older}: 30 events: 30 stored, 0 duplicate, 0 dead; done before, unchanged\n" in out
    assert "each day agrees with the original's by type and by hash" in err
    assert value(database, "SELECT count(*) FROM events") == 60
    code, out, _ = run("ledger", "verify")
    assert code == 0, out


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(run: Run, database: str, theirs: str) -> None:
    blocks = re.findall(r"^ *```sh\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    commands = [line.split("#")[0].split() for block in blocks for line in block.strip().splitlines()]
    assert len(commands) == 5
    for name, *words in commands:
        assert name == "analytics"
        code, _, err = run(*[theirs if word.startswith("postgres://") else word for word in words])
        assert code == 0, (words, err)
    [comparison] = re.findall(r"^    ```sql\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    kept = [row for row in rows(theirs, comparison) if row[1]]  # the one that breaks a rule has an empty type
    assert rows(database, comparison) == kept
    assert sum(row[2] for row in kept) == 60


def test_nobody_to_be_asked(run: Run, database: str, theirs: str) -> None:
    code, out, err = run("import", "--from-url", theirs)
    assert (code, out) == (2, "")
    assert "give --yes, or --dry-run first" in err
    assert value(database, "SELECT count(*) FROM import_days") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--from", "yesterday"], 2, "--from: 'yesterday' is no time and no age"),
        (["--from", "400d"], 2, "raw events are kept from"),
        (["--from", "1d", "--to", "2d"], 2, "is not before --to"),
    ],
)
def test_wrong_arguments(run: Run, theirs: str, arguments: list[str], code: int, words: str) -> None:
    found, _, err = run("import", "--from-url", theirs, "--yes", *arguments)
    assert (found, words in err) == (code, True), err
    assert "Traceback" not in err


def test_a_database_that_is_not_the_originals(run: Run, database: str) -> None:
    code, _, err = run("import", "--from-url", database, "--yes")
    assert code == 2
    assert "does not hold the original service's tables" in err
    code, _, err = run("import", "--from-url", "postgres://nobody:hunter2@127.0.0.1:1/none", "--yes")
    assert (code, "--from-url: Postgres cannot be reached" in err, "hunter2" in err) == (3, True, False)
    assert "database.host" not in err, "that is of our own database"
    code, _, err = run("import", "--from-url", "hunter2", "--yes")
    assert (code, "no address of a database" in err, "hunter2" in err) == (2, True, False)


def test_migrate_refuses_the_originals_database(run: Run, theirs: str) -> None:
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = value(theirs, tables)
    code, out, err = run("migrate", "--url", theirs)
    assert (code, out) == (2, "")
    assert "this database is the original service's" in err
    assert "`analytics import --from-url`" in err
    assert value(theirs, tables) == before


def test_every_process_refuses_the_originals_database(theirs: str) -> None:
    with (
        connection(theirs, name="test") as opened,
        pytest.raises(SchemaMismatch, match="analytics import"),
    ):
        check_schema(opened)


def test_migrate_recognises_it_without_the_tables_that_its_migration_cannot_make(postgres: Postgres) -> None:
    for conninfo in fresh_database(postgres, "template1"):
        create_tables(conninfo)
        for name in AS_WRITTEN:
            execute(conninfo, f"DROP TABLE {name}")
        with connection(conninfo, name="test") as opened, pytest.raises(ConfigurationError, match="original"):
            migrate(opened)
        execute(conninfo, "DROP TABLE custom_event_definitions")
        with (
            connection(conninfo, name="test") as opened,
            pytest.raises(
                ConfigurationError, match=r"did not create \(dashboard_metrics, events, metric_agg"
            ),
        ):
            migrate(opened)


@pytest.mark.parametrize("statement", AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_no_postgres_makes_these_tables_as_the_originals_migration_writes_them(
    theirs: str, statement: str
) -> None:
    with psycopg.connect(theirs) as opened, pytest.raises(psycopg.errors.FeatureNotSupported):
        opened.execute(statement.replace("CREATE TABLE ", "CREATE TABLE another_"))


def test_the_tables_it_has_are_ours_too(database: str, theirs: str) -> None:
    """Their queries go on: each table and column is here under the same name."""
    columns = """
    SELECT relname, attname FROM pg_attribute INNER JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'm') AND NOT relispartition
        AND attnum > 0 AND NOT attisdropped
    """
    there = {row for row in rows(theirs, columns) if row != ("dashboard_metrics", "events")}
    assert there - set(rows(database, columns)) == set()
