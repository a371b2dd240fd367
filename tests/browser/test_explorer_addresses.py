"""An address of the API, taken for one of the explorer: it asks the same, or a sentence says what it does not do."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Page, expect

from api.metrics.filters import NAMES
from api.metrics.parameters import PARAMETERS
from tests.browser.conftest import Opened
from tests.browser.explored import address, drawn, final_hour, settings_of, traces, wanted
from tests.browser.site import STRATEGIES, SYMBOLS, Site

VOLUME, PNL, RATE = "trading.total_volume", "trading.realized_pnl", "trading.order_fill_rate"
METRICS = "/api/v1/metrics"
SHOWN = {
    "metric_name",
    "interval",
    "start_time",
    "end_time",
    "last",
    "aggregation",
    "group_by",
    "top",
    "fill",
    "compare",
}
"""Those with a field of their own; a filter has a chip."""


@pytest.fixture(scope="module")
def past(site: Site) -> dict[str, str]:
    """An hour that is over and final."""
    return final_hour(site)


def asked(page: Page) -> list[tuple[str, str]]:
    """The parameters that the page has asked the API with, since it was loaded; the newest."""
    expect(page.locator(".ex-place[aria-busy=false]")).to_be_visible()
    urls: list[str] = page.evaluate(
        "path => performance.getEntriesByType('resource').map(({name}) => name).filter(name => name.includes(path))",
        f"{METRICS}?",
    )
    return parse_qsl(urlsplit(urls[-1]).query)


@pytest.mark.slow
def test_the_page_knows_every_short_filter_of_the_api(opened: Opened, site: Site) -> None:
    given = dict.fromkeys(NAMES, "ne:none")
    page = opened(
        site, address(metric_name=VOLUME, last="1h", **given), expected_errors=("400 (Bad Request)",)
    )
    expect(page.locator(".ex-filters .ex-chip")).to_have_text(
        [re.compile(f"{one} is not none") for one in NAMES]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("short", "chip", "long"),
    [
        (
            {"strategy_id": STRATEGIES[0]},
            f"strategy_id is {STRATEGIES[0]}",
            f"strategy_id:eq:{STRATEGIES[0]}",
        ),
        ({"symbol": f"ne:{SYMBOLS[0]}"}, f"symbol is not {SYMBOLS[0]}", f"symbol:ne:{SYMBOLS[0]}"),
        ({"symbol": "prefix:S"}, "symbol begins with S", "symbol:prefix:S"),
        (
            {"symbol": f"in:{SYMBOLS[1]},{SYMBOLS[2]}"},
            f"symbol is one of {SYMBOLS[1]}, {SYMBOLS[2]}",
            f"symbol:in:{SYMBOLS[1]},{SYMBOLS[2]}",
        ),
    ],
    ids=["value", "not", "beginning", "several"],
)
def test_a_short_filter_of_an_address_holds(
    opened: Opened, site: Site, past: dict[str, str], short: dict[str, str], chip: str, long: str
) -> None:
    page = opened(site, address(metric_name=PNL, interval="5m", **short, **past))
    points = site.points(PNL, interval="5m", **short, **past)
    [trace] = traces(page, "closed")
    assert drawn(trace) == wanted(points)
    expect(page.locator(".ex-filters .ex-chip span")).to_have_text([chip])
    page.get_by_role("button", name="Show as curl, Python, SQL").click()
    expect(page.locator("#form-text")).to_contain_text(
        f"dimension={long.replace(':', '%3A').replace(',', '%2C')}"
    )
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove the filter").click()
    expect(page.locator(".ex-filters .ex-chip")).to_have_count(0)
    assert settings_of(page).keys() & {*short, "dimension"} == set()
    assert drawn(traces(page, "closed")[0]) == wanted(site.points(PNL, interval="5m", **past))


@pytest.mark.slow
def test_a_filter_that_finds_nothing_does_not_show_everything(opened: Opened, site: Site) -> None:
    page = opened(site, address(metric_name=VOLUME, last="1h", symbol="NOPE"))
    expect(page.get_by_text("Nothing of it is stored at any time, with these filters.")).to_be_visible()
    expect(page.locator(".ex-filters .ex-chip span")).to_have_text(["symbol is NOPE"])


@pytest.mark.slow
def test_metrics_with_commas_between_are_all_drawn(opened: Opened, site: Site, past: dict[str, str]) -> None:
    types = "events.count.order.placed,events.count.order.filled"
    page = opened(site, address(metric_name=f"{VOLUME},{RATE},{types}", interval="15m", **past))
    expect(page.locator(".ex-panel")).to_have_count(3)
    assert drawn(traces(page, "closed", place=1)[0]) == wanted(site.points(RATE, interval="15m", **past))
    expect(page.locator(".ex-metrics .ex-chip span")).to_have_text([VOLUME, RATE, *types.split(",")])


@pytest.mark.slow
@pytest.mark.parametrize("spelled", ["bar", "bars"])
def test_bars_are_bars_however_they_are_spelled(
    opened: Opened, site: Site, past: dict[str, str], spelled: str
) -> None:
    page = opened(site, address(metric_name=VOLUME, interval="15m", chart=spelled, **past))
    assert traces(page, "bar")
    expect(page.locator(".ex-notes li")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [one.name for one in PARAMETERS if one.name not in SHOWN | set(NAMES) | {"dimension"}]
)
def test_every_other_parameter_of_the_api_holds_or_is_told_of(opened: Opened, site: Site, name: str) -> None:
    values: dict[str, Any] = {
        "max_points": 30, "time_zone": "Asia/Kolkata", "order": "asc", "limit": 5, "cursor": "x", "counts": 0,
        "explain": 1,
    }  # fmt: skip
    page = opened(site, f"/explorer?metric_name={VOLUME}&last=2h&interval=auto&{name}={values[name]}")
    expect(page.locator(".ex-panel")).to_have_count(1)
    if name in {"max_points", "time_zone"}:
        assert (name, str(values[name])) in asked(page)
    elif name == "order":
        expect(page.locator("th[aria-sort=ascending]")).to_have_count(1)
    else:
        expect(page.locator(".ex-notes li")).to_have_text([re.compile(rf"^{name} is (not|always) ")])
    page.get_by_label("Interval").select_option("15m")
    expect(page).to_have_url(re.compile("interval=15m"))
    expect(page.locator(".ex-notes li")).to_have_count(0)
    kept = {"time_zone": "zone", "order": "sort"}.get(name)
    assert name not in settings_of(page)
    assert kept is None or kept in settings_of(page)


@pytest.mark.slow
def test_what_is_unknown_or_given_twice_is_told_of(opened: Opened, site: Site) -> None:
    page = opened(
        site,
        address(metric_name=VOLUME, last=["1h", "2h"], chart="pie", strategy="x", zone="Mars/Base", _="1"),
    )
    expect(page.locator(".ex-notes li")).to_have_text(
        [
            "last stands in the address more than once; the last one holds.",
            "chart=pie is none of line, area, bar; a line is drawn.",
            "This browser knows no time zone Mars/Base; times are those of Europe/Berlin.",
            "Neither the API nor the explorer has a parameter strategy; it changes nothing here.",
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dimension": "symbol=BTCUSDT"}, "dimension: is written name:operator:value"),
        ({"symbol": "gt:5"}, "dimension: dimensions are text; their operators are"),
        ({"top": "3"}, "top: goes with group_by"),
        ({"start_time": "2026-01-01T00:00:00Z"}, "last: stands instead of start_time and end_time"),
    ],
    ids=["no-filter", "no-operator-of-texts", "top-without-groups", "two-ranges"],
)
def test_what_the_api_refuses_of_an_address_is_refused_here_and_the_stream_is_not_asked(
    opened: Opened, site: Site, settings: dict[str, str], said: str
) -> None:
    streamed: list[str] = []
    page = opened(site, "/events?zone=UTC", expected_errors=("400 (Bad Request)",))
    page.on(
        "request", lambda request: streamed.append(request.url) if "/stream/metrics" in request.url else None
    )
    page.goto(f"{site.base}/dashboard" + address(**({"metric_name": VOLUME, "last": "1h"} | settings)))
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.locator(".live")).to_have_text("not live")
    assert streamed == []
