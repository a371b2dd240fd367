"""Pages whose console and requests are watched; what must not happen fails the test that opened them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from tests.browser.site import Site

PATIENCE = 15_000
"""Milliseconds that a busy machine may take for what people see at once."""


class Watcher:
    """What pages said and asked for, and what of it was expected."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.bases: set[str] = set()
        self.expected: tuple[str, ...] = ()

    def watch(self, page: Page) -> None:
        page.on("console", lambda said: self._said(said.type, f"{said.text} {said.location.get('url', '')}"))
        page.on("pageerror", lambda error: self._said("error", str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.errors.append(text)

    def check(self) -> None:
        surprises = [one for one in self.errors if not any(part in one for part in self.expected)]
        assert surprises == []
        foreign = [
            url for url in self.requests if not url.startswith((*self.bases, "data:", "blob:", "about:"))
        ]
        assert foreign == []


class Contexts:
    """What a browser keeps, one per site and scheme: plotly's script is fetched once, not by each test."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self._known: dict[tuple[str, str], BrowserContext] = {}

    def of(self, site: Site, scheme: str) -> BrowserContext:
        place = site.base, scheme
        if place not in self._known:
            self._known[place] = self._chromium.new_context(
                color_scheme=scheme,  # type: ignore[arg-type]
                timezone_id="Europe/Berlin",
                locale="en-GB",
            )
            self._known[place].set_default_timeout(PATIENCE)
        return self._known[place]


@contextmanager
def watched(contexts: Contexts) -> Iterator[Callable[..., Page]]:
    """Opens pages; at the end closes them, forgets what they stored, and judges them."""
    watcher = Watcher()
    pages: list[Page] = []

    def open_page(
        site: Site,
        path: str = "",
        *,
        width: int = 1440,
        height: int = 1000,
        scheme: str = "light",
        expected_errors: tuple[str, ...] = (),
        cookies: Sequence[Any] = (),
    ) -> Page:
        """`expected_errors`: parts of lines in the console that belong to what the test does; `cookies`: a session."""
        watcher.bases.add(site.base)
        watcher.expected += expected_errors
        page = contexts.of(site, scheme).new_page()
        page.context.add_cookies(cookies)
        pages.append(page)
        page.set_viewport_size(ViewportSize(width=width, height=height))
        watcher.watch(page)
        page.goto(f"{site.base}/dashboard{path}")
        return page

    yield open_page
    for page in pages:
        page.evaluate("localStorage.clear()")
        page.close()
        page.context.clear_cookies()
    watcher.check()
