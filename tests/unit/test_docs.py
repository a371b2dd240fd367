"""The documentation says what the code does: tables are compared with the declarations, links with the files."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr

from analytics_pipeline import telemetry
from analytics_pipeline.cli import app
from analytics_pipeline.events.decode import decode_posted
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.reasons import Reason
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.catalog_page import page
from analytics_pipeline.settings import ORIGINAL_VARIABLES, Section, Settings, parse_duration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def rows(page: str, first_cell: str = r"`[^`]+`") -> Iterator[list[str]]:
    """Cells of the table rows whose first cell looks like that."""
    for line in (ROOT / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and re.fullmatch(first_cell, cells[0]):
            yield cells


def keys(section: Section, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def is_shown(value: object, text: str) -> bool:
    """Whether the cell of a default says the value."""
    if value is None or value in ([], {}) or (isinstance(value, SecretStr) and not value):
        return text == "–"
    inner = text.strip("`")
    match value:
        case bool():
            return inner == str(value).lower()
        case timedelta():
            return parse_duration(inner) == value
        case list():
            return inner == ", ".join(value)
        case float():
            return float(inner) == value
        case _:
            return inner == str(value)


def test_every_setting_is_described_with_its_default() -> None:
    described = {cells[0].strip("`"): cells for cells in rows("docs/configuration.md")}
    known = dict(keys(Settings()))
    assert described.keys() == known.keys()
    wrong = {key: described[key][1] for key, value in known.items() if not is_shown(value, described[key][1])}
    assert wrong == {}
    assert all(cells[2] for cells in described.values())


def test_the_originals_variables_are_named() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert all(f"`{name}`" in text for name in ORIGINAL_VARIABLES)


def test_the_readme_names_settings_that_exist_with_their_defaults() -> None:
    known = dict(keys(Settings()))
    described = [cells for cells in rows("README.md", r"`[a-z_]+(\.[a-z_]+)+`") if len(cells) == 3]
    assert described
    for key, default, _ in described:
        assert is_shown(known[key.strip("`")], default), key


def test_the_page_of_the_catalog_is_up_to_date() -> None:
    assert (ROOT / "docs/metrics-catalog.md").read_text() == page(BUILT_IN), "run make docs"


def test_every_reason_is_described_in_its_own_words() -> None:
    described = [tuple(cells) for cells in rows("docs/dead-letters.md") if len(cells) == 3]
    assert described == [(f"`{reason.value}`", reason.meaning, reason.advice) for reason in Reason]


def test_the_series_described_are_those_that_are_registered() -> None:
    registered = {
        one._name + ("_total" if isinstance(one, Counter) else "")
        for one in vars(telemetry).values()
        if isinstance(one, MetricWrapperBase)
    }
    cells = [cells[0] for cells in rows("docs/operations.md", r"`analytics_[^`]+`(, `analytics_[^`]+`)*")]
    described = [name for cell in cells for name in re.findall(r"analytics_\w+", cell)]
    assert len(described) == len(set(described))
    assert set(described) == registered


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("http://localhost") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_named_in_the_text_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:analytics_pipeline|api|sql|docs|deploy|dbt_models|tests)/[\w./-]+)`", path.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_make_targets_and_commands_named_in_the_text_exist() -> None:
    text = "".join(page.read_text() for page in PAGES)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    commands |= {group.typer_instance.info.name or group.name for group in app.registered_groups}
    assert set(re.findall(r"(?:`|^|/)analytics ([a-z][a-z-]*)", text, re.MULTILINE)) <= commands


def test_posted_examples_are_events() -> None:
    bodies = re.findall(r"/api/v1/events -H 'Content-Type: application/json' -d '(.*?)'", README, re.DOTALL)
    assert bodies
    for body in bodies:
        assert decode_posted(body.encode(), now=datetime.now(UTC), limits=Limits()).payload
