"""What tests of the explorer share: addresses, and what a chart has drawn."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import Page, expect

from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage.buckets import finalize_buckets
from analytics_pipeline.storage.connection import connect
from tests.browser.site import Site
from tests.integration.api_support import iso


def address(**settings: Any) -> str:
    """Of the explorer, below `/dashboard`."""
    return "/explorer?" + urlencode({"zone": "UTC"} | settings, doseq=True)


def traces(page: Page, meta: str, place: int = 0) -> list[dict[str, Any]]:
    """What a panel has drawn, of one kind: closed, open, compared, fill or bar."""
    expect(page.locator(".ex-place[aria-busy=false]")).to_be_visible()
    expect(page.locator(".ex-panel .plot").nth(place).locator(".nsewdrag")).to_be_attached()
    found: list[dict[str, Any]] = page.evaluate(
        "place => document.querySelectorAll('.ex-panel .plot')[place].data"
        ".map(({name, meta, x, y, line, marker, fill}) => ({name, meta, x, y, line, marker, fill}))",
        place,
    )
    return [one for one in found if one["meta"] == meta]


def drawn(trace: dict[str, Any]) -> dict[str, float]:
    """Values by time; gaps are left out."""
    return {x.replace(".000Z", "Z"): y for x, y in zip(trace["x"], trace["y"], strict=True) if y is not None}


def wanted(points: list[dict[str, Any]], field: str = "value", **dimensions: str) -> dict[str, float]:
    return {
        point["timestamp"]: point[field]
        for point in points
        if not dimensions or point["dimensions"] == dimensions
    }


def settings_of(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def point_at(page: Page, share: float) -> None:
    """Move the pointer to a share of the width of the first panel."""
    area = page.locator(".ex-panel .nsewdrag").first.bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * share, area["y"] + area["height"] / 2)


def finalize(site: Site) -> None:
    """Every bucket that is over is final, as a merge would have it without a grace."""
    with connect(site.database, name="test", autocommit=True) as connection:
        graces = dict.fromkeys(LEVELS, timedelta(0))
        finalize_buckets(connection, now=datetime.now(UTC), graces=graces, run_id="test")


def final_hour(site: Site) -> dict[str, str]:
    """A range of an hour, whose buckets of up to 15m are over, merged and final: its parameters."""
    now = datetime.now(UTC)
    finalize(site)
    end = now.replace(second=0, microsecond=0) - timedelta(minutes=35)
    return {"start_time": iso(end - timedelta(hours=1)), "end_time": iso(end)}
