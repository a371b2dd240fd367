"""The views of operators, in a real browser: what the tables hold is seen, and what is pressed happens."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.definitions import load_definitions, put_definition
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Claim
from tests.browser.conftest import Opened
from tests.browser.site import Site, running_site
from tests.integration.api_support import settle
from tests.integration.databases import database_copy
from tests.integration.keyed_api import make_key
from tests.integration.landing_rig import (
    LIMITS,
    SOURCE,
    check_books,
    claim,
    event,
    execute,
    land,
    message,
    rows,
    span,
    value,
)

TYPE = "custom.operator"
VIEWS = ["pipeline", "dead-letters", "sources", "ledger", "restatements"]
WIDTHS = (360, 1440, 3840)


State = list[Any]
"""Cookies of a session, as a browser is given them."""
Show = Callable[..., Page]
"""Opens a view: `show("/ledger", …)`."""


class World(NamedTuple):
    """What there is to see, and who may do what."""

    site: Site
    database: str
    admin: State
    reader: State


def schema(maximum: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"price": {"type": "number", "maximum": maximum}}}


@pytest.fixture(scope="module")
def world(
    postgres: Postgres,
    template_database: str,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Three batches of a partition that is owned and fresh: events, duplicates, letters of two groups."""
    with (
        database_copy(postgres, template_database, "browser_operations") as database,
        connection(database, name="landing-test") as opened,
    ):
        put_definition(opened, TYPE, schema(10))
        opened.commit()
        definitions, _ = load_definitions(opened)
        opened.rollback()
        lander = Lander(database, name="landing-test")
        owner = claim(database)
        sent = [message(n, event(n)) for n in range(100)]
        _, owner = land(lander, owner, [*sent, message(100, event(0)), message(101, b'{"x":"\xff"}')])
        bad = [
            message(owner.next_offset + n, event(200 + n, event_type=TYPE, properties={"price": 99}))
            for n in range(3)
        ]
        batch = decode_batches(
            [RawBatch(SOURCE, 0, bad)], now=datetime.now(UTC), limits=LIMITS, definitions=definitions
        )
        lander.land([span(owner, bad)], batch)
        owner = Claim(bad[-1].offset() + 1, owner.epoch)
        _, owner = land(lander, owner, [message(owner.next_offset + n, event(300 + n)) for n in range(50)])
        lander.close()
        settle(database)
        restate(database)
        admin, reader = (make_key(database, *scopes).text for scopes in (("read", "admin"), ("read",)))
        asking = {"B25_SECURITY__API_KEY_ENABLED": "true", "B25_KAFKA__TOPICS": SOURCE}
        with running_site(database, redis_server, tmp_path_factory.mktemp("config"), **asking) as site:
            yield World(site, database, session_of(site, admin), session_of(site, reader))


def session_of(site: Site, key: str) -> State:
    """Of a browser that has exchanged a key."""
    answer = httpx.post(f"{site.base}/api/v1/session", headers={"X-API-Key": key})
    assert answer.status_code == 201, answer.text
    [(name, value)] = answer.cookies.items()
    return [{"name": name, "value": value, "url": site.base, "httpOnly": True, "sameSite": "Strict"}]


def restate(database: str) -> None:
    """Three totals that changed after they were final."""
    for number in range(3):
        execute(
            database,
            "INSERT INTO metric_restatements (reason, run_id, interval, time_bucket, revision, metric_id, metric_name,"
            " old_count, new_count, old_sum, new_sum) VALUES ('late', 'merge-1', '1h', %s, 2, 'm', 'trading.volume',"
            " 10, 11, 100, %s)",
            datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=number + 1),
            110 + number,
        )


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    now = datetime.now(UTC)
    execute(world.database, "UPDATE ingest_offsets SET caught_up_at = %s, updated_at = %s", now, now)


@pytest.fixture
def admin(opened: Opened, world: World) -> Show:
    return partial(opened, world.site, cookies=world.admin)


@pytest.fixture
def reader(opened: Opened, world: World) -> Show:
    return partial(opened, world.site, cookies=world.reader)


def go(page: Page, world: World, path: str) -> None:
    page.goto(f"{world.site.base}/dashboard{path}")


def settled(page: Page) -> None:
    """Wait until a view shows what it has read."""
    page.locator("#main .card, #main .state").first.wait_for()
    expect(page.get_by_text(re.compile("^(Reading|Looking|Adding up) …$"))).to_have_count(0)


