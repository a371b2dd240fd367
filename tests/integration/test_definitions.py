"""Versions of custom event definitions: made by every change, swapped while events stream, never mixed."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg import sql
from psycopg.conninfo import make_conninfo

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import environment, project_file
from analytics_pipeline.storage.definitions import (
    get_definition,
    list_versions,
    load_definitions,
    put_definition,
    set_active,
)
from analytics_pipeline.storage.migrations import migrate
from tests.commands import run_command
from tests.integration.api_support import event as stored_event
from tests.integration.api_support import land, running, settings_for
from tests.integration.ingest_process import ingest, produce, wait_until_landed, write_config
from tests.integration.landing_rig import check_books, event, execute, rows, value
from tests.waiting import wait_for

Topics = Callable[..., str]

INTEGER = {"required": ["x"], "properties": {"x": {"type": "integer"}}}
STRING = {"required": ["x"], "properties": {"x": {"type": "string"}}}


@pytest.fixture
def opened(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def versions(opened: psycopg.Connection[Any], name: str = "mine") -> list[tuple[int, dict[str, Any]]]:
    return [(one.version, one.schema) for one in list_versions(opened, name)]


def test_every_change_of_a_schema_is_a_version(opened: psycopg.Connection[Any]) -> None:
    assert put_definition(opened, "mine", INTEGER, display_name="Mine").version == 1
    assert put_definition(opened, "mine", INTEGER, description="the same schema").version == 1
    assert put_definition(opened, "mine", STRING).version == 2
    assert put_definition(opened, "mine", INTEGER).version == 3
    stored = get_definition(opened, "mine")
    assert (stored.display_name, stored.description, stored.schema) == ("Mine", "the same schema", INTEGER)
    assert stored.updated_at > stored.created_at
    assert versions(opened) == [(1, INTEGER), (2, STRING), (3, INTEGER)]


def test_plain_sql_makes_versions_too(opened: psycopg.Connection[Any]) -> None:
    schemas = [json.dumps(schema) for schema in (INTEGER, STRING)]
    opened.execute(
        "INSERT INTO custom_event_definitions (name, schema, version) VALUES ('mine', %s, 4)", schemas[:1]
    )
    opened.execute("UPDATE custom_event_definitions SET schema = %s, version = 1", schemas[1:])
    opened.execute("UPDATE custom_event_definitions SET version = 90")
    assert versions(opened) == [(4, INTEGER), (5, STRING)]
    # Made again, it goes on counting: stored events say version 5, and that stays the schema that judged them.
    opened.execute("DELETE FROM custom_event_definitions")
    opened.execute("INSERT INTO custom_event_definitions (name, schema) VALUES ('mine', %s)", schemas[:1])
    assert versions(opened) == [(4, INTEGER), (5, STRING), (6, INTEGER)]
    assert get_definition(opened, "mine").version == 6
    with pytest.raises(psycopg.errors.UniqueViolation):
        opened.execute("INSERT INTO custom_event_definitions (name, schema) VALUES ('mine', %s)", schemas[1:])
    assert len(versions(opened)) == 3


def test_concurrent_changes_get_versions_of_their_own(database: str, opened: psycopg.Connection[Any]) -> None:
    put_definition(opened, "mine", {})
    with psycopg.connect(database) as first:
        put_definition(first, "mine", INTEGER)
        with psycopg.connect(database, autocommit=True) as watcher, psycopg.connect(database) as second:
            thread = threading.Thread(target=put_definition, args=(second, "mine", STRING))
            thread.start()
            wait_for(
                lambda: (
                    watcher.execute(
                        "SELECT count(*) FROM pg_stat_activity"
                        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                    ).fetchone()
                    == (1,)
                )
            )
            first.commit()
            thread.join(10)
            second.commit()
    assert versions(opened) == [(1, {}), (2, INTEGER), (3, STRING)]


def test_every_change_is_announced(opened: psycopg.Connection[Any], database: str) -> None:
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("LISTEN custom_events")
        put_definition(opened, "mine", INTEGER)
        put_definition(opened, "mine", STRING)
        set_active(opened, "mine", False)
        opened.execute("DELETE FROM custom_event_definitions")
        assert len(list(listener.notifies(timeout=5, stop_after=4))) == 4


def test_a_definition_that_is_not_active_judges_nothing(opened: psycopg.Connection[Any]) -> None:
    put_definition(opened, "mine", INTEGER)
    assert set_active(opened, "mine", False).is_active is False
    assert load_definitions(opened)[0].types == frozenset()
    assert put_definition(opened, "mine", STRING).is_active is False
    assert set_active(opened, "mine", True).version == 2
    assert load_definitions(opened)[0].by_type["mine"].version == 2
    for name in ("other", "", "a\0b", "\ud800", "x" * 300):
        with pytest.raises(ConfigurationError):
            set_active(opened, name, True)


def test_definitions_from_before_versions_keep_theirs(postgres: Postgres, tmp_path: Path) -> None:
    for file in project_file("sql/migrations").glob("000[1-6]*.sql"):
        shutil.copy(file, tmp_path)
    with psycopg.connect(postgres.superuser_conninfo(), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE before_versions OWNER {}").format(sql.Identifier(postgres.user))
        )
        try:
            with psycopg.connect(make_conninfo(postgres.conninfo(), dbname="before_versions")) as connection:
                migrate(connection, tmp_path)
                connection.execute(
                    "INSERT INTO custom_event_definitions (name, schema, version) VALUES ('mine', %s, 3)",
                    (json.dumps(INTEGER),),
                )
                migrate(connection)
                assert versions(connection) == [(3, INTEGER)]
                assert put_definition(connection, "mine", STRING).version == 4
        finally:
            admin.execute("DROP DATABASE before_versions WITH (FORCE)")


@pytest.mark.slow
def test_each_event_of_a_stream_is_judged_by_the_version_it_is_stamped_with(
    database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    """Two schemas that exclude each other, swapped many times while messages stream that fit the one or the other."""
    name, swaps = topic(partitions=2), 12
    contents = [json.dumps({"event_type": "mine", "properties": {"x": x}}).encode() for x in (1, "1")]
    producer, sent = Producer({"bootstrap.servers": kafka, "linger.ms": 1}), 0
    with psycopg.connect(database, autocommit=True) as opened:
        put_definition(opened, "mine", INTEGER)
        with ingest(write_config(tmp_path, database, kafka, [name], batch_size=200)) as process:
            for swap in range(swaps):
                target = sent + 600
                while sent < target:
                    producer.produce(name, contents[sent % 2], partition=sent // 2 % 2)
                    sent += 1
                assert producer.flush(20) == 0
                if swap == 3:
                    set_active(opened, "mine", False)
                elif swap == 6:
                    set_active(opened, "mine", True)
                else:
                    put_definition(opened, "mine", (STRING, INTEGER)[swap % 2])
                wait_until_landed(database, name, sent - 300)
            wait_until_landed(database, name, sent)
            assert process.stop() == 0
        schemas = dict(versions(opened))
    assert len(schemas) >= swaps - 3
    stamped = rows(
        database,
        "SELECT definition_version, jsonb_typeof(properties -> 'x'), count(*) FROM events GROUP BY 1, 2",
    )
    judged = [(version, kind, count) for version, kind, count in stamped if version is not None]
    for version, kind, _ in judged:
        assert kind == {"integer": "number"}.get(schemas[version]["properties"]["x"]["type"], "string"), (
            version
        )
    dead = rows(
        database, "SELECT detail, convert_from(value, 'UTF8'), count(*) FROM dead_letter_events GROUP BY 1, 2"
    )
    for detail, content, _ in dead:
        version = int(detail.split("version ")[1].split(":")[0])
        expected = str if schemas[version]["properties"]["x"]["type"] == "string" else int
        assert not isinstance(json.loads(content)["properties"]["x"], expected), detail
    used = {version for version, _, _ in judged}
    print(
        f"versions used {sorted(used)} of {sorted(schemas)}, unjudged {sent - sum(c for *_, c in judged + dead)}"
    )
    assert len(used) >= swaps // 2, "the change never hit the stream"
    assert value(database, "SELECT count(*) FROM events WHERE definition_version IS NULL") > 0
    check_books(database)


def test_the_api_judges_by_a_changed_definition_soon(database: str) -> None:
    with running(settings_for(database)) as api, psycopg.connect(database, autocommit=True) as opened:
        body = {"event_type": "mine", "properties": {"x": 1}}

        def answered() -> int:
            return api.request("POST", "/api/v1/events", json=body).status_code

        put_definition(opened, "mine", STRING)
        api.soon(answered, 400)
        refused = api.post("/api/v1/events", body, expect=400)
        assert (refused["reason"], refused["path"]) == ("schema_violation", "$.properties.x")
        put_definition(opened, "mine", INTEGER)
        api.soon(answered, 201)
        put_definition(opened, "mine", STRING)
        api.soon(answered, 400)
        set_active(opened, "mine", False)
        api.soon(answered, 201)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    monkeypatch.setenv("B25_DATABASE__URL", database)

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", "definitions", *arguments])

    return call


@pytest.mark.slow
def test_a_schema_is_tried_on_stored_events_before_it_is_used(
    run: Run, database: str, kafka: str, topic: Topics, tmp_path: Path
) -> None:
    name = topic()
    start = datetime.now(UTC) - timedelta(minutes=10)
    contents = [
        {"price": 1, "secret-name": "secret-value"},
        {"price": "secret-value"},
        {"price": -1},
        {"legs": [{"price": 1}, {"price": -2}]},
        {"legs": [{"price": -2}]},
    ]
    sent = [
        json.dumps(
            event(
                number,
                event_type="mine",
                properties=content,
                timestamp=(start + timedelta(seconds=number)).isoformat(),
            )
        ).encode()
        for number, content in enumerate(contents * 3)
    ]
    with ingest(write_config(tmp_path, database, kafka, [name])) as process:
        produce(kafka, name, [*sent, json.dumps(event(99)).encode()])
        wait_until_landed(database, name, 16)
        assert process.stop() == 0
    price = {"type": "number", "minimum": 0}
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({"properties": {"price": price, "legs": {"items": {"properties": {"price": price}}}}})
    )

    code, out, _ = run("check", "mine", "--schema", str(schema), "--json")
    report = json.loads(out)
    assert code == 1
    assert (report["judged"], report["refused"]) == (15, 12)
    kinds = {(kind["path"], kind["keyword"]): kind["events"] for kind in report["kinds"]}
    assert kinds == {
        ("$.properties.price", "type"): 3,
        ("$.properties.price", "minimum"): 3,
        ("$.properties.legs[*].price", "minimum"): 6,
    }
    assert "secret" not in out
    code, out, _ = run("check", "mine", "--schema", str(schema), "--last", "5")
    assert code == 1
    assert "would refuse 4 of 5 events" in out
    assert "secret" not in out
    schema.write_text("{}")
    assert run("check", "mine", "--schema", str(schema))[:1] == (0,)
    code, out, _ = run("check", "nobody", "--schema", str(schema))
    assert (code, "nothing to judge" in out) == (0, True)
    assert value(database, "SELECT count(*) FROM custom_event_definitions") == 0, "check changes nothing"


@pytest.mark.slow
def test_definitions_are_set_listed_and_shown(run: Run, tmp_path: Path, database: str) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(INTEGER))
    assert run("list") == (0, "no definitions\n", "")
    assert (
        run("set", "mine", "--schema", str(schema), "--display-name", "[red]Mine")[1]
        == "version 1 is active\n"
    )
    schema.write_text(json.dumps(STRING))
    assert run("set", "mine", "--schema", str(schema))[1] == "version 2 is active\n"
    assert run("deactivate", "mine")[1] == "version 2 is not active\n"
    listed = json.loads(run("list", "--json")[1])
    assert [(one["name"], one["version"], one["is_active"], one["display_name"]) for one in listed] == [
        ("mine", 2, False, "[red]Mine")
    ]
    assert "[red]Mine" in run("list")[1]
    assert run("activate", "mine")[1] == "version 2 is active\n"
    assert json.loads(run("show", "mine")[1]) == STRING
    assert json.loads(run("show", "mine", "--version", "1")[1]) == INTEGER
    execute(database, "DELETE FROM custom_event_definitions")
    assert json.loads(run("show", "mine", "--json")[1])["versions"] == [1, 2]


@pytest.mark.slow
def test_a_change_says_what_it_would_have_refused(run: Run, tmp_path: Path, database: str) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(INTEGER))
    assert run("set", "mine", "--schema", str(schema)) == (
        0,
        "version 1 is active\n",
        "metrics new: custom.mine.x\n",
    )
    now = datetime.now(UTC)
    land(database, [stored_event("mine", now, x=1), stored_event("mine", now, x=2)])
    schema.write_text(json.dumps({"properties": {"x": {"maximum": 1}}}))
    assert run("set", "mine", "--schema", str(schema)) == (
        0,
        "version 2 is active\n",
        "would have refused 1 of the newest 2 stored events\nmetrics gone: custom.mine.x\n",
    )
    answer = json.loads(run("set", "mine", "--schema", str(schema), "--json")[1])
    assert answer["version"] == 2
    assert (answer["would_have_refused"]["judged"], answer["would_have_refused"]["refused"]) == (2, 1)
    assert [kind["keyword"] for kind in answer["would_have_refused"]["kinds"]] == ["maximum"]
    assert answer["metrics"] == {"added": [], "removed": []}
    schema.write_text(json.dumps({"properties": {"x": {"type": "number"}, "y": {"type": "integer"}}}))
    assert run("check", "mine", "--schema", str(schema))[1].endswith(
        "metrics new: custom.mine.x, custom.mine.y\n"
    )
    told = json.loads(run("check", "mine", "--schema", str(schema), "--json")[1])
    assert told["metrics"] == {"added": ["custom.mine.x", "custom.mine.y"], "removed": []}
    run("deactivate", "mine")
    told = json.loads(run("set", "mine", "--schema", str(schema), "--json")[1])
    assert told["metrics"] == {"added": [], "removed": []}, "it is not active"


def test_what_looks_like_a_typing_error_is_told(run: Run, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"requird": ["a"]}')
    sentence = "at #: requird is no keyword of JSON Schema and has no effect; did you mean required?"
    code, out, err = run("check", "mine", "--schema", str(schema))
    assert (code, err.replace("\n", " ")) == (0, f"warning: {sentence} ")
    assert run("set", "mine", "--schema", str(schema)) == (0, "version 1 is active\n", err), out
    for command in ("check", "set"):
        code, out, err = run(command, "mine", "--schema", str(schema), "--json")
        assert (code, json.loads(out)["warnings"], err) == (0, [sentence], "")


@pytest.mark.slow
def test_a_definition_is_deleted_unless_it_is_used(run: Run, tmp_path: Path, database: str) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(INTEGER))
    assert run("set", "mine", "--schema", str(schema))[0] == 0
    land(database, [stored_event("mine", datetime.now(UTC), x=1)])
    code, out, err = run("delete", "mine")
    assert (code, out) == (1, "")
    assert err.startswith("error: It is used: there are events of this type. Deactivate it")
    assert value(database, "SELECT count(*) FROM custom_event_definitions") == 1
    assert value(database, "SELECT count(*) FROM audit_log") == 0
    for table in ("events", "rollup_deltas", "pending_batches"):
        execute(database, f"DELETE FROM {table}")
    assert run("delete", "mine") == (0, "the definition is deleted; it was version 1\n", "")
    assert rows(database, "SELECT method, route, subject FROM audit_log") == [
        ("CLI", "analytics definitions delete", "mine")
    ]
    assert run("delete", "mine")[0] == 2
    assert json.loads(run("show", "mine", "--json")[1])["versions"] == [1]
    assert json.loads(run("set", "mine", "--schema", str(schema), "--json")[1])["version"] == 2
    assert json.loads(run("delete", "mine", "--json")[1]) == {"name": "mine", "deleted_version": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text", "sentence"),
    [
        (("show", "nobody"), "{}", "no definition of this name"),
        (("show", "mine", "--version", "9"), "{}", "no definition of this name and version"),
        (("activate", "nobody"), "{}", "no definition of this name"),
        (("set", "a\nb"), "{}", "no control characters"),
        (("set", ""), "{}", "1 to 255 characters"),
        (("set", "mine"), "", "is not JSON"),
        (
            ("set", "mine"),
            '{"$ref": "http://127.0.0.1:1/secret"}',
            "references may only lead inside the schema",
        ),
        (("check", "mine"), '{"properties": {"x": {"type": "secret"}}}', "at #/properties/x/type"),
        (("check", "mine"), None, "schema.json cannot be read: No such file or directory"),
        (("check", "mine"), b"\xff", "schema.json is not text in UTF-8"),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], text: str | bytes | None, sentence: str
) -> None:
    schema = tmp_path / "schema.json"
    if text is not None:
        schema.write_bytes(text.encode() if isinstance(text, str) else text)
    more = ("--schema", str(schema)) if arguments[0] in {"set", "check"} else ()
    code, out, err = run(*arguments, *more)
    assert (code, out) == (2, "")
    assert sentence in err.replace("\n", " ")
    assert "secret" not in err
    assert "Traceback" not in err
