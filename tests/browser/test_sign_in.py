"""Where the API asks for a key, so does the page; it exchanges it for a cookie and keeps nothing."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.site import Site
from tests.integration.keyed_api import WRONG, make_key, revoke
from tests.waiting import wait_for

REFUSED = ("status of 401", "status of 403")


@pytest.fixture
def key(keyed_site: Site) -> Callable[..., Any]:
    """Makes keys that the API knows."""

    def make(*scopes: str, **more: Any) -> Any:
        made = make_key(keyed_site.database, *scopes, **more)
        asked = {"X-API-Key": made.text}
        wait_for(
            lambda: httpx.get(f"{keyed_site.base}/api/v1/session", headers=asked).status_code == 200,
            message="the key is known",
        )
        return made

    return make


def sign_in(page: Page, text: str) -> None:
    page.get_by_label("API key").fill(text)
    page.get_by_role("button", name="Sign in").click()


def test_a_key_opens_the_page_and_is_not_kept(
    opened: Opened, keyed_site: Site, key: Callable[..., Any]
) -> None:
    made = key("read")
    page = opened(keyed_site, "/events?event_type=order.filled", expected_errors=REFUSED)
    sign_in(page, WRONG)
    expect(page.get_by_role("alert")).to_have_text("This key is unknown, expired or revoked.")
    expect(page.get_by_label("API key")).to_have_value("")
    sign_in(page, made.text)
    expect(page.locator(".tail tbody tr").first).to_be_visible()
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, document.documentElement.outerHTML])"
    )
    assert made.text not in kept
    assert made.text.rpartition("_")[2] not in kept
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.reload()
    expect(page.locator(".tail tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


@pytest.mark.slow
def test_the_numbers_and_charts_come_with_a_session(
    opened: Opened, keyed_site: Site, key: Callable[..., Any]
) -> None:
    page = opened(keyed_site, expected_errors=REFUSED)
    sign_in(page, key("read").text)
    expect(page.locator("[data-tile=orders_placed]")).not_to_have_text("–")
    expect(page.locator("[data-panel=volume] .legend li").first).to_be_visible()


@pytest.mark.slow
def test_a_key_that_is_revoked_leads_back_to_the_sign_in(
    opened: Opened, keyed_site: Site, key: Callable[..., Any]
) -> None:
    made = key("read")
    page = opened(keyed_site, expected_errors=REFUSED)
    sign_in(page, made.text)
    expect(page.locator(".live")).to_have_text("live")
    revoke(keyed_site.database, made)
    expect(page.get_by_label("API key")).to_be_visible()


@pytest.mark.slow
def test_a_key_that_sees_a_part_is_told_what_it_does_not_see(
    opened: Opened, keyed_site: Site, key: Callable[..., Any]
) -> None:
    page = opened(keyed_site, expected_errors=REFUSED)
    sign_in(page, key("read", event_types=("order.filled",)).text)
    expect(page.get_by_text("Tiles are about all events")).to_be_visible()
    expect(page.locator("[data-panel=volume] .legend li").first).to_be_visible()


@pytest.mark.slow
def test_signing_in_can_be_done_by_everybody_on_a_telephone(opened: Opened, keyed_site: Site) -> None:
    page = opened(keyed_site, "/overview", width=360, expected_errors=REFUSED)
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
