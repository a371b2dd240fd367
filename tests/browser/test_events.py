"""The event tail: what is stored, what arrives, filters in the address, pause, and one event whole."""

import json
import re
import subprocess
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.site import Site, order
from tests.integration.api_support import event

LIST = "/api/v1/events"


def rows(page: Page) -> list[list[str]]:
    found: list[list[str]] = page.locator(".tail tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return found


@pytest.mark.slow
def test_it_begins_with_the_newest_events_of_the_api(opened: Opened, site: Site) -> None:
    page = opened(site, "/events?zone=UTC&event_type=order.rejected")
    wanted = site.get(LIST, event_type="order.rejected", limit=100)["events"]
    expect(page.locator(".tail tbody tr")).to_have_count(len(wanted))
    for (time, kind, user, _, properties), stored in zip(rows(page), wanted, strict=True):
        assert stored["timestamp"][5:23].replace("T", " ") == time
        assert (kind, user) == (stored["event_type"], stored["user_id"])
        assert f"symbol={stored['properties']['symbol']}" in properties


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "text", "asked"),
    [
        ("Type", "order.*", {"event_type": "order.*"}),
        ("Type", "order.placed, page.view", {"event_type": ["order.placed", "page.view"]}),
        ("User", "u1", {"user_id": "u1"}),
        ("Session", "s1", {"session_id": "s1"}),
    ],
)
def test_each_field_asks_what_the_api_would_be_asked(
    opened: Opened, site: Site, label: str, text: str, asked: dict[str, Any]
) -> None:
    site.land(event("page.view", datetime.now(UTC), "u1") | {"session_id": "s1"})
    page = opened(site, "/events?zone=UTC")
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Enter")
    expect(page).to_have_url(re.compile(f"{next(iter(asked))}="))
    wanted = site.get(LIST, limit=100, **asked)["events"]
    assert wanted
    expect(page.locator(".tail tbody tr")).to_have_count(len(wanted))
    assert [(kind, user) for _, kind, user, _, _ in rows(page)] == [
        (one["event_type"], one["user_id"] or "") for one in wanted
    ]


def test_what_lands_appears_and_filters_hold_for_it(opened: Opened, site: Site) -> None:
    page = opened(site, "/events")
    field = page.get_by_label("Properties")
    field.fill("symbol:eq:XRPUSDT, price:gt:1")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"property=symbol%3Aeq%3AXRPUSDT"))
    expect(page.locator(".live")).to_have_text("live")
    now = datetime.now(UTC)
    site.land(
        order("order.placed", now, symbol="XRPUSDT", price=2),
        order("order.placed", now, symbol="XRPUSDT", price=1),
        order("order.placed", now, price=2),
    )
    expect(page.locator(".tail tbody tr")).to_have_count(1)
    assert "price=2" in rows(page)[0][4]


@pytest.mark.slow
def test_the_question_can_be_asked_by_curl_and_ends(opened: Opened, site: Site) -> None:
    page = opened(site, "/events?event_type=order.rejected")
    page.get_by_role("button", name="Show as curl, Python, SQL").click()
    stored, to_come = page.locator("#form-text").inner_text().split("\n\n")
    assert "curl -N " in to_come
    answer = subprocess.run(["bash", "-c", stored], capture_output=True, timeout=20, check=True).stdout
    assert json.loads(answer)["events"] == site.get(LIST, event_type="order.rejected")["events"]
    page.get_by_role("tab", name="Python").click()
    expect(page.locator("#form-text")).to_contain_text("client.events(")


@pytest.mark.slow
def test_pause_holds_the_rows_and_goes_on_with_what_came(opened: Opened, site: Site) -> None:
    page = opened(site, "/events?event_type=tail.pause")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.get_by_text("No event yet")).to_be_visible()
    page.keyboard.press("p")
    site.land(
        event("tail.pause", datetime.now(UTC), "u", n=1), event("tail.pause", datetime.now(UTC), "u", n=2)
    )
    expect(page.get_by_text("Paused; 2 new.")).to_be_visible()
    expect(page.locator(".tail tbody tr")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".tail tbody tr")).to_have_count(2)


@pytest.mark.slow
def test_rows_are_bounded(opened: Opened, site: Site) -> None:
    page = opened(site, "/events?event_type=tail.flood")
    expect(page.locator(".live")).to_have_text("live")
    for _ in range(4):
        site.land(*(event("tail.flood", datetime.now(UTC), "u", n=n) for n in range(150)))
        page.wait_for_function(
            "count => document.querySelectorAll('.tail tbody tr').length >= count", arg=150
        )
    expect(page.locator(".tail tbody tr")).to_have_count(300)


@pytest.mark.slow
def test_an_event_opens_whole_and_has_an_address(opened: Opened, site: Site) -> None:
    stored = event(
        "tail.open",
        datetime.now(UTC),
        "u-<b>1</b>",
        note="<img src=x onerror=alert(1)>",
        nested={"a": [1, 2]},
    )
    site.land(stored)
    page = opened(site, "/events?event_type=tail.open")
    page.locator(".tail .opener").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(str(UUID(bytes=stored["id"])))
    expect(dialog).to_contain_text('"note": "<img src=x onerror=alert(1)>"')
    expect(dialog).to_contain_text("u-<b>1</b>")
    address = page.url
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page).not_to_have_url(re.compile("open="))
    page.goto(address)
    expect(page.get_by_role("dialog")).to_contain_text('"nested"')


def test_a_wrong_filter_is_said_in_a_sentence(opened: Opened, site: Site) -> None:
    page = opened(site, "/events?property=symbol", expected_errors=("status of 400",))
    expect(page.get_by_role("alert")).to_contain_text("property")
