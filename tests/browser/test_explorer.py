"""The explorer: what is drawn is what the API answers, buckets say what they are, and the address says all of it."""

import csv
import io
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Opened
from tests.browser.explored import address, drawn, final_hour, point_at, settings_of, traces, wanted
from tests.browser.site import SYMBOLS, Site

VOLUME = "trading.total_volume"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def past(site: Site) -> dict[str, str]:
    """An hour that is over and final."""
    return final_hour(site)


def test_what_is_drawn_and_listed_is_what_the_api_answers(
    opened: Opened, site: Site, past: dict[str, str]
) -> None:
    page = opened(site, address(metric_name=VOLUME, interval="5m", **past))
    points = site.points(VOLUME, interval="5m", counts=1, **past)
    [trace] = traces(page, "closed")
    assert drawn(trace) == wanted(points)
    assert traces(page, "open") == []
    rows = page.locator(".ex-table tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [row[0].replace(" ", "T") + "Z" for row in rows] == [point["timestamp"] for point in points[::-1]]
    for row, point in zip(rows, points[::-1], strict=True):
        assert float(row[1].replace(",", "")) == point["value"]
        assert row[2:] == [f"{point['count']:,}", point["state"], str(point["revision"])]
    page.get_by_role("button", name="Value, quote").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Value, quote ↓")
    highest = f"{max(point['value'] for point in points):,.9f}".rstrip("0").rstrip(".")
    expect(page.locator(".ex-table tbody tr").first.locator("td").nth(1)).to_have_text(highest)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == f"{VOLUME}.csv"
    table = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["timestamp"]: float(row["value"]) for row in table} == wanted(points)


@pytest.mark.slow
def test_what_is_open_is_dashed_and_bars_of_it_are_hatched(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name="trading.orders_placed", interval="15m", last="1h"))
    [trace] = traces(page, "open")
    assert trace["line"]["dash"]
    expect(page.locator(".ex-panel path.js-line[style*='stroke-dasharray']").first).to_be_attached()
    assert (
        list(drawn(trace).values())[-1]
        == site.points("trading.orders_placed", interval="15m", last="1h")[-1]["value"]
    )
    signs = page.locator(".ex-signs")
    expect(signs.locator("[data-sign=dashed]")).to_have_text(" dashed: open")
    expect(page.locator(".ex-mark[data-mark=open]").first).to_have_attribute(
        "aria-label", re.compile("open, not over yet")
    )
    page.get_by_role("button", name="Bars").click()
    expect(signs.locator("[data-sign=dashed]")).to_have_text(" hatched: open")
    [bars] = traces(page, "bar")
    assert bars["marker"]["pattern"]["shape"][-1] == "/"
    page.go_back()
    expect(page.get_by_role("button", name="Line")).to_have_attribute("aria-pressed", "true")


@pytest.mark.slow
def test_a_bucket_tells_what_is_known_of_it_by_pointer_and_by_keys(
    opened: Opened, site: Site, past: dict[str, str]
) -> None:
    asked = {
        "metric_name": "trading.order_latency",
        "aggregation": "p95",
        "interval": "15m",
        "compare": "previous",
    } | past
    page = opened(site, address(**asked, zone="Asia/Kolkata"))
    points = site.get("/api/v1/metrics", **asked, counts=1)["result"]["data_points"]
    traces(page, "closed")
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    card = page.locator(".ex-card")
    last = points[-1]
    expect(card).to_contain_text(f"{last['count']} events")
    expect(card).to_contain_text("off by at most 0.5 %")
    expect(card).to_contain_text(f"{last['state']}")
    expect(card).to_contain_text(f"revision {last['revision']}")
    expect(card).to_contain_text(f"{round(last['value'], 2):g} ms")
    expect(card).to_contain_text(re.compile(r"against the period before"))
    local = datetime.fromisoformat(last["timestamp"]) + timedelta(hours=5, minutes=30)
    expect(card).to_contain_text(f"{local:%H:%M} – {local + 15 * MINUTE:%H:%M} UTC+5:30")
    said = page.get_by_role("slider").get_attribute("aria-valuetext")
    assert said
    assert f"{last['count']} events" in said
    page.keyboard.press("ArrowLeft")
    expect(card).to_contain_text(f"{local - 15 * MINUTE:%H:%M} – {local:%H:%M}")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    point_at(page, 0.01)
    expect(card).to_be_visible()


