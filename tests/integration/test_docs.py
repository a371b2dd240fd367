"""Every SQL statement of the documentation runs on a migrated database."""

import re
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage.retention import write_policies

ROOT = Path(__file__).parents[2]
STATEMENTS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, block in enumerate(re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


def test_there_are_statements() -> None:
    assert len(STATEMENTS) > 10


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_documented_statement_runs(statement: str, database: str) -> None:
    with psycopg.connect(database) as connection:
        write_policies(connection, Retention())
        connection.execute(statement)


def test_the_documented_balances_hold_on_an_empty_database(database: str) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    [gaps] = [
        one for one in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "first_offset <> expected" in one
    ]
    with psycopg.connect(database) as connection:
        assert connection.execute(gaps).fetchall() == []
        connection.execute(
            "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored,"
            " duplicate, dead, catalog_version)"
            " VALUES (1, 'a', 0, 0, 5, 5, 5, 0, 0, ''), (2, 'a', 0, 6, 8, 2, 2, 0, 0, '')"
        )
        assert len(connection.execute(gaps).fetchall()) == 1


def test_the_clock_of_the_examples_is_utc(database: str) -> None:
    """`date_trunc('day', now(), 'UTC')` is what the pages use; it must be the start of the UTC day."""
    with psycopg.connect(database) as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        [[start]] = connection.execute("SELECT date_trunc('day', now(), 'UTC')").fetchall()
    assert start.astimezone(UTC).time() == datetime.min.time()
