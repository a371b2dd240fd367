"""The Chromium of this machine, for pictures of pages and for the tests that open them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

MISSING = "there is no Chromium on PATH; install it (Debian: apt-get install chromium)"


def program() -> str | None:
    """Its path; None if there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def required() -> str:
    """Its path, for a command that cannot do without.

    Raises:
        SystemExit: there is none.
    """
    found = program()
    if found is None:
        raise SystemExit(f"error: {MISSING}")
    return found


@contextmanager
def running(path: str) -> Iterator[Browser]:
    """A browser, as long as the context lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()
