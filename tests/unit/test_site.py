"""The documentation as a site: it builds without a warning, every page is in it, and nothing comes from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|object|embed)\b[^>]*\b(?:src|data)=[\"']?(?P<one>[^\"'\s>]+)"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon|modulepreload))[^>]*href=[\"']?(?P<two>[^\"'\s>]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: it would keep warnings from whoever counts them.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page).exists()] == []


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    loaded = {
        (path.name, found["one"] or found["two"])
        for path in site.rglob("*.html")
        for found in _LOADED.finditer(path.read_text())
    }
    assert len(loaded) > 10
    assert [one for one in loaded if re.match(r"(?:https?:)?//", one[1])] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*", styles) == []


def test_no_page_waits_for_a_script_to_draw_it(site: Path) -> None:
    """Material would fetch the program that draws such diagrams."""
    assert [path.name for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()] == []
