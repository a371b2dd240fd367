"""Dashboards and rules, as files: well-formed, described, tested, linked. That there is data: tests/integration."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from analytics_pipeline import telemetry
from deploy.grafana.__main__ import files
from tests.watched import ROOT, alerts, dashboards, everything_asked, missing, recorded, rules, statements

PROMETHEUS = ROOT / "deploy/prometheus"
BOARDS = dashboards()
_UNITS = {"short", "ops", "reqps", "s", "ms", "d", "bytes", "Bps", "percent", "percentunit"}


def test_the_files_are_what_make_dashboards_writes() -> None:
    assert {path: path.read_text() for path in files()} == files(), "run make dashboards"
    assert {path.stem for path in files()} == BOARDS.keys() == {"pipeline", "api", "postgres", "business"}


@pytest.fixture(params=sorted(BOARDS))
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return BOARDS[request.param]


def test_a_dashboard_has_what_grafana_needs(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] >= 36
    assert board["uid"] == f"b25-{board['title'].split()[-1].lower()}"
    assert len(board["uid"]) <= 40
    assert "id" not in board  # Grafana's own
    assert board["timezone"] == "utc"


def test_addresses_of_dashboards_are_their_own() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len({b["title"] for b in BOARDS.values()}) == 4


def test_every_panel_says_what_it_means_and_what_is_normal(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS, panel["title"]
        text = panel["description"]
        assert len(text) > 15, panel["title"]
        assert text.endswith("."), panel["title"]
        if any("expr" in target for target in panel["targets"]):
            is_said = (
                "Normal:" in text or "Must be" in text or panel["title"] in {"Rows", "Redis and Postgres"}
            )
            assert is_said, panel["title"]


def test_panels_do_not_lie_on_each_other(board: dict[str, Any]) -> None:
    cells = Counter(
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    )
    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) < 24


def test_every_query_goes_to_a_source_that_is_provisioned(board: dict[str, Any]) -> None:
    folder = ROOT / "deploy/grafana/provisioning/datasources"
    known = {
        source["uid"]: source["type"]
        for path in folder.glob("*.yml")
        for source in yaml.safe_load(path.read_text())["datasources"]
    }
    for panel in board["panels"]:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for source in [panel["datasource"], *(target["datasource"] for target in panel["targets"])]:
            assert known[source["uid"]] == source["type"]


def test_series_are_declared_with_the_labels_asked_for() -> None:
    """The quick half: names and labels; that they have values is shown with a running pipeline."""
    declared: dict[str, set[str]] = {}
    for one in vars(telemetry).values():
        if isinstance(one, MetricWrapperBase):
            labels = set(one._labelnames)
            kind = one._type
            if kind == "histogram":
                declared |= {f"{one._name}_bucket": labels | {"le"}}
                declared |= {f"{one._name}_{part}": labels for part in ("count", "sum")}
            else:
                declared[one._name + ("_total" if kind == "counter" else "")] = labels
    for asked in everything_asked():
        assert asked.selectors, asked.where
        offered: set[str] = set()
        for selector in asked.selectors:
            if selector.name in recorded() or selector.name == "up":
                continue
            assert selector.name in declared, f"{asked.where}: nobody exports {selector.name}"
            offered |= declared[selector.name]
            assert {label for label, _, _ in selector.matchers} <= declared[selector.name], asked.where
        assert not offered or asked.labels <= offered, asked.where


def test_what_is_missing_is_found() -> None:
    """The reader of expressions sees names, labels and values."""
    everything = missing({})
    assert any("there is no analytics_events_ingested_total" in line for line in everything)
    lines = missing(
        {"analytics_processes": [{"colour": "red"}], "analytics_table_rows": [{"table": "events"}]}
    )
    assert "pipeline: Processes: nothing has the labels ['service']" in lines
    assert "AnalyticsIngestAway: analytics_processes has no label service" in lines
    assert "postgres: Dead rows: analytics_table_rows has no label state" in lines


def test_recorded_series_are_used_and_used_ones_are_recorded() -> None:
    used = {
        selector.name for asked in everything_asked() for selector in asked.selectors if ":" in selector.name
    }
    assert used == recorded()


_RUNBOOK = re.compile(r"\{\{ \$externalLabels\.docs \}\}/(?P<file>[\w/-]+\.md)(#(?P<anchor>[\w-]+))?")


def test_every_alert_has_a_severity_a_sentence_and_a_runbook() -> None:
    # One name for one thing; where its reasons have runbooks of their own, a rule for each.
    names = [(rule["alert"], rule["annotations"]["runbook_url"]) for rule in alerts()]
    assert len(set(names)) == len(names) > 20
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "warning"}, rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert _RUNBOOK.fullmatch(rule["annotations"]["runbook_url"]), rule["alert"]


def test_the_page_lists_every_alert_with_its_severity() -> None:
    page = (ROOT / "docs/watching.md").read_text()
    listed = re.findall(r"^\| `(Analytics\w+)` \| (page|warning) \|", page, re.MULTILINE)
    assert len(listed) == len(dict(listed))
    assert dict(listed) == {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_the_runbook_of_an_alert_is_there(rule: dict[str, Any]) -> None:
    match = _RUNBOOK.fullmatch(rule["annotations"]["runbook_url"])
    assert match is not None
    file = ROOT / "docs" / match["file"]
    assert file.is_file(), file
    assert not match["anchor"] or match["anchor"] in anchors(file)


def test_every_alert_is_tried_out() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    assert {test["name"] for test in tests} - {"a good day", "the words of an alert"} == {
        rule["alert"] for rule in alerts()
    }
    good_day = {series["series"].split("{")[0] for series in tests[0]["input_series"]}
    needed = {
        selector.name
        for rule in rules()
        for asked in everything_asked()
        if asked.where == rule.get("alert")
        for selector in asked.selectors
        if ":" not in selector.name
    }
    assert needed <= good_day


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(command: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    done = subprocess.run([promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_parentheses_and_braces_of_expressions_are_closed() -> None:
    """Where there is no promtool, a slip of the hand is still found."""
    expressions = [rule["expr"] for rule in rules()]
    expressions += [
        target["expr"]
        for board in BOARDS.values()
        for panel in board["panels"]
        for target in panel["targets"]
        if "expr" in target
    ]
    for expression in expressions:
        for opened, closed in ("()", "{}", "[]"):
            assert expression.count(opened) == expression.count(closed), expression
        assert expression.count('"') % 2 == 0, expression


def test_statements_leave_the_range_and_the_interval_to_grafana() -> None:
    found = dict(statements())
    assert len(found) > 10
    for where, statement in found.items():
        assert "$__timeFilter(time_bucket)" in statement, where
        assert "'$interval'" in statement, where
    [variable] = BOARDS["business"]["templating"]["list"]
    assert [option["value"] for option in variable["options"]] == ["1m", "5m", "15m", "1h", "1d"]
