"""A real Chromium, and the real API on a real Postgres and Redis with a day's events behind it."""

# ruff: noqa: F811 - fixtures of the integration tests are used by their names

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.redis import Redis
from documentation import browser
from tests.browser.site import Site, admit, running_site, stored_events
from tests.browser.watched import PATIENCE, Contexts, watched
from tests.integration.api_support import land, settle
from tests.integration.conftest import (  # noqa: F401 - the same servers as the integration tests have
    postgres,
    redis_server,
    state_folder,
    template_database,
)
from tests.integration.databases import database_copy

# A busy machine is no defect.
expect.set_options(timeout=PATIENCE)

Opened = Callable[..., Page]
"""Opens a page: `opened(site, path, width=…, height=…, scheme=…)`."""


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Gone before other tests run in this process: Playwright's loop would be in the way of theirs."""
    program = browser.program()
    if program is None:
        pytest.skip(f"the dashboard was not tested: {browser.MISSING}")
    with browser.running(program) as opened:
        yield opened


@pytest.fixture(scope="session")
def site_database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "browser") as copied:
        past, recent = stored_events()
        land(copied, past)
        admit(copied)
        settle(copied)
        land(copied, recent)  # pending
        admit(copied)
        yield copied


@pytest.fixture(scope="package")
def site(chromium: Browser, site_database: str, redis_server: Redis, state_folder: Path) -> Iterator[Site]:
    """The API that asks nobody for a key."""
    with running_site(site_database, redis_server, state_folder) as running:
        yield running


@pytest.fixture(scope="package")
def keyed_site(
    chromium: Browser, site_database: str, redis_server: Redis, state_folder: Path
) -> Iterator[Site]:
    """The same with `security.api_key_enabled`."""
    with running_site(
        site_database, redis_server, state_folder, B25_SECURITY__API_KEY_ENABLED="true"
    ) as running:
        yield running


@pytest.fixture(scope="package")
def contexts(chromium: Browser) -> Contexts:
    return Contexts(chromium)


@pytest.fixture
def opened(contexts: Contexts) -> Iterator[Opened]:
    """Pages that are looked after: no error in the console, no request to anywhere else."""
    with watched(contexts) as opener:
        yield opener