def shown(page: Page) -> dict[str, int]:
    """The terms of the equation."""
    found = page.locator("[data-term]").all()
    return {
        one.get_attribute("data-term") or "": int(one.get_attribute("data-value") or "-1") for one in found
    }


def edge(page: Page) -> str:
    """The colour of the verdict."""
    colour: str = page.locator(".verdict").evaluate("card => getComputedStyle(card).borderLeftColor")
    return colour


def booked(database: str) -> dict[str, int]:
    [sums] = rows(
        database,
        "SELECT sum(read)::bigint, sum(stored)::bigint, sum(duplicate)::bigint, sum(dead)::bigint FROM ingest_batches"
        " WHERE committed_at > now() - interval '24 hours'",
    )
    return dict(zip(("read", "stored", "duplicates", "dead letters"), sums, strict=True))


def test_a_broken_message_stands_in_its_group_and_a_replay_makes_it_an_event(
    world: World, admin: Show
) -> None:
    page = admin("/ledger")
    expect(page.get_by_role("heading", name="The books balance")).to_be_visible()
    before = shown(page)
    execute(
        world.database, "UPDATE dead_letter_events SET producer = 'desk-7' WHERE reason = 'schema_violation'"
    )
    go(page, world, "/dead-letters")
    group = page.locator("[data-group]").filter(has_text="schema_violation")
    expect(group.locator("[data-count]")).to_have_text("3")
    expect(group).to_contain_text("$.properties.price")
    expect(group).to_contain_text("desk-7")
    page.get_by_label("Producer", exact=True).fill("another")
    page.get_by_label("Producer", exact=True).press("Enter")
    expect(page.get_by_text("No dead letters match")).to_be_visible()
    go(page, world, "/dead-letters?producer=desk-7")
    expect(page.locator("[data-group]")).to_have_count(1)
    group.get_by_role("link", name="Newest letter of schema_violation").press("Enter")
    expect(page.get_by_role("heading", name=re.compile(r"^Letter \d+: schema_violation"))).to_be_visible()
    expect(page.get_by_role("region", name="Bytes of the value")).to_contain_text('"price": 99')
    page.go_back()

    # Not mended yet: the dry run says that nothing would come of it.
    replay = group.get_by_role("button", name="Replay group schema_violation")
    replay.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("status")).to_have_text(
        "A dry run: 0 of 3 would become events, 3 are still schema_violation."
    )
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    stored = value(world.database, "SELECT count(*) FROM events")

    with connection(world.database, name="test") as opened:
        put_definition(opened, TYPE, schema(100))
        opened.commit()
    replay.click()
    expect(dialog.get_by_role("status")).to_have_text("A dry run: 3 of 3 would become events.")
    assert value(world.database, "SELECT count(*) FROM events") == stored
    dialog.get_by_role("button", name="Replay 3", exact=True).click()
    expect(dialog.get_by_role("status")).to_have_text("3 of 3 became events.")
    dialog.get_by_role("button", name="Close").last.click()
    expect(group).to_have_count(0)
    assert value(world.database, "SELECT count(*) FROM events") == stored + 3
    check_books(world.database)

    go(page, world, "/ledger")
    expect(page.locator("[data-term=stored]")).to_have_attribute("data-value", str(before["stored"] + 3))
    assert shown(page) == booked(world.database)
    expect(page.get_by_role("heading", name="The books balance")).to_be_visible()


