"""What the explorer says about asking elsewhere: its SQL and its Python give what the API gives."""

import contextlib
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened
from tests.browser.explored import final_hour
from tests.browser.site import Site
from tests.integration.api_support import event, iso

VOLUME, LATENCY = "trading.total_volume", "trading.order_latency"
KOLKATA, BERLIN = {"zone": "Asia/Kolkata"}, {"zone": "Europe/Berlin"}
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"metric_name": VOLUME, "interval": "5m"},
    {"metric_name": VOLUME, "interval": "15m", "group_by": "symbol", "top": 1, "compare": "previous"},
    {
        "metric_name": VOLUME,
        "aggregation": "avg",
        "dimension": ["symbol:in:BTCUSDT,ETHUSDT", "symbol:prefix:B"],
    },
    {"metric_name": VOLUME, "aggregation": "rate", "interval": "1d", "start_time": "", "compare": "1d"}
    | BERLIN,
    {"metric_name": "events.count", "group_by": "event_type", "top": 2, "interval": "1h"} | KOLKATA,
    {"metric_name": "events.count", "group_by": "event_type", "dimension": "event_type:ne:order.placed"},
    {"metric_name": "events.count.order.filled", "interval": "15m", "compare": "7d"},
    {"metric_name": "trading.order_fill_rate", "group_by": "strategy_id", "interval": "1h"},
    {"metric_name": LATENCY, "aggregation": "p95", "group_by": "symbol", "interval": "15m"},
    {"metric_name": "users.active", "interval": "15m"},
    {"metric_name": "market.price", "aggregation": "ohlc", "group_by": "symbol", "interval": "15m"},
    {"metric_name": "market.price", "aggregation": "last", "group_by": "symbol", "interval": "1h"} | KOLKATA,
    {
        "metric_name": "market.price",
        "aggregation": "max",
        "dimension": "symbol:exists:true",
        "group_by": "symbol",
    },
)


@pytest.fixture(scope="module")
def past(site: Site) -> dict[str, str]:
    """An hour of which everything is merged."""
    return final_hour(site)


def elsewhere(page: Page, language: str) -> str:
    expect(page.locator(".ex-place[aria-busy=false]")).to_be_visible()
    expect(page.locator(".ex-panel, .state-title").first).to_be_visible()
    page.get_by_role("button", name="Show as curl, Python, SQL").click()
    page.get_by_role("tab", name=language).click()
    return page.locator("#form-text").inner_text()


def asked_of(question: dict[str, Any], past: dict[str, str]) -> dict[str, Any]:
    """The same question for the API; an empty start is the day before."""
    given = past | {name: value for name, value in question.items() if value and name != "zone"}
    if question.get("start_time") == "":
        given["start_time"] = iso(datetime.fromisoformat(past["end_time"]) - timedelta(days=1))
    return {"interval": "auto", "time_zone": question.get("zone", "UTC")} | given


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: "-".join(map(str, one.values())))
def test_the_sql_gives_what_the_api_gives(
    opened: Opened, site: Site, past: dict[str, str], question: dict[str, Any]
) -> None:
    asked = asked_of(question, past)
    result = site.get("/api/v1/metrics", **asked)["result"]
    shown = {name: value for name, value in asked.items() if name != "time_zone"} | {
        "zone": asked["time_zone"]
    }
    page = opened(site, "/explorer?" + urlencode(shown, doseq=True))
    sql = elsewhere(page, "SQL")
    with psycopg.connect(site.database, options="-c timezone=UTC") as connection:
        rows = connection.execute(sql.encode()).fetchall()
    names = sorted(result["data_points"][0]["dimensions"])
    fields = ["open", "high", "low", "close"] if asked.get("aggregation") == "ohlc" else ["value"]
    fields += ["compared"] if "compare" in asked else []
    found = {row[: 1 + len(names)]: row[1 + len(names) :] for row in rows}
    for point in result["data_points"]:
        place = (datetime.fromisoformat(point["timestamp"]), *(point["dimensions"][name] for name in names))
        values = tuple(point[field] for field in fields)
        assert tuple(None if one is None else float(one) for one in found.pop(place)) == pytest.approx(values)
    assert {place: row for place, row in found.items() if row[0] is not None} == {}


@pytest.mark.slow
def test_what_sql_cannot_give_it_says(opened: Opened, site: Site, past: dict[str, str]) -> None:
    page = opened(site, "/explorer?" + urlencode({"metric_name": LATENCY, "aggregation": "p99.9"} | past))
    assert "SQL has p50, p95 and p99; others are the API's." in elsewhere(page, "SQL")


@pytest.mark.slow
def test_the_sql_of_a_range_that_ends_now_goes_on_with_the_clock(opened: Opened, site: Site) -> None:
    site.land(event("explorer.sql", datetime.now(UTC), "u's"))
    page = opened(site, "/explorer?metric_name=events.count.explorer.sql&interval=1d&last=7d&zone=UTC")
    sql = elsewhere(page, "SQL")
    assert "now() - interval '7 days'" in sql
    with psycopg.connect(site.database) as connection:
        assert [value for _, value in connection.execute(sql.encode()).fetchall()] == [1]


@pytest.mark.slow
def test_the_python_gives_the_same_points(opened: Opened, site: Site, past: dict[str, str]) -> None:
    asked = {
        "metric_name": VOLUME,
        "interval": "15m",
        "group_by": "symbol",
        "top": "2",
        "dimension": "symbol:ne:X",
    } | past
    page = opened(site, "/explorer?" + urlencode({**asked, "zone": "Asia/Kolkata"}))
    program = elsewhere(page, "Python")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(program, {})
    points = site.get("/api/v1/metrics", **asked, time_zone="Asia/Kolkata")["result"]["data_points"]
    assert len(points) > 10
    lines = said.getvalue().splitlines()
    assert [float(line.split("} ")[1].split()[0]) for line in lines] == [point["value"] for point in points]
