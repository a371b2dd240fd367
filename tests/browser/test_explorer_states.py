"""The explorer while things change, and where there is nothing to draw; and for everybody."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Opened
from tests.browser.explored import address, drawn, finalize, traces
from tests.browser.site import Site
from tests.integration.api_support import event, iso, settle

VOLUME = "trading.total_volume"
MINUTE = timedelta(minutes=1)


@pytest.mark.slow
def test_a_bucket_is_marked_that_had_late_events_before_it_was_final(opened: Opened, site: Site) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=9)
    site.land(event("page.view", hour, "u"), event("page.view", hour + MINUTE, "u") | {"is_late": True})
    settle(site.database)
    finalize(site)
    span = {"start_time": iso(hour), "end_time": iso(hour + timedelta(hours=2))}
    page = opened(site, address(metric_name="events.count", interval="1h", **span))
    mark = page.locator(f".ex-mark[data-at='{iso(hour).replace('Z', '.000Z')}']")
    expect(mark).to_have_attribute("data-mark", "late")
    expect(page.locator(".ex-signs [data-sign=late]")).to_be_visible()


@pytest.mark.slow
def test_a_late_event_marks_its_bucket_while_somebody_looks(opened: Opened, site: Site) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
    site.land(*(event("page.view", hour + number * MINUTE, "u") for number in range(0, 50, 5)))
    settle(site.database)
    finalize(site)
    start = iso(hour - timedelta(hours=1))
    page = opened(site, address(metric_name="events.count", interval="1h", start_time=start))
    [trace] = traces(page, "closed")
    assert drawn(trace)[iso(hour)] == 10
    assert any(one is None for one in trace["y"]), "the hours without events are a gap"
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator(".ex-mark[data-mark=restated]")).to_have_count(0)
    site.land(event("page.view", hour + 7 * MINUTE, "late") | {"is_late": True})
    settle(site.database)
    mark = page.locator(f".ex-mark[data-at='{iso(hour).replace('Z', '.000Z')}']")
    expect(mark).to_have_attribute("data-mark", "restated")
    expect(page.locator(".ex-signs [data-sign=restated]")).to_contain_text("restated after it was final")
    assert drawn(traces(page, "closed")[0])[iso(hour)] == 11
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    expect(page.locator(".ex-card")).to_contain_text(
        re.compile(r"Restated .+ \(late\): events.count 10 events → 11 events")
    )
    expect(page.locator(".ex-card")).to_contain_text("1 event of any type came late")


@pytest.mark.slow
def test_a_range_that_ends_now_follows_what_lands(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name="events.count.explorer.live", interval="1h", last="24h"))
    expect(page.get_by_text("Nothing of it is stored at any time.")).to_be_visible()
    expect(page.locator(".live")).to_have_text("live")
    site.land(event("explorer.live", datetime.now(UTC), "u"))
    cell = page.locator(".ex-table tbody tr").first.locator("td").nth(1)
    expect(cell).to_have_text("1")
    site.land(event("explorer.live", datetime.now(UTC), "u"))
    expect(cell).to_have_text("2")
    page.get_by_role("button", name="Live").click()
    expect(page).to_have_url(re.compile("live=0"))
    expect(page.locator(".live")).to_have_text("not live")


@pytest.mark.slow
def test_where_there_is_nothing_it_says_where_something_is(opened: Opened, site: Site) -> None:
    page = opened(
        site, address(metric_name=VOLUME, start_time="2026-01-01T00:00:00Z", end_time="2026-01-02T00:00:00Z")
    )
    expect(
        page.get_by_text(f"No value of {VOLUME} from 1 Jan 2026, 00:00 to 2 Jan 2026, 00:00.")
    ).to_be_visible()
    page.get_by_role("button", name="the newest day with values").click()
    assert traces(page, "closed") or traces(page, "open")


@pytest.mark.slow
def test_what_the_api_refuses_is_said_in_its_words(opened: Opened, site: Site) -> None:
    asked = address(metric_name=VOLUME, group_by="severity", last="1h")
    page = opened(site, asked, expected_errors=("400 (Bad Request)",))
    expect(page.get_by_role("alert")).to_contain_text(
        "group_by: this metric has symbol, strategy_id, each by itself"
    )
    page.get_by_label("Group by").select_option("")
    expect(page.locator(".ex-panel")).to_have_count(1)


@pytest.mark.slow
def test_on_a_telephone_the_table_shows_values(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name=VOLUME, group_by="symbol", last="1h"), width=390, height=844)
    traces(page, "closed")
    value = page.get_by_role("columnheader", name="Value, quote").bounding_box()
    assert value is not None
    assert value["x"] + value["width"] <= 390


@pytest.mark.slow
def test_a_change_in_percent_has_no_digits_that_nobody_reads(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name=VOLUME, interval="15m", last="1h", compare="previous"))
    traces(page, "closed")
    place = page.locator(".ex-table thead th").all_inner_texts().index("Change, %")
    changes = page.locator(f".ex-table tbody td:nth-child({place + 1})").all_inner_texts()
    assert any(one != "–" for one in changes)
    assert all(re.fullmatch(r"–|-?[\d,]+(\.\d{1,4})?[KMBT]?", one) for one in changes)


@pytest.mark.slow
def test_days_are_marked_by_days(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name="events.count", interval="1d", last="7d"), width=1900)
    traces(page, "open")
    marks: list[str] = page.evaluate("document.querySelector('.ex-panel .plot').layout.xaxis.ticktext")
    assert len(marks) >= 6
    assert not any(":" in one for one in marks)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(opened: Opened, site: Site, scheme: str) -> None:
    several = [VOLUME, "trading.order_fill_rate"]
    asked = address(metric_name=several, group_by="symbol", interval="15m", last="1h", compare="previous")
    page = opened(site, asked, scheme=scheme, width=360, height=800)
    traces(page, "closed")
    page.get_by_role("slider").first.focus()
    expect(page.locator(".ex-card").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
