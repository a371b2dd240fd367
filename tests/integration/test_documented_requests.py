"""Every request that the documentation shows with curl is sent as it stands, and answered as it should.

Blocks of code are run by bash, where `curl` also says the status, and commands of the product's own command line do
nothing: other tests run those. Pages that `tests/e2e/test_walkthrough.py` performs whole are left out.
"""

import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import environment
from tests.integration.api_process import Process, started
from tests.integration.api_support import event, land
from tests.integration.databases import database_copy
from tests.integration.keyed_api import make_key
from tests.waiting import wait_for
from tests.walkthrough import Block, blocks

ROOT = Path(__file__).parents[2]
PERFORMED = {"adding-a-metric.md", "start.md"}
PORTS = {"SERVER": 9097, "METRICS": 9098, "HEALTH": 9099}

OTHERWISE = {
    "/api/v1/events/01a20828-4c87-7655-8b89-00e01427d9f4": 404,
    "/api/v1/events/landings/4a0000-0-1?wait=5": 404,
    "/api/v1/metrics?metric_name=events.count.order.placed&interval=1m&after=4a0000-0-1": 400,
    "/api/v1/events/stats?after=order.events:3:181722": 503,
}
"""Statuses other than 2xx: of what a reader replaces by what an earlier answer of his own has given."""

SHELL = """
set -u
curl() { command curl --max-time "$LONGEST" --silent --write-out '%{stderr}status %{http_code} %{url}\\n' "$@"; }
analytics() { :; }
"""


def examples() -> Iterator[tuple[str, Block]]:
    # The definition that others go on with is made first.
    first = [ROOT / "docs/events.md", ROOT / "README.md"]
    for page in [*first, *sorted({*(ROOT / "docs").rglob("*.md")} - {*first})]:
        if page.name not in PERFORMED:
            for block in blocks(page.read_text()):
                if block.kind == "sh" and re.search(r"^curl ", block.text, re.MULTILINE):
                    yield f"{page.relative_to(ROOT)}:{block.line}", block


EXAMPLES = [pytest.param(block.text, id=place) for place, block in examples()]


@pytest.fixture(scope="module")
def database(postgres: Postgres, template_database: str) -> Iterator[str]:
    with database_copy(postgres, template_database, "documented_requests") as copied:
        now = datetime.now(UTC)
        land(
            copied, [event("order.placed", now, "u", symbol="BTCUSDT", strategy_id="s", price=1, quantity=2)]
        )
        yield copied


@pytest.fixture(scope="module")
def admin_key(database: str) -> str:
    return make_key(database, "read", "write", "admin").text


@pytest.fixture(scope="module")
def open_api(database: str) -> Iterator[Process]:
    with started(database) as process:
        wait_for(lambda: process.ask("HEALTH", "/ready")[0] == 200, message="/ready")
        yield process


@pytest.fixture(scope="module")
def guarded_api(database: str) -> Iterator[Process]:
    with started(database, B25_SECURITY__API_KEY_ENABLED="true") as process:
        wait_for(lambda: process.ask("HEALTH", "/ready")[0] == 200, message="/ready")
        yield process


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 20


@pytest.mark.slow
@pytest.mark.parametrize("text", EXAMPLES)
def test_a_documented_request_is_answered(
    open_api: Process, guarded_api: Process, admin_key: str, text: str, tmp_path: Path
) -> None:
    api = guarded_api if "$ADMIN_KEY" in text else open_api
    for name, port in PORTS.items():
        text = text.replace(f"localhost:{port}", f"127.0.0.1:{api.ports[name]}")
    done = subprocess.run(
        ["bash", "-c", SHELL + text],
        cwd=tmp_path,
        env=environment()
        | {
            "ADMIN_KEY": admin_key,
            "LONGEST": "2" if "/stream/" in text else "20",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answered = re.findall(r"^status (\d+) http://[^/]+(/\S*)$", done.stderr, re.MULTILINE)
    assert len(answered) == len(re.findall(r"^curl |\bcurl -", text, re.MULTILINE)), done.stderr
    for status, path in answered:
        assert int(status) == OTHERWISE.get(path, int(status) if status.startswith("2") else 200), (
            path,
            done.stdout,
        )
