"""Every command with bad input: one sentence, its exit code, and never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from analytics_pipeline import cli
from analytics_pipeline.cli import completion, page
from analytics_pipeline.settings import environment
from tests.commands import run_command

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER", "B25_DATABASE__URL"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    monkeypatch.delenv("B25_DATABASE__URL")
    monkeypatch.setattr(cli.Shown, "tracebacks", False)
    monkeypatch.setattr("analytics_pipeline.ingest.cluster._TIMEOUT", 0.5)
    monkeypatch.setattr("analytics_pipeline.overview.watch._KAFKA_TIME", 0.5)
    nowhere = tmp_path / "config.yaml"
    nowhere.write_text(
        "database: {host: 127.0.0.1, port: 1}\nredis: {host: 127.0.0.1, port: 1}\n"
        "kafka: {brokers: ['127.0.0.1:1']}\nmetrics: {port: 1}\n"
    )

    def call(*arguments: str, config: Path = nowhere) -> tuple[int, str, str]:
        own = ("--config", str(config), "--state-folder", str(tmp_path / "none"))
        code, out, err = run_command(monkeypatch, capsys, ["analytics", *own, *arguments])
        assert "Traceback" not in out + err
        return code, out, err

    return call


ASKING_POSTGRES = [
    ("sql", "SELECT 1"),
    ("sources",),
    ("fate", "orders", "0", "1"),
    ("ledger", "verify"),
    ("ledger", "show"),
    ("offsets", "show"),
    ("offsets", "seek", "orders", "0", "1", "--yes"),
    ("offsets", "skip-to", "orders", "0", "1", "--yes"),
    ("dead-letters", "list"),
    ("dead-letters", "groups"),
    ("dead-letters", "show", "1"),
    ("dead-letters", "export"),
    ("dead-letters", "replay", "--all"),
    ("dead-letters", "discard", "--all", "--note", "x"),
    ("definitions", "list"),
    ("definitions", "show", "a"),
    ("definitions", "activate", "a"),
    ("definitions", "deactivate", "a"),
    ("definitions", "delete", "a"),
    ("keys", "list"),
    ("keys", "create", "a", "--scope", "read"),
    ("keys", "revoke", "a"),
    ("backfill", "--from", "1h"),
    ("maintain",),
    ("migrate",),
    ("query", "metrics", "trading.total_volume"),
    ("query", "events"),
]


@pytest.mark.parametrize("arguments", ASKING_POSTGRES, ids=" ".join)
def test_a_database_that_is_away_is_one_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert "error: Postgres cannot be reached: " in err
    assert "check database.host and database.port" in err
    assert "`analytics up`" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("sources", "--since", "soon"), "--since: 'soon' is no time and no age"),
        (("sources", "--since", "2026-05-15T12:00"), "has no zone"),
        (("ledger", "verify", "--since", "99999999999d"), "outside the calendar"),
        (("backfill", "--from", "soon"), "--from"),
        (("query", "metrics", "a", "--last", "soon"), "--last: write a duration"),
        (("query", "metrics", "a", "--last", "1h", "--from", "2h"), "--last stands instead of"),
        (("query", "metrics", "a", "--from", "soon"), "--from"),
        (("query", "events", "--to", "soon"), "--to"),
        (("query", "events", "--all"), "--all goes with --format"),
        (("query", "events", "--api", "ftp://x"), "--api: write the address"),
        (("query", "events", "--api", "http://127.0.0.1:x"), "--api: write the address"),
        (("query", "events", "--api-key-file", "/nowhere/key"), "cannot be read"),
        (("fate",), "give a topic"),
        (("fate", "--id", "x"), "no UUID"),
        (("keys", "create", "a", "--scope", "read", "--expires", "soon"), "--expires"),
        (("simulate", "--duration", "soon"), "--duration"),
        (("dead-letters", "discard", "--note", "x"), "say which dead letters"),
        (("dead-letters", "export", "--output", "/nowhere/file"), "give a file that can be made new"),
        (("definitions", "check", "a", "--schema", "/nowhere/file"), "cannot be read"),
        (("migrate", "--url", "postgres//nonsense"), "database.url is no connection string"),
    ],
)
def test_wrong_arguments_are_one_sentence(run: Run, arguments: tuple[str, ...], word: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert word in err
    assert len(err.splitlines()) == 1


def test_an_api_that_is_away_is_one_sentence(run: Run) -> None:
    code, _, err = run("query", "metrics", "a", "--api", "http://127.0.0.1:1")
    assert (code, "does not answer (ConnectionRefusedError): check --api" in err) == (3, True)


def test_a_configuration_file_that_is_missing_or_wrong(run: Run, tmp_path: Path) -> None:
    for arguments in (
        ("status",),
        ("sql", "SELECT 1"),
        ("query", "events"),
        ("up",),
        ("top", "--once"),
        ("ingest",),
    ):
        code, _, err = run(*arguments, config=tmp_path / "none.yaml")
        assert (code, "does not exist; check B25_CONFIG or --config" in err) == (2, True)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("database: {password_file: /nowhere/secret}\n")
    code, _, err = run("sql", "SELECT 1", config=wrong)
    assert (code, err) == (2, "error: database.password_file: /nowhere/secret cannot be read as text\n")


def test_doctor_tells_what_is_away_and_ends_with_1(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    told = {one["check"]: one for one in json.loads(out)["checks"] if one["level"] == "problem"}
    assert code == 1
    assert {"postgres", "kafka", "redis"} <= told.keys()
    assert all(one["advice"] for one in told.values())


def test_doctor_does_not_end_as_if_all_were_well_where_nothing_runs(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    ports = "".join(f"{name}: {{port: 0}}\n" for name in ("server", "metrics", "health", "dagster"))
    zero = ", ".join(f"{name}_port: 0" for name in ("kafka", "kafka_controller", "postgres", "redis"))
    empty.write_text(f"{ports}local_stack: {{{zero}}}\n")
    code, out, _ = run("doctor", config=empty)
    assert (code, out.splitlines()[-1].split(":")[0]) == (0, "nothing runs, so little was looked at")


def test_top_goes_on_without_servers(run: Run) -> None:
    code, out, _ = run("top", "--once", "--json")
    seen = json.loads(out)
    assert (code, seen["sources"]) == (0, [])
    assert {"postgres", "kafka", "metrics"} <= seen["problems"].keys()


def test_a_defect_is_one_sentence_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", app)
    code, _, err = run("status")
    assert code == 70
    assert err.startswith("error: this is a defect of `analytics` (ZeroDivisionError at __init__.py:")
    assert "--debug" in err


def test_debug_may_stand_before_the_command(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(cli.Shown, "tracebacks", False)
    monkeypatch.setenv("B25_CONFIG", environment()["B25_CONFIG"])
    monkeypatch.setattr(
        "sys.argv", ["analytics", "--debug", "status", "--config", str(tmp_path / "none.yaml")]
    )
    assert cli.main() == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_page_of_commands_is_up_to_date() -> None:
    assert (ROOT / "docs/cli.md").read_text() == page.page(), "run make docs"


def test_commands_that_print_facts_have_json() -> None:
    words = {
        "ingest", "api", "simulate",  # these run until stopped
        "metrics docs", "dead-letters export",  # a page, and JSON already
    }  # fmt: skip

    def each(command, path: str):
        for name, below in getattr(command, "commands", {}).items():
            yield from each(below, f"{path} {name}".strip())
        if not hasattr(command, "commands"):
            yield path, {option for one in command.params for option in getattr(one, "opts", ())}

    without = {path for path, options in each(get_command(cli.app), "") if "--json" not in options}
    assert without == words


@pytest.mark.parametrize(
    ("complete", "beginning", "some"),
    [
        (completion.services, "dagster-", {"dagster-code", "dagster-daemon"}),
        (completion.metric_names, "trading.", {"trading.total_volume", "trading.order_fill_rate"}),
        (completion.metric_names, "events.count.order.", {"events.count.order.placed"}),
        (completion.event_types, "order.", {"order.placed", "order.filled"}),
        (completion.definition_names, "", set()),
    ],
)
def test_names_are_completed_without_a_database_and_without_a_word(
    complete, beginning: str, some: set[str], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("B25_DATABASE__URL", "postgres://a@127.0.0.1:1/b")
    found = complete(beginning)
    assert some <= set(found)
    assert all(name.startswith(beginning) for name in found)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(run: Run, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1"
    )  # the shell of this test is nobody's
    code, out, _ = run("--show-completion", shell)
    assert code == 0
    assert "_ANALYTICS_COMPLETE" in out


def test_a_shell_completes_reasons_and_services(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["analytics"])
    monkeypatch.setenv("_ANALYTICS_COMPLETE", "complete_bash")
    for words, expected in (
        ("analytics dead-letters list --reason not_", "not_json"),
        ("analytics restart dagster-w", "dagster-webserver"),
        ("analytics query metrics trading.tot", "trading.total_volume"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            cli.main()
        assert expected in capsys.readouterr().out.split()
