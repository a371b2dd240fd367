"""The pages `docs/start.md` and `docs/adding-a-metric.md`, performed as they stand: edits, commands, what they print.

Runs last of the folder, because it sends a history of its own.
"""

import re
from collections.abc import Iterator

import pytest

from analytics_pipeline.storage import rollups
from analytics_pipeline.storage.connection import connect
from tests.e2e.local import Pipe, Stack
from tests.waiting import wait_for
from tests.walkthrough import Walk, blocks

pytestmark = pytest.mark.timeout(400)
PAGE = "docs/adding-a-metric.md"
CATALOG = "analytics_pipeline/rollups/catalog.py"
NAME = "trading.placed_value"
_READ = "SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches"
_TRUTH = """
SELECT count(*), sum(price * quantity) FROM (
    SELECT (properties ->> 'price')::numeric AS price, (properties ->> 'quantity')::numeric AS quantity FROM events
    WHERE event_type = 'order.placed' AND jsonb_typeof(properties -> 'price') = 'number'
        AND jsonb_typeof(properties -> 'quantity') = 'number'
) AS placed WHERE price * quantity >= %s
"""


@pytest.fixture
def walk(stack: Stack, pipe: Pipe) -> Iterator[Walk]:
    """In the copied checkout, whose source is as it was afterwards, also where the page is not performed to its end."""
    programs = f"{stack.checkout / '.venv' / 'bin'}"
    variables = {name: value for name, value in stack.variables.items() if not name.startswith("PYTEST")}
    variables["PATH"] = f"{programs}:{variables.get('PATH', '')}"
    before = (stack.checkout / CATALOG).read_text()
    yield Walk(stack.checkout, variables, str(pipe.api.base_url).rstrip("/"))
    if (stack.checkout / CATALOG).read_text() != before:
        (stack.checkout / CATALOG).write_text(before)
        stack.run("restart", "ingest", "api", "dagster-code")


@pytest.fixture
def history(stack: Stack, pipe: Pipe) -> None:
    """Two hours of a simulated past, as `make up` has a day of it, landed and merged; the page looks at three."""
    [[before]] = pipe.sql(_READ)
    short = {"B25_SIMULATOR__HISTORY": "2h", "B25_SIMULATOR__HISTORY_EVENTS": "3000"}
    done = Stack(stack.folder, stack.checkout, **short).run("simulate", "--history", "--duration", "1s")
    assert done.returncode == 0, done.stderr
    sent = int(re.findall(r"sent=(\d+)", done.stderr + done.stdout)[-1])
    wait_for(lambda: pipe.sql(_READ)[0][0] >= before + sent, 60, "the history lands")
    with connect(pipe.conninfo, name="test", autocommit=True) as connection:
        for pending in rollups.pending_hours(connection):
            rollups.merge_hour(connection, pending.hour, run_id="test")


@pytest.mark.slow
def test_the_page_on_adding_a_metric_does_what_it_says(history: None, walk: Walk, pipe: Pipe) -> None:
    smallest = {
        "Look at it": 0,
        "Edit it": 1000,
        "Take it back": 0,
    }  # what is counted at the end of these parts
    page = list(blocks((walk.checkout / PAGE).read_text()))
    for block, after in zip(page, [*page[1:], None], strict=True):
        print(f"{PAGE}:{block.line}: {block.title}: {block.kind}")
        walk.perform(block)
        if (after is None or after.title != block.title) and block.title in smallest:
            assert_true(pipe, smallest.pop(block.title))
    assert smallest == {}
    assert pipe.points(NAME, "1h") == []


def test_the_page_on_starting_does_what_it_says(walk: Walk, pipe: Pipe) -> None:
    pipe.api.post("/api/v1/events", json={"event_type": "order.placed"}).raise_for_status()
    wait_for(lambda: pipe.points("trading.orders_placed", "1h"), message="there is an order to count")
    page = list(blocks((walk.checkout / "docs/start.md").read_text()))
    for block in page:
        print(f"docs/start.md:{block.line}: {block.title}: {block.kind}")
        if block.text.startswith("sleep"):  # a busy machine takes longer than the page says
            wait_for(lambda: pipe.api.get("/api/v1/events", params={"user_id": "you"}).json()["count"])
        walk.perform(block)
    assert len(page) == 7


def assert_true(pipe: Pipe, smallest: int) -> None:
    """Each level counts and sums what SQL does on raw events, and nothing answers from an earlier definition."""
    [[count, total]] = pipe.sql(_TRUTH, smallest)
    assert count > 100
    for interval in ("1m", "5m", "15m", "1h"):  # the day began before the range that the page fills in
        points = pipe.points(NAME, interval)
        assert sum(one["value"] for one in points) == pytest.approx(float(total))
        assert [one for one in points if one.get("predecessor") or one.get("incomplete")] == []
        assert sum(one["value"] for one in pipe.points(NAME, interval, aggregation="count")) == count
