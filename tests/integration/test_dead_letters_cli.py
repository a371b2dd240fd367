"""`analytics dead-letters` against a real Postgres: what a person reads, what a program reads, exit codes."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from analytics_pipeline.cli.dead_letter_display import printable
from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.settings import environment
from analytics_pipeline.storage import replays
from analytics_pipeline.storage.landing import Lander
from tests.commands import run_command
from tests.integration.ingest_process import write_config
from tests.integration.landing_rig import check_books, claim, event, execute, land, message, rows, value

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    config = write_config(tmp_path, database, None, [])

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        words = ["analytics", "dead-letters", command, *map(str, arguments)]
        return run_command(
            monkeypatch, capsys, [*words, "--config", str(config), "--state-folder", str(tmp_path / "none")]
        )

    return call


@pytest.fixture
def landed(database: str) -> list[int]:
    """Ids of four letters: not JSON, a number as user, a second of that, and one that a check refuses for now."""
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    lander = Lander(database, name="landing-test")
    headers = (("authorization", b"Bearer hunter2"), ("\x1b[31mred", None))
    sent = [
        message(0, b"\x1b[2J\x00\xff{broken\n" + "ü".encode(), name=b"key\x07", extra=headers),
        message(1, event(1, user_id=1)),
        message(2, event(2, user_id=2)),
        message(3, event(3, user_id="poison")),
        message(4, event(4)),
    ]
    land(lander, claim(database), sent)
    lander.close()
    return [row[0] for row in rows(database, "SELECT id FROM dead_letter_events ORDER BY source_offset")]


@pytest.mark.slow
def test_list_shows_one_line_each_and_obeys_the_filters(run: Run, landed: list[int]) -> None:
    code, out, _ = run("list")
    assert code == 0
    assert [line for line in ("not_json", "bad_user_id", "refused_by_database") if line not in out] == []
    assert "order.events/0@3" in out
    _, out, _ = run("list", "--reason", "bad_user_id", "--reason", "not_json", "--json")
    assert sorted(letter["id"] for letter in json.loads(out)) == landed[:3]
    _, out, _ = run("list", "--json", "--limit", 1)
    [newest] = json.loads(out)
    _, out, _ = run("list", "--json", "--before", newest["id"])
    assert len(json.loads(out)) == 3
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for nothing in (
        ["--type", "x"],
        ["--source", "x"],
        ["--producer", "x"],
        ["--since", soon],
        ["--until", "1h"],
        ["--status", "replayed"],
        ["--group", "x"],
        ["--id", 0],
    ):
        assert run("list", *nothing)[:2] == (0, "no dead letter matches\n"), nothing
    assert len(json.loads(run("list", "--since", "1h", "--status", "all", "--json")[1])) == 4


def test_groups_show_counts_shape_and_a_sample(run: Run, landed: list[int]) -> None:
    code, out, _ = run("groups")
    assert code == 0
    assert "user_id: number" in out
    assert "text beginning" not in out
    assert "bytes beginning with 1b" in out
    [largest, *_] = json.loads(run("groups", "--json")[1])
    assert (largest["count"], largest["reason"], largest["sample"]) == (2, "bad_user_id", landed[2])
    assert len(json.loads(run("list", "--group", largest["group"], "--json")[1])) == 2


def test_show_is_safe_for_a_terminal_and_tells_what_to_do(run: Run, landed: list[int]) -> None:
    code, out, _ = run("show", landed[0])
    assert code == 0
    assert "\x1b" not in out
    assert "\x00" not in out
    assert "\\x1b[2J\\x00\\xff{broken\\nü" in out
    assert "key\\x07" in out
    assert "authorization" in out
    assert "hunter2" not in out, "headers hold credentials: names and lengths are enough"
    assert "14 bytes" in out
    assert Reason.NOT_JSON.advice in out
    assert "order.events/0@0" in out
    assert "never replayed" in out
    _, out, _ = run("show", landed[0], "--bytes", 4)
    assert "the first 4 of 16 bytes" in out
    assert f"analytics dead-letters export --id {landed[0]}" in out
    record = json.loads(run("show", landed[0], "--json")[1])
    assert base64.b64decode(record["value_base64"]).startswith(b"\x1b[2J\x00\xff")
    code, _, err = run("show", 10**9)
    assert code == 1
    assert "analytics dead-letters list" in err


def test_export_writes_a_line_each_and_never_over_a_file(run: Run, landed: list[int], tmp_path: Path) -> None:
    code, out, err = run("export")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == landed
    assert "4 dead letters exported" in err
    path = tmp_path / "letters.ndjson"
    assert run("export", "--reason", "not_json", "--output", path)[0] == 0
    [record] = map(json.loads, path.read_text().splitlines())
    assert base64.b64decode(record["value_base64"]).endswith("ü".encode())
    code, _, err = run("export", "--output", path)
    assert code == 2
    assert "File exists" in err
    [request, *_] = map(json.loads, run("export", "--format", "kafka-rest")[1].splitlines())
    assert request["value"] == {"type": "BINARY", "data": record["value_base64"]}


def test_the_documented_program_produces_an_export_again(
    run: Run, landed: list[int], kafka: str, topic: Callable[..., str], tmp_path: Path
) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/dead-letters.md").read_text(), re.DOTALL)
    name = topic(partitions=1)
    run("export", "--output", tmp_path / "letters.ndjson")
    program = program.replace("localhost:9092", kafka).replace('letter["source"]', repr(name))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "test-letters"})
    consumer.assign([TopicPartition(name, 0, 0)])
    messages = consumer.consume(4, timeout=20)
    consumer.close()
    first = messages[0]
    assert len(messages) == 4
    assert first.value() == b"\x1b[2J\x00\xff{broken\n" + "ü".encode()
    assert first.key() == b"key\x07"
    assert first.headers() == [("authorization", b"Bearer hunter2"), ("\x1b[31mred", None)]


@pytest.mark.slow
def test_replay_tells_what_became_of_them(run: Run, landed: list[int], database: str) -> None:
    code, out, _ = run("replay", "--all", "--dry-run")
    assert code == 4
    assert "4 tried: 1 would be stored" in out
    assert value(database, "SELECT count(*) FROM events") == 1
    code, out, _ = run("replay", "--all", "--json")
    assert code == 4
    assert json.loads(out) == {
        "tried": 4,
        "stored": 0,
        "duplicate": 0,
        "still_bad": {"not_json": 1, "bad_user_id": 2, "refused_by_database": 1},
        "busy": 0,
        "reached": landed[3],
    }
    execute(database, "ALTER TABLE events DROP CONSTRAINT no_poison")
    code, out, _ = run("replay", "--reason", "refused_by_database")
    assert (code, out) == (0, "1 tried: 1 stored, 0 duplicates\n")
    assert run("replay", "--reason", "refused_by_database")[:2] == (
        0,
        "no open dead letter matches: nothing to replay\n",
    )
    code, out, _ = run("replay", "--all", "--limit", 1)
    assert code == 4
    assert f"1 still open, not_json: {Reason.NOT_JSON.meaning}" in out
    _, out, _ = run("show", landed[3])
    assert "landed by batch" in out
    check_books(database)


def test_a_replay_that_postgres_interrupts_says_how_far_it_came(
    run: Run, landed: list[int], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "ALTER TABLE events DROP CONSTRAINT no_poison")
    real = replays.replay

    def interrupted(*arguments: Any, **how: Any) -> Iterator[replays.Replayed]:
        yield from real(*arguments, **how)
        raise EnvironmentFault("Postgres could not land a batch (57P01)")

    monkeypatch.setattr(replays, "replay", interrupted)
    code, out, err = run("replay", "--reason", "refused_by_database")
    assert code == EnvironmentFault.exit_code
    assert "1 tried: 1 stored" in out
    assert "57P01" in err
    assert "run this again" in err
    assert value(database, "SELECT status FROM dead_letter_events WHERE id = %s", landed[3]) == "replayed"


def test_an_active_definition_judges_a_replay(run: Run, landed: list[int], database: str) -> None:
    execute(database, "ALTER TABLE events DROP CONSTRAINT no_poison")
    execute(
        database,
        "INSERT INTO custom_event_definitions (name, schema) VALUES ('order.placed', '{\"required\": [\"nothing\"]}')",
    )
    code, out, _ = run("replay", "--id", landed[3], "--json")
    assert code == 4
    assert json.loads(out)["still_bad"] == {"schema_violation": 1}
    execute(database, "UPDATE custom_event_definitions SET is_active = false")
    assert run("replay", "--id", landed[3])[0] == 0


def test_discard_needs_a_note_and_a_filter(run: Run, landed: list[int], database: str) -> None:
    assert run("discard", "--all")[0] == 2
    code, _, err = run("discard", "--note", "why")
    assert code == 2
    assert "--all" in err
    code, _, err = run("replay")
    assert code == 2
    assert "--all" in err
    assert run("discard", "--reason", "not_json", "--note", "a test")[:2] == (0, "1 dead letter discarded\n")
    assert "a test" in run("show", landed[0])[1]
    noted = rows(database, "SELECT route, subject FROM audit_log WHERE route LIKE '%dead-letters%'")
    assert noted == [("analytics dead-letters discard", "1 dead letters")]
    assert len(json.loads(run("list", "--json")[1])) == 3


@pytest.mark.parametrize(
    "wrong", [["--since", "yesterday"], ["--reason", "nonsense"], ["--until", "2024-01-01"]]
)
def test_wrong_arguments_are_told(run: Run, wrong: list[str]) -> None:
    code, _, err = run("list", *wrong)
    assert code == 2
    assert wrong[0] in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ü €", "plain ü €"),
        ("a\nb\t\x1b[1m\x7f\x9b", "a\\nb\\t\\x1b[1m\\x7f\\x9b"),
        (b"\xff\xfe\x00", "\\xff\\xfe\\x00"),
        ("\u202eright\u200b", "\\u202eright\\u200b"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
def test_nothing_reaches_the_terminal_but_text(raw: Any, shown: str) -> None:
    assert printable(raw) == shown
    assert printable(raw).isprintable()