@pytest.mark.slow
def test_groups_a_comparison_and_filters_are_chosen_from_what_there_is(
    opened: Opened, site: Site, past: dict[str, str]
) -> None:
    page = opened(site, address(metric_name=VOLUME, interval="15m", **past))
    traces(page, "closed")
    page.get_by_label("Group by").select_option("symbol")
    expect(page).to_have_url(re.compile("group_by=symbol"))
    page.get_by_label("Top").fill("1")
    page.get_by_label("Top").press("Enter")
    page.get_by_label("Compare with").select_option("previous")
    expect(page.locator(".ex-signs [data-sign=compared]")).to_be_visible()
    expect(page.locator(".ex-series")).to_have_count(2)
    asked = {"interval": "15m", "group_by": "symbol", "top": 1, "compare": "previous"} | past
    points = site.points(VOLUME, **asked)
    named = {one["name"]: drawn(one) for one in traces(page, "closed")}
    assert named == {name: wanted(points, symbol=name) for name in (SYMBOLS[0], "__other__")}
    compared = {one["name"]: drawn(one) for one in traces(page, "compared")}
    assert compared[SYMBOLS[0]] == {
        at: value for at, value in wanted(points, "compared", symbol=SYMBOLS[0]).items() if value is not None
    }
    page.get_by_role("button", name="__other__").click()
    expect(page).to_have_url(re.compile("hide=__other__"))
    assert [one["name"] for one in traces(page, "closed")] == [SYMBOLS[0]]
    page.get_by_label("Operator").select_option("in")
    for symbol in SYMBOLS[1:]:
        page.get_by_role("combobox", name="Value").fill(symbol[:2])
        page.get_by_role("option", name=symbol).click()
    expect(page).to_have_url(re.compile(f"dimension=symbol%3Ain%3A{SYMBOLS[1]}%2C{SYMBOLS[2]}"))
    expect(page.locator(".ex-chip")).to_have_text(
        [re.compile(f"symbol is one of {SYMBOLS[1]}, {SYMBOLS[2]}")]
    )
    page.get_by_role("button", name="Remove the filter").click()
    expect(page.locator(".ex-filters .ex-chip")).to_have_count(0)


@pytest.mark.slow
def test_areas_stand_on_each_other_where_their_sum_means_something(
    opened: Opened, site: Site, past: dict[str, str]
) -> None:
    page = opened(site, address(metric_name=VOLUME, interval="15m", group_by="symbol", chart="area", **past))
    total = wanted(site.points(VOLUME, interval="15m", **past))
    highest = drawn(traces(page, "fill")[-1])
    assert highest == pytest.approx(total)
    page.get_by_label("Aggregation").select_option("avg")
    expect(page.locator("[data-sign=stacked]")).to_have_count(0)
    assert traces(page, "fill") == []


@pytest.mark.slow
def test_several_metrics_have_a_panel_for_each_unit(opened: Opened, site: Site, past: dict[str, str]) -> None:
    page = opened(site, address(metric_name="trading.orders_placed", interval="15m", **past))
    page.get_by_role("combobox", name="Beside it").fill("no such metric")
    expect(page.get_by_text("Nothing fits")).to_be_visible()
    page.get_by_role("combobox", name="Beside it").fill("filled per order")
    page.get_by_role("option", name="trading.order_fill_rate").click()
    expect(page.locator(".ex-panel")).to_have_count(2)
    [rate] = traces(page, "closed", place=1)
    assert drawn(rate) == wanted(site.points("trading.order_fill_rate", interval="15m", **past))
    assert settings_of(page)["metric_name"] == ["trading.orders_placed", "trading.order_fill_rate"]
    page.get_by_role("button", name="Leave out trading.orders_placed").click()
    expect(page.get_by_role("combobox", name="Metric")).to_have_value("trading.order_fill_rate")
    page.get_by_role("combobox", name="Metric").fill("order.rejected")
    page.get_by_role("option", name="events.count.order.rejected").click()
    expect(page).to_have_url(re.compile("metric_name=events.count.order.rejected"))


