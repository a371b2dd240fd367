"""Dead letters from before they could be replayed: grouped, and those marked by hand kept apart from replays."""

import shutil
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import project_file
from analytics_pipeline.storage.dead_letters import CONSERVED, Filter, groups
from analytics_pipeline.storage.migrations import migrate


def test_old_letters_are_carried_over(postgres: Postgres, tmp_path: Path) -> None:
    for path in project_file("sql/migrations").glob("000[1-5]_*.sql"):
        shutil.copy(path, tmp_path)
    name = "test_old_dead_letters"
    with psycopg.connect(postgres.superuser_conninfo(), autocommit=True) as server:
        server.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(postgres.user))
        )
        try:
            with psycopg.connect(make_conninfo(postgres.conninfo(), dbname=name)) as opened:
                migrate(opened, tmp_path)
                for status in ("open", "open", "replayed", "discarded"):
                    opened.execute(
                        "INSERT INTO dead_letter_events (batch_id, source, partition, source_offset, reason, detail,"
                        " status) VALUES (1, 'a', 0, 1, 'not_json', 'why', %s)",
                        (status,),
                    )
                opened.execute(
                    "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored,"
                    " duplicate, dead, catalog_version) VALUES (1, 'a', 0, 0, 4, 4, 0, 0, 4, '')"
                )
                migrate(opened)
                found = opened.execute("SELECT status, note FROM dead_letter_events ORDER BY id").fetchall()
                assert found == [
                    ("open", None),
                    ("open", None),
                    ("discarded", "marked as replayed by hand"),
                    ("discarded", "marked as discarded by hand"),
                ]
                [group] = groups(opened, Filter(), limit=10)
                assert (group.count, group.open, len(group.group)) == (4, 2, 16)
                assert all(ledger == table for _, ledger, table in opened.execute(CONSERVED))
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
