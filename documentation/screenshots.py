"""Pictures of the running system: `make screenshots`, while `make up` runs.

Those of README and docs; with `--every FOLDER` every view of the dashboard as each size of screen and each theme
shows it, for a person to look at before a release.

Belongs here: what is opened and when it is worth a picture. Does not belong here: drawn pictures (`pictures`).
"""

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from playwright.sync_api import Browser, Error, Page

from documentation import browser
from documentation.pages import FOLDER

_PATIENCE = 60_000
_CHART = ".js-plotly-plot .main-svg"


class Shot(NamedTuple):
    """One picture.

    Attributes:
        server: whose address the path belongs to, as `analytics status` names it.
        shows: what a person waits for, as a selector, and how many of it.
        settle: ms until animations are over.
        is_whole: whether all of the page is on it, however long it is.
    """

    name: str
    server: str
    path: str
    shows: tuple[str, int]
    width: int = 1440
    height: int = 900
    settle: int = 1_500
    scheme: Literal["light", "dark"] = "light"
    is_whole: bool = False


SHOTS = (
    Shot("dashboard.png", "api", "/dashboard/overview?range=15m", (_CHART, 4), height=1_400),
    Shot(
        "explorer.png",
        "api",
        "/dashboard/explorer?metric_name=trading.total_volume&group_by=symbol&top=6&interval=1m&last=15m&chart=area",
        (_CHART, 1),
    ),
    Shot(
        "dagster-assets.png",
        "dagster",
        "/asset-groups",
        ("text=rollups", 2),  # in the list of groups and in the graph
        height=720,
        settle=6_000,
    ),
)

_EXPLORED = "explorer?metric_name=trading.order_latency&aggregation=p95&group_by=symbol&interval=1m&last=15m"
_VIEWS = (
    "overview?range=15m",
    _EXPLORED,
    "events",
    "dead-letters?status=all",
    "sources",
    "ledger",
    "pipeline",
    "restatements",
)
_SCREENS = ((360, 740), (768, 1024), (1440, 900), (3840, 2160))
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
EVERY = tuple(
    Shot(
        f"{view.partition('?')[0]}-{width}-{scheme}.png",
        "api",
        f"/dashboard/{view}",
        ("#main .card, #main .state", 1),
        width,
        height,
        settle=4_000,
        scheme=scheme,
        is_whole=True,
    )
    for view, (width, height), scheme in product(_VIEWS, _SCREENS, _SCHEMES)
)


def addresses() -> dict[str, Any]:
    """Of the stack that runs here.

    Raises:
        SystemExit: none does.
    """
    done = subprocess.run(
        [sys.executable, "-m", "analytics_pipeline", "status", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["addresses"] if done.stdout.strip() else {}
    if done.returncode or not found:
        raise SystemExit("nothing runs here: start it with `make up`, and wait until everything is ready")
    return dict(found)


def take(page: Page, shot: Shot, root: str, folder: Path) -> None:
    """Open, wait, write the picture."""
    page.goto(root.rstrip("/") + shot.path, timeout=_PATIENCE)
    selector, least = shot.shows
    page.locator(selector).nth(least - 1).wait_for(state="attached", timeout=_PATIENCE)
    page.wait_for_timeout(shot.settle)
    page.screenshot(path=folder / shot.name, full_page=shot.is_whole)


def main() -> None:
    """All of them.

    Raises:
        SystemExit: no browser, nothing runs, or a page does not show what it should.
    """
    parser = argparse.ArgumentParser(prog="python -m documentation.screenshots", description=__doc__)
    parser.add_argument(
        "--every", type=Path, metavar="FOLDER", help="take every view at every size instead, into this folder"
    )
    every: Path | None = parser.parse_args().every
    program = browser.required()
    found = addresses()
    folder = every or FOLDER / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with browser.running(program) as opened:
        for shot in EVERY if every else SHOTS:
            _take_in(opened, shot, str(found[shot.server]), folder)
            print(f"{folder / shot.name} is written")  # noqa: T201 - a command


def _take_in(opened: Browser, shot: Shot, root: str, folder: Path) -> None:
    page = opened.new_page(
        viewport={"width": shot.width, "height": shot.height},
        color_scheme=shot.scheme,
        reduced_motion="reduce",
    )
    try:
        take(page, shot, root, folder)
    except Error as error:
        why = error.message.splitlines()[0]
        raise SystemExit(f"{shot.name}: {shot.path} does not show it: {why}") from None
    page.close()


if __name__ == "__main__":
    main()
