"""`analytics metrics`: what is declared, where no database answers."""

import json
from collections.abc import Callable

import pytest

from analytics_pipeline.errors import ConfigurationError
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.catalog_page import page
from analytics_pipeline.settings import environment
from tests.commands import run_command
from tests.unit.rollups.test_declarations import metric

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path) -> Run:
    for name in ("B25_CONFIG", "B25_LOCAL_STACK__STATE_FOLDER"):
        monkeypatch.setenv(name, environment().get(name, ""))  # commands set these: put back afterwards
    nowhere = tmp_path / "config.yaml"
    nowhere.write_text("database: {host: 127.0.0.1, port: 1}\n")

    def call(*arguments: str) -> tuple[int, str, str]:
        common = (
            ()
            if arguments[0] == "docs"
            else ("--config", str(nowhere), "--state-folder", str(tmp_path / "none"))
        )
        return run_command(monkeypatch, capsys, ["analytics", "metrics", *arguments, *common])

    return call


def test_every_metric_is_listed_and_the_missing_database_said(run: Run) -> None:
    code, out, err = run("list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [one.name for one in BUILT_IN.metrics]
    assert err.startswith("only what is declared, because the database cannot be asked: ")
    listed = json.loads(run("list", "--json")[1])
    assert [one["metric_id"] for one in listed] == list(BUILT_IN.by_id)
    assert {one["versions"] is None for one in listed} == {True}


def test_one_metric_is_shown_with_the_place_of_its_declaration(run: Run) -> None:
    code, out, _ = run("show", "trading.order_fill_rate")
    assert code == 0
    for line in (
        "trading.order_fill_rate: Orders filled per order placed.",
        "unit           percent",
        "value          100 × order.filled ÷ order.placed",
        "precision      exact",
        f"declared at    {BUILT_IN.by_name['trading.order_fill_rate'].declared_at}",
        "complete since not known",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trading.order_fil_rate", "there is no metric 'trading.order_fil_rate'; did you mean trading.order_fill_rate"),
        ("", "there is no metric ''; `analytics metrics list` shows those there are"),
        ("\x1b[31m", r"there is no metric '\x1b[31m'"),
    ],
)  # fmt: skip
def test_an_unknown_metric_gets_one_sentence(run: Run, name: str, sentence: str) -> None:
    code, out, err = run("show", name)
    assert (code, out) == (ConfigurationError.exit_code, "")
    assert sentence in err


def test_a_misspelt_event_type_is_told_without_a_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from analytics_pipeline.rollups import catalog

    wrong = metric(name="my.fills", event_types=("order.filed", "some.other"))
    monkeypatch.setattr(catalog, "BUILT_IN", catalog.Catalog((wrong,)))
    for words in (("show", "my.fills"), ("list",), ("list", "--json")):
        code, out, err = run(*words)
        assert (code, "my.fills" in out) == (0, True)
        assert err.splitlines()[1:] == [
            f"warning: {wrong.declared_at}: metric 'my.fills': "
            "order.filed is no built-in or defined type: did you mean order.filled?"
        ]


def test_the_page_is_printed_as_it_is_stored(run: Run) -> None:
    assert run("docs") == (0, page(BUILT_IN), "")


def test_signs_of_tables_and_tags_in_a_declaration_do_not_break_the_page() -> None:
    from analytics_pipeline.rollups.catalog import Aggregation, Catalog

    one = metric(
        description="A <b>.", value="CASE WHEN symbol = 'a|b' THEN price END", aggregations=(Aggregation.AVG,)
    )
    lines = page(Catalog((one,))).splitlines()
    assert r"A \<b>." in lines
    assert r"| value | `CASE WHEN symbol = 'a\|b' THEN price END` |" in lines
