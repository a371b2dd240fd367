"""The documentation says what the code does: pages are compared with the declarations, links with files and headings,
commands with the command line.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
import typer
import yaml
from pydantic import SecretStr, ValidationError

from analytics_pipeline.cli import app
from analytics_pipeline.events.decode import decode_posted
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.rollups import catalog
from analytics_pipeline.settings import ORIGINAL_VARIABLES, PREFIX, Section, Settings, parse_duration
from documentation import pages, series
from documentation.markdown import with_region
from tests.sitemap import anchors_of, links_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("path", PAGES, ids=name_of)


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


def test_the_readme_names_settings_that_exist_with_their_defaults() -> None:
    known = dict(keys(Settings()))
    described = [cells for cells in rows("README.md", r"`[a-z_]+(\.[a-z_]+)+`") if len(cells) == 3]
    assert described
    for key, default, _ in described:
        assert is_shown(known[key.strip("`")], default), key


@pytest.mark.parametrize(("name", "text"), [pytest.param(*one, id=one[0]) for one in pages.of_code()])
def test_what_follows_from_the_code_is_up_to_date(name: str, text: str) -> None:
    path = pages.FOLDER / name
    assert path.exists(), "run make docs"
    assert path.read_text() == text, "run make docs"


def test_a_page_without_its_marks_is_refused() -> None:
    assert with_region("a\n<!-- x: made by make docs -->\nold\n<!-- end of x -->\nb\n", "x", "new\n") == (
        "a\n<!-- x: made by make docs -->\nnew\n<!-- end of x -->\nb\n"
    )
    with pytest.raises(LookupError, match="no line"):
        with_region("a\n", "x", "new\n")


def test_every_key_has_its_line_and_its_variable() -> None:
    described = {cells[0].strip("`"): cells for cells in rows("docs/configuration.md")}
    known = dict(keys(Settings()))
    assert described.keys() == known.keys()
    for key, value in known.items():
        _, default, meaning, variables = described[key]
        assert is_shown(value, default), key
        assert meaning
        assert f"`{PREFIX}{key.replace('.', '__').upper()}`" in variables
    assert all(f"`{name}`" in described[".".join(key)][3] for name, key in ORIGINAL_VARIABLES.items())


def test_each_line_of_code_for_a_kind_makes_a_metric() -> None:
    [block] = re.findall(
        r"<!-- fields of a metric -->\n```python\n(.*?)```", (ROOT / "docs/metrics.md").read_text(), re.DOTALL
    )
    kinds = set()
    for line in block.splitlines():
        fields = eval(f"dict({line}\n)", vars(catalog))
        one = catalog.Metric(name="a.test", description="A test.", unit="1", **fields)
        assert catalog.Catalog((one,)).resolve("a.test")
        kinds.add("ratio" if one.ratio else one.kind.value)
    assert kinds == {"value", "quantile", "distinct", "ends", "ratio"}


@each_page
def test_links_lead_somewhere(path: Path) -> None:
    """Files exist, and so do the headings that a link names; nothing leads out of the project."""
    for target in links_of(path.read_text()):
        if target.startswith(("http://localhost", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        assert not anchor or anchor in anchors_of(found.read_text()), target


@each_page
def test_files_named_in_the_text_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:analytics_pipeline|api|sql|docs|deploy|dbt_models|tests)/[\w./-]+)`", path.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "migrating.md"], ids=name_of)
def test_series_named_in_the_text_are_registered(path: Path) -> None:
    """One that ends in `_` stands for those that begin so. Coming from the original names those that it had."""
    known = {name for name, _ in series.registered()}
    for name in re.findall(r"\banalytics_(?!pipeline|user|broken|demo)[a-z_]+", path.read_text()):
        bare = re.sub(r"_(bucket|sum|count)$", "", name)
        assert bare in known or (name.endswith("_") and any(one.startswith(name) for one in known)), name


def test_runbooks_have_one_form_and_are_all_listed() -> None:
    index = (ROOT / "docs/runbooks/index.md").read_text()
    for path in sorted((ROOT / "docs/runbooks").glob("*.md")):
        if path.name == "index.md":
            continue
        headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        assert f"({path.name})" in index, path.name
        assert headings[-2:] == ["Do", "Over"], path.name
        if "Symptom" in headings:
            assert headings == ["Symptom", "See it", "Cause", "Do", "Over"], path.name


@each_page
def test_make_targets_named_in_the_text_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)) <= targets


@each_page
def test_commands_named_in_the_text_exist_with_their_options(path: Path) -> None:
    for line in re.findall(r"(?:`|^ *|/|\$\()analytics ([a-z][^`\n#|;]*)", path.read_text(), re.MULTILINE):
        assert_command(line)


def assert_command(line: str) -> None:
    """Follow the words from command to command, then look up each option."""
    command: click.Command = COMMANDS
    words = line.split()
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if not re.fullmatch(r"[a-z][a-z-]*,?", word):
            break
        assert word.rstrip(",") in command.commands, f"analytics {line}"
        command = command.commands[word.rstrip(",")]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    if not hasattr(command, "commands"):
        named = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert named <= known, f"analytics {line}"


@pytest.mark.parametrize("wrong", ["nonsense", "ledger nonsense", "ledger verify --nonsense"])
def test_commands_that_do_not_exist_are_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        assert_command(wrong)


def test_posted_examples_are_events() -> None:
    bodies = re.findall(r"/api/v1/events -H 'Content-Type: application/json' -d '(.*?)'", README, re.DOTALL)
    assert bodies
    for body in bodies:
        assert decode_posted(body.encode(), now=datetime.now(UTC), limits=Limits()).payload


def test_configuration_in_the_text_is_one() -> None:
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    assert blocks
    for block in blocks:
        Settings.model_validate(block)
    [redis] = [block["redis"] for block in blocks if "redis" in block]
    with pytest.raises(ValidationError):
        Settings.model_validate({"redis": redis | {"no_such_key": 1}})


def test_modules_beyond_300_lines_say_why() -> None:
    sources = [
        path for folder in ("analytics_pipeline", "api", "client") for path in (ROOT / folder).rglob("*.py")
    ]
    long = {name_of(path) for path in sources if len(path.read_text().splitlines()) > 300}
    assert {cells[0].strip("`") for cells in rows("CONTRIBUTING.md", r"`\S+\.py`")} == long
