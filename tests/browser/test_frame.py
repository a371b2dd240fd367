"""What holds for every view: it fits every screen, can be read by everybody, and works without a mouse."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from analytics_pipeline.settings import environment
from analytics_pipeline.storage.connection import connect
from api.dashboard_page.assets import PREFIX
from tests.browser.conftest import Opened
from tests.browser.site import Site
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
_IS_SETTLED = """() => {
    const isSeen = (one) => one.offsetParent !== null;
    const words = [...document.querySelectorAll("#main p")].filter(isSeen);
    const charts = [...document.querySelectorAll("#main .plot")].filter(isSeen);
    const isLoading = words.some((one) => one.textContent === "Loading …");
    return !isLoading && charts.every((one) => one.querySelector(".main-svg"));
}"""


def views(page: Page) -> list[str]:
    found: list[str] = page.locator("#bar nav a").evaluate_all("all => all.map(one => one.dataset.view)")
    assert len(found) >= 2
    return found


def settle(page: Page) -> None:
    """Wait until the view has something to show, charts included."""
    wait_for(lambda: page.locator("#main .card, #main .state").count() > 0, message="the view is there")
    wait_for(lambda: page.evaluate(_IS_SETTLED), timeout=40, message="nothing is loading")


def go(page: Page, view: str) -> None:
    page.locator(f"#bar nav a[data-view={view}]").click()
    expect(page.locator(f"#main .view-{view}")).to_be_visible()
    settle(page)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(360, 740), (768, 1024), (3840, 2160)])
def test_no_view_scrolls_sideways(opened: Opened, site: Site, width: int, height: int) -> None:
    page = opened(site, width=width, height=height)
    settle(page)
    for view in views(page):
        go(page, view)
        wide = page.evaluate(
            """() => [...document.querySelectorAll('body, main, header, .view')]
                .filter(one => one.scrollWidth > document.documentElement.clientWidth)
                .map(one => one.className || one.tagName)"""
        )
        assert wide == [], view
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


@pytest.mark.slow
def test_on_a_large_screen_fields_are_as_high_as_their_text_and_charts_fill_the_window(
    opened: Opened, site: Site
) -> None:
    page = opened(site, "/explorer?zone=America/New_York", width=3840, height=2160)
    settle(page)
    low = page.evaluate(
        """() => [...document.querySelectorAll("input, select, .segments button")].filter(one => one.offsetParent
            && one.clientHeight < 1.8 * parseFloat(getComputedStyle(one).fontSize)).map(one => one.id)"""
    )
    assert low == []
    chart = page.locator(".ex-panel .plot").bounding_box()
    assert chart is not None
    assert chart["height"] > 0.4 * 2160
    place = page.locator("#ex-range + .segments").bounding_box()
    assert place is not None
    assert place["x"] < 3840 / 2, "beside the metric, not alone at the far right"


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "America/Argentina/Buenos_Aires"])
def test_the_zone_can_be_read_whole(opened: Opened, site: Site, zone: str) -> None:
    page = opened(site, f"/events?zone={zone}")
    assert page.locator("#zone").evaluate("field => field.scrollWidth <= field.clientWidth")


def test_on_a_telephone_the_menu_is_one_row_that_shows_where_one_is(opened: Opened, site: Site) -> None:
    page = opened(site, "/restatements", width=390, height=844)
    settle(page)
    menu, here = (page.locator(one).bounding_box() for one in ("#bar nav", "#bar [aria-current]"))
    assert menu is not None
    assert here is not None
    assert menu["height"] < 1.5 * here["height"]
    assert here["x"] >= 0
    assert here["x"] + here["width"] <= 390


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_view_can_be_read_by_everybody(opened: Opened, site: Site, scheme: str) -> None:
    page = opened(site, scheme=scheme)
    settle(page)
    found: dict[str, Any] = {}
    for view in views(page):
        go(page, view)
        found[view] = violations(page)
    page.locator("button.show-as").first.click()
    found["show as"] = violations(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    found["help"] = violations(page)
    assert {name: broken for name, broken in found.items() if broken} == {}


def violations(page: Page) -> list[str]:
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in Axe().run(page).response["violations"]
    ]


def test_the_page_works_without_a_mouse(opened: Opened, site: Site) -> None:
    page = opened(site)
    settle(page)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("3")
    expect(page.locator("#main .view-events")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Type")).to_be_focused()
    page.keyboard.type("1?")
    expect(page.locator("#main .view-events")).to_be_visible()
    page.get_by_label("Type").fill("")
    page.keyboard.press("Tab")
    page.locator("#main").focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Go to Events")
    dialog.get_by_label("Keys are on").uncheck()
    page.keyboard.press("Escape")
    page.locator("#main").focus()
    page.keyboard.press("1")
    expect(page.locator("#main .view-events")).to_be_visible()


@pytest.mark.slow
def test_light_and_dark_can_be_chosen_and_stay(opened: Opened, site: Site) -> None:
    page = opened(site, scheme="dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    settle(page)
    page.keyboard.press("t")
    assert page.evaluate(theme) == "light"
    page.reload()
    assert page.evaluate(theme) == "light"


@pytest.mark.slow
def test_the_zone_is_in_the_address_and_holds_for_every_view(opened: Opened, site: Site) -> None:
    page = opened(site)
    settle(page)
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    page.get_by_label("Time zone").fill("Asia/Kolkata")
    page.get_by_label("Time zone").press("Enter")
    expect(page).to_have_url(re.compile("zone=Asia%2FKolkata"))
    go(page, "events")
    expect(page).to_have_url(re.compile("zone=Asia%2FKolkata"))
    page.get_by_label("Time zone").fill("Mars/Olympus")
    page.get_by_label("Time zone").press("Enter")
    expect(page.get_by_label("Time zone")).to_have_attribute("aria-invalid", "true")


def test_an_address_of_no_view_says_so(opened: Opened, site: Site) -> None:
    page = opened(site, "/nothing")
    expect(page.get_by_text("There is no such view")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize("panel", ["volume", "latency", "candles"])
def test_what_is_shown_can_be_asked_for_elsewhere(opened: Opened, site: Site, panel: str) -> None:
    page = opened(site)
    settle(page)
    page.locator(f"[data-panel={panel}] .show-as").click()
    code = page.get_by_role("dialog").locator("code")
    texts = {"curl": code.inner_text()}
    page.keyboard.press("ArrowRight")
    texts["Python"] = code.inner_text()
    page.keyboard.press("ArrowRight")
    texts["SQL"] = code.inner_text()
    assert page.get_by_role("tab").all_inner_texts() == list(texts)
    if shutil.which("curl"):
        assert '"data_points":[{' in run("bash", "-c", texts["curl"] + " --fail --silent")
    assert len(run(sys.executable, "-c", texts["Python"])) > 1000
    with connect(site.database, name="test") as connection:
        found = connection.execute(texts["SQL"].encode()).fetchall()
    assert (len(found) > 0) is (panel != "candles")  # marts are filled by dbt


def run(*command: str) -> str:
    done = subprocess.run(
        command,
        env=environment() | {"PYTHONPATH": str(ROOT / "client"), "ANALYTICS_API_KEY": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_view_of_the_documentation_is_one(opened: Opened, site: Site) -> None:
    text = (ROOT / "docs" / "dashboard.md").read_text()
    [example] = re.findall(r"```js\n(.*?)```", text, re.DOTALL)
    page = opened(site)
    views(page)
    script = {"content-type": "text/javascript"}
    page.route(f"**{PREFIX}/*/views/catalog.js", lambda route: route.fulfill(body=example, headers=script))
    page.route(
        f"**{PREFIX}/*/registry.js",
        lambda route: route.fulfill(
            body='import { view } from "./views/catalog.js"; export const views = [view];', headers=script
        ),
    )
    page.goto(f"{site.base}/dashboard/catalog?prefix=market.")
    expect(page.get_by_role("listitem").filter(has_text="market.price")).to_be_visible()
    expect(page.locator("#main li")).to_have_count(3)