@pytest.mark.slow
def test_what_is_typed_while_the_catalog_is_read_is_kept(
    opened: Opened, site: Site, past: dict[str, str]
) -> None:
    page = opened(site)
    held: list[Route] = []
    page.route("**/api/v1/metrics/catalog*", lambda route: held.append(route))
    page.goto(f"{site.base}/dashboard{address(metric_name=VOLUME, interval='15m', **past)}")
    beside = page.get_by_role("combobox", name="Beside it")
    beside.fill("no such metric")
    expect(page.locator(".ex-panel")).to_have_count(0)
    held[0].continue_()
    expect(page.locator(".ex-panel")).to_have_count(1)
    expect(beside).to_have_value("no such metric")
    expect(beside).to_be_focused()
    expect(page.get_by_text("Nothing fits")).to_be_visible()


def test_an_address_says_everything_and_the_way_back_works(
    opened: Opened, site: Site, past: dict[str, str]
) -> None:
    chosen = {
        "metric_name": VOLUME, "interval": "15m", "aggregation": "max", "group_by": "symbol", "top": "2",
        "fill": "zero", "compare": "1d", "chart": "bar", "zone": "Europe/Berlin", "sort": "value:asc",
        "dimension": ["symbol:in:BTCUSDT,ETHUSDT", 'symbol:ne:"5"'],
    } | past  # fmt: skip
    page = opened(site, address(**chosen))
    traces(page, "bar")
    for label, value in {
        "Aggregation": "max", "Interval": "15m", "Group by": "symbol", "Top": "2", "Compare with": "1d",
        "Empty buckets": "zero",
    }.items():  # fmt: skip
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    expect(page.locator("#zone")).to_have_value("Europe/Berlin")
    expect(page.get_by_role("button", name="Bars")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".ex-filters .ex-chip")).to_have_count(2)
    expect(page.locator("th[aria-sort=ascending]")).to_have_count(1)
    before = page.url
    page.get_by_label("Interval").select_option("5m")
    expect(page).not_to_have_url(before)
    after = settings_of(page)
    assert after == {
        name: value if isinstance(value, list) else [value]
        for name, value in (chosen | {"interval": "5m"}).items()
    }
    page.go_back()
    expect(page).to_have_url(before)
    expect(page.get_by_label("Interval")).to_have_value("15m")
    assert len(traces(page, "bar")[0]["x"]) <= 5
    page.go_forward()
    expect(page.get_by_label("Interval")).to_have_value("5m")


@pytest.mark.slow
def test_days_begin_where_the_zone_says(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name="events.count", interval="1d", last="7d", zone="Asia/Kolkata"))
    points = site.points("events.count", interval="1d", last="7d", time_zone="Asia/Kolkata")
    both = {**drawn((traces(page, "closed") or [{"x": [], "y": []}])[0]), **drawn(traces(page, "open")[0])}
    assert both.keys() == wanted(points).keys()
    assert all(at.endswith("18:30:00Z") for at in both)


@pytest.mark.slow
def test_a_part_is_looked_at_closer_by_dragging(opened: Opened, site: Site, past: dict[str, str]) -> None:
    page = opened(site, address(metric_name=VOLUME, interval="1m", **past))
    traces(page, "closed")
    before = page.url
    point_at(page, 0.25)
    page.mouse.down()
    point_at(page, 0.5)
    point_at(page, 0.75)
    page.mouse.up()
    expect(page).not_to_have_url(before)
    start, end = (datetime.fromisoformat(settings_of(page)[name][0]) for name in ("start_time", "end_time"))
    first = datetime.fromisoformat(past["start_time"])
    assert abs(start - first - 15 * MINUTE) <= 2 * MINUTE
    assert abs(end - first - 45 * MINUTE) <= 2 * MINUTE
    page.go_back()
    expect(page).to_have_url(before)
    page.locator(".ex-panel .nsewdrag").dblclick()
    expect(page).not_to_have_url(before)
    assert datetime.fromisoformat(settings_of(page)["start_time"][0]) < first
