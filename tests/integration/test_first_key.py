"""The first `analytics up` of an API that asks for keys shows one, once, to whoever started it."""

import json
import re

import pytest
from typer.testing import CliRunner

from analytics_pipeline.cli import app
from analytics_pipeline.local_stack import detached
from analytics_pipeline.local_stack.first_key import first_key
from analytics_pipeline.settings import settings
from analytics_pipeline.storage.api_keys import list_keys
from tests.integration.api_support import running

KEY = re.compile(r"b25_[0-9a-f]{12}_\w+")


@pytest.fixture(autouse=True)
def with_keys(monkeypatch: pytest.MonkeyPatch, db: object) -> None:
    monkeypatch.setenv("B25_SECURITY__API_KEY_ENABLED", "true")
    monkeypatch.setenv("B25_REDIS__ENABLED", "false")
    settings.cache_clear()


def test_there_is_one_first_key_and_it_opens_everything(db):
    key = first_key(settings())
    assert key is not None
    assert first_key(settings()) is None
    [stored] = list_keys(db)
    assert (stored.name, list(stored.scopes)) == ("first", ["admin"])
    with running(settings()) as api:
        answer = api.request("GET", "/api/v1/keys", headers={"X-API-Key": key})
        assert answer.status_code == 200
        assert key not in answer.text
    [line] = db.execute("SELECT route FROM audit_log WHERE route = 'analytics up'").fetchall()
    assert line == ("analytics up",)


def test_where_nobody_asks_for_keys_none_is_made(db, monkeypatch):
    monkeypatch.setenv("B25_SECURITY__API_KEY_ENABLED", "false")
    settings.cache_clear()
    assert first_key(settings()) is None
    assert list_keys(db) == []


def test_up_in_the_background_leaves_the_key_to_whoever_started_it(db, monkeypatch):
    """Whatever the background process prints goes into a log."""
    asked = []
    monkeypatch.setattr(detached, "up", lambda _folder, arguments, _say: asked.append(arguments))
    monkeypatch.setattr(detached, "join", lambda _settings: None)
    first = CliRunner().invoke(app, ["up", "--detach"])
    assert first.exit_code == 0, first.output
    assert len(KEY.findall(first.output)) == 1
    assert "not shown again" in first.output
    assert KEY.findall(CliRunner().invoke(app, ["up", "--detach"]).output) == []
    assert all("--in-background" in arguments for arguments in asked)


def test_up_in_the_background_for_programs_prints_its_state_and_tells_people_apart(db, monkeypatch):
    monkeypatch.setattr(detached, "up", lambda _folder, _arguments, say: say("kafka is ready"))
    monkeypatch.setattr(detached, "join", lambda _settings: None)
    answer = CliRunner().invoke(app, ["up", "--detach", "--json"])
    assert json.loads(answer.stdout).keys() >= {"is_running", "is_ready", "addresses", "processes"}
    assert "kafka is ready" in answer.stderr
    assert len(KEY.findall(answer.stderr)) == 1
    alone = CliRunner().invoke(app, ["up", "--json"])
    assert (alone.exit_code, "give --detach as well" in alone.stderr) == (2, True)
