"""Pictures of the running system for README and docs: `make screenshots`, while `make up` runs.

Belongs here: what is opened and when it is worth a picture. Does not belong here: drawn pictures (`pictures`).
"""

import json
import subprocess
import sys
from typing import Any, NamedTuple

from playwright.sync_api import Error, Page

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
    """

    name: str
    server: str
    path: str
    shows: tuple[str, int]
    width: int = 1440
    height: int = 900
    settle: int = 1_500


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


def take(page: Page, shot: Shot, root: str) -> None:
    """Open, wait, write the picture below `docs/pictures`."""
    page.set_viewport_size({"width": shot.width, "height": shot.height})
    page.goto(root.rstrip("/") + shot.path, timeout=_PATIENCE)
    selector, least = shot.shows
    page.locator(selector).nth(least - 1).wait_for(state="attached", timeout=_PATIENCE)
    page.wait_for_timeout(shot.settle)
    page.screenshot(path=FOLDER / "pictures" / shot.name)


def main() -> None:
    """All of them.

    Raises:
        SystemExit: no browser, nothing runs, or a page does not show what it should.
    """
    program = browser.program()
    if program is None:
        raise SystemExit(browser.MISSING)
    found = addresses()
    with browser.running(program) as opened:
        for shot in SHOTS:
            page = opened.new_page(color_scheme="light", reduced_motion="reduce")
            try:
                take(page, shot, str(found[shot.server]))
            except Error as error:
                why = error.message.splitlines()[0]
                raise SystemExit(f"{shot.name}: {shot.path} does not show it: {why}") from None
            page.close()
            print(f"docs/pictures/{shot.name} is written")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
