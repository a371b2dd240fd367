"""The overview shows the API's numbers, keeps up with them, and goes on after an interruption."""

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.site import SYMBOLS, Site, admit, order
from tests.waiting import wait_for

DASHBOARD = "/api/v1/dashboard/metrics"
HOUR = {"interval": "1m", "last": "1h"}
TILES = {
    "events_per_second", "active_users", "active_strategies", "orders_placed", "orders_filled", "total_volume",
    "average_latency", "error_rate", "custom_metrics", "last_updated",
}  # fmt: skip


def exact(page: Page, tile: str) -> float:
    """A tile's number with all its digits."""
    text = page.locator(f"[data-tile={tile}]").get_attribute("title") or "nan"
    return float(text.replace(",", "").replace("–", "nan"))


def traces(page: Page, panel: str) -> list[dict[str, Any]]:
    """What the chart of a panel shows, as Plotly has it."""
    found: list[dict[str, Any]] = page.evaluate(
        """panel => (document.querySelector(`[data-panel=${panel}] .plot`).data ?? []).map(
            ({name, type, x, y, line, open, high, low, close}) =>
                ({name, type, x, y, dash: line?.dash, open, high, low, close}))""",
        panel,
    )
    return found


def drawn(page: Page, panel: str) -> list[dict[str, Any]]:
    page.locator(f"[data-panel={panel}]").scroll_into_view_if_needed()
    return wait_for(lambda: traces(page, panel), timeout=20, message=f"{panel} is drawn")


@pytest.fixture
def page(opened: Opened, site: Site) -> Page:
    return opened(site, "/overview")


def test_it_has_the_ten_numbers_and_they_are_the_apis(page: Page, site: Site) -> None:
    expect(page.locator("[data-tile=orders_placed]")).not_to_have_text("–")
    shown = page.locator("[data-tile]").evaluate_all("all => all.map(one => one.dataset.tile)")
    assert set(shown) == TILES
    names = ("orders_placed", "orders_filled", "total_volume", "average_latency", "active_users")

    def agree() -> bool:
        answer = site.get(DASHBOARD)
        found = {name: exact(page, name) for name in names}
        return found == {name: pytest.approx(answer[name], rel=1e-9) for name in names} and exact(
            page, "error_rate"
        ) == pytest.approx(100 * answer["error_rate"])

    wait_for(agree, timeout=15, message="the tiles show the API's numbers")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", page.locator("[data-tile=last_updated]").inner_text())


@pytest.mark.slow
def test_each_number_is_compared_with_the_period_before(page: Page, site: Site) -> None:
    change = page.locator("[data-change=orders_placed]")
    expect(change).to_have_text(re.compile(r"[+−]?[\d.]+ %"), timeout=20_000)

    def agree() -> bool:
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        points = site.points(
            "trading.orders_placed", interval="1m", compare="previous", fill="zero",
            start_time=datetime.fromtimestamp(minute.timestamp() - 3600, UTC).isoformat(), end_time=minute.isoformat(),
        )  # fmt: skip
        now, before = (sum(point[field] or 0 for point in points) for field in ("value", "compared"))
        percent = 100 * (now - before) / before
        sign = "+" if percent > 0.05 else "−" if percent < -0.05 else ""
        return change.inner_text() == f"{sign}{abs(percent):.1f} %"

    wait_for(agree, timeout=20, message="the change is the API's")
    for tile in ("events_per_second", "total_volume", "average_latency", "error_rate", "active_users"):
        expect(page.locator(f"[data-change={tile}]")).to_have_text(re.compile(r" %|no earlier value"))