@pytest.mark.slow
def test_discarding_asks_for_a_note_and_keeps_it(world: World, admin: Show) -> None:
    page = admin("/dead-letters?reason=bad_encoding")
    group = page.locator("[data-group]")
    expect(group).to_have_count(1)
    group.get_by_role("link", name="bad_encoding", exact=True).click()
    page.locator("[data-letter] a").click()
    expect(page.get_by_role("region", name="Bytes of the value")).to_contain_text(
        "7b 22 78 22 3a 22 ff 22 7d"
    )
    page.get_by_role("button", name=re.compile("^Discard letter")).click()
    discard = page.get_by_role("dialog").get_by_role("button", name="Discard", exact=True)
    expect(discard).to_be_disabled()
    page.get_by_label("Why (kept with them)").fill("a load test")
    discard.click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("1 letter was discarded.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("definition").filter(has_text="a load test")).to_be_visible()
    assert rows(world.database, "SELECT note FROM dead_letter_events WHERE status = 'discarded'") == [
        ("a load test",)
    ]
    execute(
        world.database,
        "UPDATE dead_letter_events SET status = 'discarded', settled_at = now() WHERE status = 'open'",
    )
    go(page, world, "/dead-letters")
    expect(page.get_by_text("No open dead letters")).to_be_visible()
    expect(page.get_by_text("The 4 letters of the last 24 h were replayed or discarded.")).to_be_visible()


def test_a_key_that_only_reads_looks_and_decides_nothing(world: World, reader: Show) -> None:
    page = reader("/dead-letters?status=all", expected_errors=("403",))
    page.locator("[data-group]").first.wait_for()
    expect(page.get_by_text("needs one with the scope admin")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^(Replay|Discard)"))).to_have_count(0)
    letter = value(world.database, "SELECT max(id) FROM dead_letter_events")
    go(page, world, f"/dead-letters?letter={letter}")
    expect(page.get_by_text(re.compile("analytics dead-letters replay --group"))).to_be_visible()
    for verb in ("Replay", "Discard"):
        button = page.get_by_role("button", name=f"{verb} letter {letter}")
        expect(button).to_be_disabled()
        expect(button).to_have_accessible_description(re.compile("needs one with the scope admin"))
    status = page.evaluate(
        """async (id) => {
          const { csrf_token: token } = await (await fetch("/api/v1/session")).json();
          const headers = { "X-CSRF-Token": token, "Content-Type": "application/json" };
          const body = JSON.stringify({ ids: [id] });
          return (await fetch("/api/v1/dead-letters/replay", { method: "POST", headers, body })).status;
        }""",
        letter,
    )
    assert status == 403


@pytest.mark.slow
def test_the_equation_is_that_of_sql_and_turns_red_when_the_books_are_broken(
    world: World, reader: Show
) -> None:
    page = reader("/ledger")
    expect(page.locator("[data-holds=true]").first).to_be_visible()
    assert shown(page) == booked(world.database)
    green = edge(page)
    batch, first, following = rows(
        world.database,
        "SELECT batch_id, first_offset, next_offset FROM ingest_batches WHERE source = %s"
        " ORDER BY batch_id OFFSET 1 LIMIT 1",
        SOURCE,
    )[0]
    execute(world.database, "CREATE TABLE kept AS SELECT * FROM ingest_batches WHERE batch_id = %s", batch)
    execute(world.database, "DELETE FROM ingest_batches WHERE batch_id = %s", batch)
    heading = page.get_by_role("heading", name="The books do not balance")
    expect(heading).to_be_visible(timeout=8000)
    expect(page.locator("[data-holds=false]").first).to_contain_text("1 batch does not begin")
    assert edge(page) != green
    expect(page.locator(f"[data-topic='{SOURCE}']")).to_contain_text("1 gap")
    gaps = page.get_by_role("table", name="Gaps in the ledger")
    expect(gaps).to_contain_text(f"offsets {first} to {following - 1} are missing")
    page.get_by_role("button", name="Prove it").click()
    expect(page.get_by_role("table", name="Balances")).to_contain_text("no: 1 broken")
    # The first screen of an operator says so, too.
    go(page, world, "/pipeline")
    expect(page.locator("[data-problem=ledger_broken]")).to_contain_text("messages were lost or doubled")
    execute(world.database, "INSERT INTO ingest_batches SELECT * FROM kept")
    execute(world.database, "DROP TABLE kept")
    expect(page.locator("[data-problem=ledger_broken]")).to_have_count(0, timeout=8000)


@pytest.mark.slow
def test_the_pipeline_says_what_is_wrong_and_what_to_do(world: World, reader: Show) -> None:
    page = reader("/pipeline")
    expect(page.get_by_role("heading", name="Nothing is wrong")).to_be_visible()
    partition = page.locator(f"[data-partition='{SOURCE}/0']")
    expect(partition).to_contain_text("comes along")
    long_ago = datetime.now(UTC) - timedelta(minutes=20)
    execute(
        world.database,
        "UPDATE ingest_offsets SET owner = 'gone', updated_at = %s, caught_up_at = %s",
        long_ago,
        long_ago,
    )
    problem = page.locator("[data-problem=partition_unowned]")
    expect(problem).to_contain_text(f"Nobody reads {SOURCE}/0", timeout=8000)
    expect(problem).to_contain_text("analytics start ingest")
    expect(page.get_by_role("heading", name="1 problem needs a person now")).to_be_visible()
    expect(partition).to_contain_text("nobody reads it")
    execute(
        world.database, "UPDATE ingest_offsets SET owner = 'analytics-landing-test', caught_up_at = now()"
    )
    expect(page.get_by_role("heading", name="Nothing is wrong")).to_be_visible(timeout=8000)


@pytest.mark.slow
def test_what_cannot_be_read_is_said_and_read_again(world: World, reader: Show) -> None:
    refused = {
        "type": "urn:b25-analytics:problem:database-unavailable",
        "detail": "Postgres is not reachable.",
    }
    away = "**/api/v1/pipeline"
    page = reader("/sources", expected_errors=("503",))
    page.route(away, lambda route: route.fulfill(status=503, json=refused))
    go(page, world, "/pipeline")
    expect(page.get_by_role("heading", name="Postgres is not reachable")).to_be_visible()
    expect(page.get_by_text("nothing is lost")).to_be_visible()
    page.unroute(away)
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("heading", name="Nothing is wrong")).to_be_visible()
    page.route(away, lambda route: route.fulfill(status=503, json=refused))
    expect(page.get_by_text("Not up to date.")).to_be_visible(timeout=8000)
    expect(page.locator(f"[data-partition='{SOURCE}/0']")).to_be_visible()


@pytest.mark.slow
def test_sources_and_restatements_show_what_the_api_tells(world: World, reader: Show) -> None:
    page = reader("/sources")
    [told] = page.request.get(f"{world.site.base}/api/v1/sources").json()["sources"]
    row = page.locator("[data-producer]")
    for number in (told["read"], told["dead"], told["duplicate"]):
        expect(row).to_contain_text(f"{number:,}")
    row.get_by_role("link", name=re.compile("schema_violation")).click()
    expect(page).to_have_url(
        re.compile(rf"/dashboard/dead-letters\?source={SOURCE}&reason=schema_violation&status=all")
    )
    expect(page.locator("[data-group]")).to_have_count(1)
    go(page, world, "/restatements?interval=1h")
    expect(page.locator("[data-restatement]")).to_have_count(3)
    expect(page.locator("[data-restatement]").first).to_contain_text("count 10 → 11")
    page.get_by_label("Interval").select_option("1d")
    expect(page).to_have_url(re.compile("interval=1d"))
    expect(page.get_by_text("Nothing that matches has changed")).to_be_visible()


@pytest.mark.slow
def test_an_address_of_the_ledger_shows_the_batches_that_it_names(world: World, reader: Show) -> None:
    batch = value(world.database, "SELECT min(batch_id) FROM ingest_batches WHERE dead > 0")
    wanted = {
        "": "true",
        "only=dead": "dead > 0",
        "only=duplicates": "duplicate > 0",
        "only=skipped": "skipped > 0",
        "only=notes": "note IS NOT NULL",
        f"source={SOURCE}": f"source = '{SOURCE}'",
        f"only=dead&source={SOURCE}": f"dead > 0 AND source = '{SOURCE}'",
        "source=nobody": "false",
        f"batch={batch}": f"batch_id = {batch}",
    }
    page = reader("/ledger")
    for address, condition in wanted.items():
        go(page, world, f"/ledger?{address}")
        settled(page)
        batches = rows(
            world.database, f"SELECT batch_id FROM ingest_batches WHERE {condition} ORDER BY batch_id DESC"
        )
        shown = page.get_by_role("table", name="Batches").locator("tbody tr")
        expect(shown.locator("th")).to_have_text([str(number) for (number,) in batches])
        if not batches:
            expect(page.get_by_text("No batch matches.")).to_be_visible()
    expect(page.get_by_role("heading", name=f"Batch {batch}")).to_be_visible()
    page.get_by_role("button", name="All batches").click()
    expect(page).not_to_have_url(re.compile("batch="))


@pytest.mark.slow
def test_an_address_of_the_sources_shows_its_topic_alone(world: World, reader: Show) -> None:
    page = reader(f"/sources?source={SOURCE}")
    expect(page.get_by_role("heading", name=SOURCE)).to_be_visible()
    expect(page.locator("[data-producer]")).not_to_have_count(0)
    go(page, world, "/sources?source=nobody")
    expect(page.get_by_text("Nothing has landed")).to_be_visible()
    expect(page.get_by_label("Topic")).to_have_value("nobody")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["Replay", "Discard"])
