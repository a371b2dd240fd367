"""`analytics keys` against a real Postgres, and secrets that are nowhere but in the hands of who made the key."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from analytics_pipeline.settings import environment
from analytics_pipeline.storage.api_keys import create_first_key, hash_of, id_of, new_key
from analytics_pipeline.storage.connection import connect
from tests.commands import run_command
from tests.integration.api_process import started
from tests.integration.ingest_process import write_config
from tests.waiting import wait_for

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    config = write_config(tmp_path, database, None, [])

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        words = ["analytics", "keys", command, *map(str, arguments)]
        own = ["--config", str(config), "--state-folder", str(tmp_path / "none")]
        return run_command(monkeypatch, capsys, [*words, *own])

    return call


@pytest.mark.slow
def test_create_list_revoke(run: Run, database: str) -> None:
    code, out, err = run(
        "create", "desk 3", "--scope", "read", "--scope", "write", "--expires", "90d", "--event-type", "order.*",
        "--dimension", "strategy_id=a, b", "--dimension", "symbol=X",
    )  # fmt: skip
    assert code == 0
    text = out.strip()
    key_id = id_of(text.encode())
    assert key_id is not None
    assert key_id in err
    assert "keys are off here (security.api_key_enabled)" in err
    assert text not in err
    with psycopg.connect(database) as connection:
        [(kept, everything)] = connection.execute("SELECT hash, api_keys::text FROM api_keys").fetchall()
        noted = connection.execute("SELECT method, route, subject FROM audit_log").fetchall()
    assert kept == hash_of(text.encode())
    assert text[17:] not in everything
    assert noted == [("CLI", "analytics keys create", key_id)]
    code, out, _ = run("list", "--json")
    [listed] = json.loads(out)
    assert (listed["id"], listed["state"], listed["scopes"]) == (key_id, "active", ["read", "write"])
    assert listed["dimensions"] == {"strategy_id": ["a", "b"], "symbol": ["X"]}
    expires = datetime.fromisoformat(listed["expires_at"])
    assert timedelta(days=89.9) < expires - datetime.now(UTC) < timedelta(days=90.1)
    _, out, _ = run("list")
    assert "desk 3" in out
    assert key_id in out
    assert "hash" not in out
    code, out, _ = run("revoke", key_id)
    assert (code, "is revoked since" in out) == (0, True)
    assert run("revoke", key_id) == (0, out, "")
    _, out, _ = run("list", "--json")
    assert json.loads(out)[0]["state"] == "revoked"
    for unknown in ("000000000000", "x", "b25_x"):
        code, _, err = run("revoke", unknown)
        assert (code, "analytics keys list" in err) == (2, True)


def test_json_and_only_if_there_is_none(run: Run) -> None:
    code, out, _ = run("create", "first", "--scope", "admin", "--if-none", "--json")
    made = json.loads(out)
    assert (code, made["scopes"], id_of(made["key"].encode())) == (0, ["admin"], made["id"])
    assert run("create", "first", "--scope", "admin", "--if-none", "--json") == (0, "null\n", "")
    assert run("revoke", made["id"])[0] == 0
    code, out, _ = run("create", "first", "--scope", "admin", "--if-none")
    assert (code, "none was made" in out) == (0, True)


def test_of_two_first_keys_at_once_one_is_made(database: str) -> None:
    def make(connection: Any) -> Any:
        return create_first_key(connection, new_key("first", ["admin"], now=datetime.now(UTC)))

    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with (
        connect(database, name="test") as first,
        connect(database, name="test") as second,
        connect(database, name="test", autocommit=True) as third,
        ThreadPoolExecutor(1) as pool,
    ):
        assert make(first) is not None
        other = pool.submit(make, second)
        wait_for(lambda: other.done() or third.execute(waiting).fetchone() == (1,))
        first.commit()
        assert other.result(10) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--scope", "root"], "scopes"),
        (["--scope", "read", "--expires", "soon"], "--expires"),
        (["--scope", "read", "--expires", "99999999999d"], "--expires"),
        (["--scope", "read", "--expires", "0s"], "expires_at"),
        (["--scope", "admin", "--event-type", "a"], "admin"),
        (["--scope", "read", "--dimension", "strategy_id"], "dimensions"),
        (["--scope", "read", "--dimension", "=a"], "dimensions"),
        (["--scope", "read", "--event-type", "*a"], "event_types"),
    ],
)
def test_what_makes_no_key_is_one_sentence(run: Run, database: str, arguments: list[str], word: str) -> None:
    code, out, err = run("create", "a", *arguments)
    assert (code, out) == (2, "")
    assert word in err
    assert "Traceback" not in err
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM api_keys").fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_no_log_line_has_a_secret(database: str, tmp_path: Path, form: str) -> None:
    """A process on every address, with good and bad keys everywhere a key can be put, and a defect on the way."""
    with connect(database, name="test") as connection:
        key = new_key("logged", ["read", "write", "admin"], now=datetime.now(UTC))
        assert create_first_key(connection, key) is not None
        connection.commit()
    bad = key.text[:-6] + "badbad"
    with started(
        database,
        B25_SECURITY__API_KEY_ENABLED="true",
        B25_LOGGING__LEVEL="debug",
        B25_LOGGING__FORMAT=form,
    ) as process:
        wait_for(lambda: process.ask("SERVER", "/ready")[0] == 200, timeout=40, message="/ready")
        url = f"http://127.0.0.1:{process.ports['SERVER']}"
        with httpx.Client(base_url=url, timeout=20) as client:
            wait_for(lambda: client.get("/api/v1/session", headers={"X-API-Key": key.text}).is_success)
            seen = [key.text, bad]
            for text in (key.text, bad):
                for headers in ({"X-API-Key": text}, {"Authorization": f"Bearer {text}"}):
                    made = client.post(
                        "/api/v1/keys", headers=headers, json={"name": "more", "scopes": ["read"]}
                    )
                    if made.is_success:
                        seen.append(made.json()["key"])
                    opened = client.post("/api/v1/session", headers=headers)
                    if opened.is_success:
                        seen += [opened.cookies["b25_session"], opened.json()["csrf_token"]]
                    client.post("/api/v1/events", headers=headers, content=b"{")
                    client.get(f"/api/v1/custom-events/{text}", headers=headers)
            # A defect: the statement fails in a way that no one expects, with the key's headers on the stack.
            with psycopg.connect(database) as connection:
                connection.execute("ALTER TABLE api_keys RENAME COLUMN name TO title")
            broken = client.get("/api/v1/keys", headers={"X-API-Key": key.text})
            assert broken.status_code == 500
        process.running.terminate()
        _, errors = process.running.communicate(timeout=30)
    assert "request_failed" in errors
    assert len(seen) == 8
    assert [text for text in seen if text[-20:] in errors] == []


def test_the_command_is_there() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "analytics_pipeline", "keys", "--help"], capture_output=True, text=True
    )
    assert all(word in shown.stdout for word in ("create", "list", "revoke"))