@pytest.mark.slow
def test_volume_is_the_apis_bucket_by_bucket(page: Page, site: Site) -> None:
    drawn(page, "volume")

    def agree() -> bool:
        wanted: dict[str, float] = defaultdict(float)
        for point in site.points("trading.total_volume", group_by="symbol", **HOUR):
            wanted[point["dimensions"]["symbol"]] += point["value"]
        found = {one["name"]: sum(value or 0 for value in one["y"]) for one in traces(page, "volume")}
        return found == {name: pytest.approx(value) for name, value in wanted.items()}

    wait_for(agree, timeout=15, message="volume by symbol")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("panel", "trace", "metric", "asked", "per"),
    [
        ("fill_rate", "Fill rate", "trading.order_fill_rate", {}, 1),
        ("users", "Users", "users.active", {}, 1),
        ("latency", "p50", "trading.order_latency", {"aggregation": "p50"}, 1),
        ("latency", "p95", "trading.order_latency", {"aggregation": "p95"}, 1),
        ("candles", "Volume", "trading.total_volume", {"dimension": f"symbol:eq:{SYMBOLS[0]}"}, 1),
        ("events", "order.placed", "events.count", {"dimension": "event_type:eq:order.placed"}, 60),
    ],
)
def test_a_chart_shows_what_the_api_says_of_each_minute(
    opened: Opened, site: Site, panel: str, trace: str, metric: str, asked: dict[str, str], per: int
) -> None:
    page = opened(site, f"/overview?symbol={SYMBOLS[0]}&zone=UTC")
    drawn(page, panel)

    def agree() -> bool:
        wanted = {
            point["timestamp"][:19].replace("T", " "): point["value"] / per
            for point in site.points(metric, **asked, **HOUR)
            if point["value"] is not None
        }
        found = {
            at: value
            for one in traces(page, panel)
            if one["name"] == trace
            for at, value in zip(one["x"], one["y"], strict=True)
            if value is not None
        }
        shared = sorted(found.keys() & wanted.keys())[:-1]  # without the open minute
        return len(shared) > 50 and all(found[at] == pytest.approx(wanted[at]) for at in shared)

    wait_for(agree, timeout=20, message=f"{trace} is the API's")


@pytest.mark.slow
def test_the_strategies_that_lose_most_are_shown_and_what_is_left_is_added_up(
    opened: Opened, site: Site
) -> None:
    now = datetime.now(UTC)
    pnl = {f"loser-{number}": -20_000.0 - number for number in range(5)} | {
        f"winner-{number}": 100.0 + number for number in range(5)
    }
    site.land(
        *(
            order("order.filled", now, strategy_id=name, price=1, quantity=1, latency_ms=5, pnl=amount)
            for name, amount in pnl.items()
        )
    )
    admit(site.database)
    page = opened(site, "/overview")
    drawn(page, "pnl")

    def agree() -> bool:
        sums: dict[str, float] = defaultdict(float)
        for point in site.points("trading.realized_pnl", group_by="strategy_id", **HOUR):
            sums[point["dimensions"]["strategy_id"]] += point["value"]
        largest = sorted(sums, key=lambda name: -abs(sums[name]))[:8]
        others = sum(amount for name, amount in sums.items() if name not in largest)
        last = {one["name"]: one["y"][-1] for one in traces(page, "pnl")}
        return last == {name: pytest.approx(sums[name]) for name in largest} | {
            "others": pytest.approx(others)
        } and {f"loser-{number}" for number in range(5)} <= set(largest)

    wait_for(agree, timeout=20, message="the eight furthest from zero, and the others")


@pytest.mark.slow
def test_charts_side_by_side_end_at_one_place(page: Page) -> None:
    for panel in ("events", "fill_rate", "latency", "pnl", "candles"):
        drawn(page, panel)
    ranges = page.evaluate(
        """() => ["events", "fill_rate", "latency", "pnl", "candles"].map(panel =>
            document.querySelector(`[data-panel=${panel}] .plot`).layout.xaxis.range[1].slice(17, 19))"""
    )
    assert ranges == ["30"] * 5, "half a bucket behind the beginning of the newest"


@pytest.mark.slow
def test_the_price_is_that_of_the_symbol_that_is_traded_most(opened: Opened, site: Site) -> None:
    site.land(
        order("order.filled", datetime.now(UTC), symbol=SYMBOLS[1], price=1e9, quantity=5, latency_ms=5)
    )
    admit(site.database)
    expect(opened(site, "/overview").get_by_label("Symbol")).to_have_value(SYMBOLS[1])