def test_a_dialog_can_be_used_by_everybody_on_a_telephone(world: World, admin: Show, verb: str) -> None:
    letter = value(world.database, "SELECT max(id) FROM dead_letter_events")
    execute(world.database, "UPDATE dead_letter_events SET status = 'open' WHERE id = %s", letter)
    page = admin(f"/dead-letters?letter={letter}", width=360)
    page.get_by_role("button", name=f"{verb} letter {letter}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert dialog.evaluate(
        "one => { const at = one.getBoundingClientRect(); return at.left >= 0 && at.right <= 360; }"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.slow
def test_the_sql_that_is_shown_runs(world: World, reader: Show) -> None:
    letter = value(world.database, "SELECT max(id) FROM dead_letter_events")
    addresses = [
        "pipeline", "dead-letters?period=7d&type=order.*&status=all", f"dead-letters?letter={letter}",
        f"sources?source={SOURCE}", f"ledger?only=dead&source={SOURCE}", "restatements?reason=late",
    ]  # fmt: skip
    page = reader("/pipeline")
    ran = []
    for address in addresses:
        go(page, world, f"/{address}")
        settled(page)
        buttons = page.locator("button.show-as").all()
        assert buttons, address
        for button in buttons:
            button.click()
            tab = page.get_by_role("tab", name="SQL")
            if tab.count():
                tab.click()
                rows(world.database, page.get_by_role("tabpanel").inner_text())
                ran.append(address)
            page.get_by_role("tab", name="curl").click()
            assert world.site.base in page.get_by_role("tabpanel").inner_text()
            page.keyboard.press("Escape")
    assert set(ran) == set(addresses)


@pytest.mark.slow
def test_each_view_can_be_used_by_everybody_at_every_width(world: World, reader: Show) -> None:
    letter = value(world.database, "SELECT min(id) FROM dead_letter_events")
    group = value(world.database, "SELECT min(fingerprint) FROM dead_letter_events")
    letters = ("status=all", f"group={group}&status=all", f"letter={letter}")
    axe, page = Axe(), reader("/pipeline")
    for address in [*VIEWS, *(f"dead-letters?{one}" for one in letters)]:
        page.emulate_media(color_scheme="light")
        go(page, world, f"/{address}")
        settled(page)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (address, width)
            if width > WIDTHS[0]:
                page.emulate_media(color_scheme="dark")
            if width < WIDTHS[-1]:
                found = axe.run(page)
                assert found.violations_count == 0, (address, width, found.generate_report())


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 3840])
def test_runs_are_named_on_one_line_and_one_hour_is_one(world: World, reader: Show, width: int) -> None:
    page = reader("/sources", width=width)
    ended = datetime.now(UTC).isoformat()
    runs = [
        {"run_id": f"c191c8b8-0911-454a-97e9-21de66cf94{number:02}", "job": job, "status": "SUCCESS",
         "created_at": ended, "started_at": ended, "ended_at": ended}
        for number, job in enumerate(("merge_live", "retention_and_partitions", "market_analytics_and_marts"))
    ]  # fmt: skip
    page.route("**/api/v1/pipeline/runs", lambda route: route.fulfill(json=answered(route) | {"runs": runs}))
    page.route("**/api/v1/pipeline", lambda route: route.fulfill(json=with_pending_hour(answered(route))))
    go(page, world, "/pipeline")
    names = page.locator("section[aria-labelledby=runs] td code")
    expect(names).to_have_text([run["run_id"][:8] for run in runs])
    for name in names.all():
        assert name.evaluate(
            """code => {
                const [room, own] = [code.closest(".scroll"), code].map(one => one.getBoundingClientRect());
                return own.right <= room.right && own.height < 2 * parseFloat(getComputedStyle(code).fontSize);
            }"""
        ), "it stands on one line, all of it to be seen"
    expect(page.locator("section[aria-labelledby=unsettled] header")).to_contain_text("deltas in 1 hour")
    expect(page.locator("section[aria-labelledby=unsettled] header")).not_to_contain_text("1 hours")


def answered(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = route.fetch().json()
    return found


def with_pending_hour(pipeline: dict[str, Any]) -> dict[str, Any]:
    return pipeline | {"rollups": pipeline["rollups"] | {"pending_hours": 1}}
