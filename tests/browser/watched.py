"""Pages whose console and requests are watched; what must not happen fails the test that opened them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.site import Site

_PATIENCE = 15_000
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


@contextmanager
def watched(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages; closes and judges them at the end."""
    watcher = Watcher()
    contexts: list[BrowserContext] = []

    def open_page(
        site: Site,
        path: str = "",
        *,
        width: int = 1440,
        height: int = 1000,
        scheme: str = "light",
        expected_errors: tuple[str, ...] = (),
        **more: Any,
    ) -> Page:
        """`expected_errors`: parts of lines in the console that belong to what the test does."""
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            timezone_id="Europe/Berlin",
            locale="en-GB",
            **more,
        )
        contexts.append(context)
        context.set_default_timeout(_PATIENCE)
        watcher.bases.add(site.base)
        watcher.expected += expected_errors
        page = context.new_page()
        watcher.watch(page)
        page.goto(f"{site.base}/dashboard{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    watcher.check()