@pytest.mark.slow
def test_latency_is_the_apis_and_the_open_bucket_is_dashed(page: Page, site: Site) -> None:
    drawn(page, "latency")
    [settled, *_] = [one for one in traces(page, "latency") if one["name"] == "p99"]
    wanted = [point["value"] for point in site.points("trading.order_latency", aggregation="p99", **HOUR)]
    assert settled["y"][5:-2] == pytest.approx(
        wanted[wanted.index(settled["y"][5]) :][: len(settled["y"][5:-2])]
    )
    site.land(order("order.filled", datetime.now(UTC), price=1, quantity=1, latency_ms=5))
    wait_for(
        lambda: any(one["dash"] == "dot" for one in traces(page, "latency")),
        message="the open bucket is dashed",
    )


@pytest.mark.slow
def test_candles_are_those_of_the_symbol_in_the_address(opened: Opened, site: Site) -> None:
    page = opened(site, f"/overview?symbol={SYMBOLS[1]}&zone=UTC")
    drawn(page, "candles")
    [candle] = [one for one in traces(page, "candles") if one["name"] == "Price"]
    wanted = {
        point["timestamp"][:19].replace("T", " "): tuple(
            point[name] for name in ("open", "high", "low", "close")
        )
        for point in site.points(
            "market.price", aggregation="ohlc", dimension=f"symbol:eq:{SYMBOLS[1]}", **HOUR
        )
    }
    found = dict(
        zip(
            candle["x"],
            zip(*(candle[name] for name in ("open", "high", "low", "close")), strict=True),
            strict=True,
        )
    )
    shared = sorted(found.keys() & wanted.keys())[:-1]
    assert len(shared) > 50
    assert {at: found[at] for at in shared} == {at: wanted[at] for at in shared}
    page.get_by_label("Symbol").select_option(SYMBOLS[2])
    expect(page).to_have_url(re.compile(f"symbol={SYMBOLS[2]}"))


def test_what_lands_is_shown_at_once(page: Page, site: Site) -> None:
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator("[data-tile=orders_placed]")).not_to_have_text("–")
    before = exact(page, "orders_placed")
    site.land(*(order("order.placed", datetime.now(UTC)) for _ in range(500)))
    # A minute that leaves the hour meanwhile takes its few orders along.
    wait_for(
        lambda: exact(page, "orders_placed") > before + 400, timeout=30, message="five hundred more orders"
    )


@pytest.mark.slow
def test_what_is_pointed_at_stays_when_the_chart_changes(page: Page, site: Site) -> None:
    drawn(page, "users")
    hovering = page.locator("[data-panel=users] .hoverlayer > *")
    page.locator("[data-panel=users] .plot").hover()
    expect(hovering.first).to_be_attached()
    page.evaluate(
        """() => { globalThis.redrawn = 0;
            document.querySelector("[data-panel=users] .plot").on("plotly_afterplot", () => { redrawn += 1; }); }"""
    )
    page.wait_for_function("() => redrawn > 1")
    expect(hovering.first).to_be_attached()


@pytest.mark.slow
def test_it_goes_on_when_the_api_is_back(opened: Opened, site: Site) -> None:
    page = opened(site, "/overview", expected_errors=("net::ERR", "status of 503", "Failed to load"))
    expect(page.locator(".live")).to_have_text("live")
    site.stop()
    try:
        expect(page.locator(".live")).to_have_text(re.compile(r"reconnecting since \d\d:\d\d:\d\d"))
        site.land(*(order("order.placed", datetime.now(UTC)) for _ in range(3)))
    finally:
        site.start()
    expect(page.locator(".live")).to_have_text("live", timeout=30_000)
    wait_for(
        lambda: exact(page, "orders_placed") == site.get(DASHBOARD)["orders_placed"],
        message="what landed meanwhile is there",
    )


@pytest.mark.slow
def test_the_range_is_in_the_address(page: Page, site: Site) -> None:
    page.get_by_role("button", name="6h").click()
    expect(page).to_have_url(re.compile(r"range=6h"))
    expect(page.get_by_role("button", name="6h")).to_have_attribute("aria-pressed", "true")
    drawn(page, "users")
    page.go_back()
    expect(page.get_by_role("button", name="1h")).to_have_attribute("aria-pressed", "true")
