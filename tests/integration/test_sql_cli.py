"""`analytics sql`: reads, and only reads; a wrong statement is one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analytics_pipeline import cli
from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.settings import environment
from tests.integration.ingest_process import write_config

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    config = write_config(tmp_path, database, None, [])
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards

    def call(*arguments: str) -> tuple[int, str, str]:
        common = ("--config", str(config), "--state-folder", str(tmp_path / "none"))
        monkeypatch.setattr("sys.argv", ["analytics", "sql", *arguments, *common])
        try:
            code = cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_rows_are_shown_and_the_limit_said(run: Run) -> None:
    code, out, err = run(
        "SELECT n AS number, NULL AS nothing FROM generate_series(1, 3) AS n", "--limit", "2"
    )
    assert (code, [line.split() for line in out.splitlines()]) == (
        0,
        [["number", "nothing"], ["1", "–"], ["2", "–"]],
    )
    assert err == "there are more rows than 2: --limit shows more\n"
    code, out, _ = run("SELECT timestamptz '2026-05-15 12:00+02' AS at, '{\"a\": 1}'::jsonb AS j", "--json")
    assert (code, json.loads(out)) == (0, {"at": "2026-05-15 10:00:00+00:00", "j": {"a": 1}})


TIMES = """
SELECT '-infinity'::timestamptz AS a, 'infinity'::timestamp AS b, 'infinity'::date AS c, '0044-03-15 BC'::date AS d,
    '24:00'::time AS e, '1 mon'::interval AS f, ARRAY['infinity'::date] AS g, '2026-05-15 12:00+02'::timestamptz AS h
"""


def test_times_that_python_has_not_are_shown_as_postgres_has_them(run: Run) -> None:
    shown = {
        "a": "-infinity", "b": "infinity", "c": "infinity", "d": "0044-03-15 BC",
        "e": "24:00:00", "f": "1 mon", "g": ["infinity"], "h": "2026-05-15 10:00:00+00:00",
    }  # fmt: skip
    code, out, _ = run(TIMES, "--json")
    assert (code, json.loads(out)) == (0, shown)
    code, out, _ = run(TIMES)
    assert code == 0
    assert " ".join(out.splitlines()[1].split()) == (
        '-infinity infinity infinity 0044-03-15 BC 24:00:00 1 mon ["infinity"] 2026-05-15 10:00:00+00:00'
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM events", "cannot execute DELETE in a read-only transaction"),
        ("COMMIT; CREATE TABLE mine ()", "cannot insert multiple commands into a prepared statement"),
        ("SELECT * FROM event", 'relation "event" does not exist'),
        ("SELECT pg_sleep(30)", "canceling statement due to statement timeout"),
    ],
)
def test_what_writes_or_is_wrong_is_one_sentence(run: Run, statement: str, reason: str) -> None:
    code, out, err = run(statement, "--timeout", "1")
    assert (code, out) == (ConfigurationError.exit_code, "")
    assert err == f"error: Postgres refuses the statement: {reason}\n"
