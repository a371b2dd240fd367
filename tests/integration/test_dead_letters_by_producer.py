"""Dead letters by who sent them: written by every path, found by it, and told apart from the topic."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.storage import dead_letter_export, dead_letters, inbox, replays
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dead_letters import Filter
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.producers import known_producers
from tests.integration.landing_rig import LIMITS, claim, decode_inbox, event, execute, land, message, rows
from tests.integration.test_dead_letters_cli import Run, run
from tests.integration.test_landing_inbox import PROCESS

__all__ = ["run"]

NAMED = (("source", b"order-exec"),)
PRODUCERS = "SELECT source_offset, producer FROM dead_letter_events ORDER BY source_offset"


@pytest.fixture
def opened(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def landed(database: str, lander: Lander) -> None:
    """Letters of decode, of the floor, of the fallback; one without a name, one of an unreadable name."""
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    long_ago = (datetime.now(UTC) - timedelta(days=400)).isoformat()
    sent = [
        message(0, b"{", extra=NAMED),
        message(1, event(1, timestamp=long_ago), extra=NAMED),
        message(2, event(2, user_id="poison"), extra=NAMED),
        message(3, b"{"),
        message(4, b"{", extra=(("source", b"two words"),)),
        message(5, b"{", extra=(("client_id", b"risk"),)),
        message(6, event(6), extra=NAMED),
        message(7, event(7, user_id=7), extra=NAMED),
        message(8, event(8, user_id=8, session_id="s"), extra=NAMED),
    ]
    land(lander, claim(database), sent)


@pytest.mark.usefixtures("landed")
def test_every_path_of_landing_writes_the_producer(database: str, opened: Connection) -> None:
    named = [(0, "order-exec"), (1, "order-exec"), (2, "order-exec")]
    others = [(3, None), (4, "__other__"), (5, "risk"), (7, "order-exec"), (8, "order-exec")]
    assert rows(database, PRODUCERS) == named + others
    found = dead_letters.find(opened, Filter(producers=("risk", "__other__")), limit=9)
    assert [(letter.offset, letter.producer) for letter in found] == [(5, "risk"), (4, "__other__")]
    [(letter, content)] = dead_letter_export.export(opened, Filter(producers=("risk",)))
    assert dead_letter_export.as_record(letter, content)["producer"] == "risk"
    assert dead_letters.discard(opened, Filter(producers=("risk",)), note="a test") == 1
    assert not Filter(producers=("risk",)).is_empty


@pytest.mark.usefixtures("landed")
def test_a_group_names_its_producers_and_counts_each_letter_once(database: str, opened: Connection) -> None:
    execute(database, "UPDATE dead_letter_events SET producer = 'a' WHERE source_offset = 4")
    [largest] = dead_letters.groups(opened, Filter(reasons=("not_json",)), limit=9)
    assert (largest.count, largest.open, largest.producers) == (4, 4, ("a", "order-exec", "risk"))
    execute(database, "UPDATE dead_letter_events SET producer = 'risk' WHERE source_offset = 4")
    [largest] = dead_letters.groups(opened, Filter(reasons=("not_json",)), limit=9)
    assert largest.producers == ("risk", "order-exec")
    assert dead_letters.count_groups(opened, Filter(reasons=("not_json",))) == 1


def test_posted_events_keep_the_name_of_their_client(database: str, lander: Lander) -> None:
    entries = [inbox.Entry(b"{}", 1, "web"), inbox.Entry(b"{}", 1)]

    async def post() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await inbox.append(connection, entries, process_id=PROCESS, now=datetime.now(UTC))

    asyncio.run(post())
    lander.land_inbox(100, decode_inbox)
    assert [producer for _, producer in rows(database, PRODUCERS)] == ["web", None]


@pytest.mark.usefixtures("landed")
def test_a_replay_names_the_producer_of_an_old_letter_that_it_leaves_open(
    database: str, lander: Lander
) -> None:
    execute(database, "UPDATE dead_letter_events SET producer = NULL WHERE source_offset < 2")
    execute(database, "UPDATE dead_letter_events SET producer = 'kept' WHERE source_offset = 5")
    which = Filter(reasons=("not_json",))
    list(replays.replay(lander, which, definitions=lambda: NO_DEFINITIONS, limits=LIMITS))
    assert rows(database, PRODUCERS)[:2] == [(0, "order-exec"), (1, None)]
    assert rows(database, PRODUCERS)[5] == (5, "kept")


def test_letters_of_one_producer_and_groups_of_all_are_found_by_an_index(opened: Connection) -> None:
    opened.execute(
        "INSERT INTO dead_letter_events (batch_id, source, partition, source_offset, reason, fingerprint, value,"
        " producer) SELECT 1, 'a', 0, n, 'not_json', n % 20, repeat('x', 400)::bytea, 'p' || n % 5000"
        " FROM generate_series(1, 20000) AS n"
    )
    opened.execute("VACUUM ANALYZE dead_letter_events")

    def plan(statement: str, which: Filter) -> str:
        values = {**which.parameters(), "before": None, "limit": 50, "most_bytes": 1000}
        return "\n".join(row[0] for row in opened.execute(f"EXPLAIN {statement}", values))

    assert "dead_letter_events_producer_idx" in plan(dead_letters._FIND, Filter(producers=("p7",)))
    # Of so few rows the table is as quick: what counts is that the index has every column.
    opened.execute("SET enable_seqscan = off")
    opened.execute("SET enable_bitmapscan = off")
    open_ones = Filter(statuses=(dead_letters.Status.OPEN,))
    assert "Index Only Scan using dead_letter_events_fingerprint_idx" in plan(dead_letters._GROUPS, open_ones)


@pytest.mark.slow
@pytest.mark.usefixtures("landed")
def test_a_topic_that_is_a_producer_is_told(run: Run, opened: Connection, tmp_path: Path) -> None:
    hint = "; order-exec is a producer: --producer order-exec\n"
    asked = ["--source", "order-exec", "--source", "nowhere"]
    assert run("list", *asked) == (0, f"no dead letter matches{hint}", "")
    assert run("groups", *asked) == (0, f"no dead letter matches{hint}", "")
    assert run("list", *asked, "--json") == (0, "[]\n", f"no dead letter matches{hint}")
    assert run("export", *asked) == (0, "", f"0 dead letters exported{hint}")
    nothing = f"no open dead letter matches: nothing to replay{hint}"
    assert run("replay", *asked) == (0, nothing, "")
    code, out, err = run("replay", *asked, "--json")
    assert (code, json.loads(out)["tried"], err) == (0, 0, nothing)
    assert run("discard", *asked, "--note", "x") == (0, f"0 dead letters discarded{hint}", "")
    # Known from source statistics alone, as letters from before have no producer.
    opened.execute("UPDATE dead_letter_events SET producer = NULL")
    assert run("list", *asked)[1] == f"no dead letter matches{hint}"
    assert run("list", "--source", "")[1] == "no dead letter matches\n"
    assert known_producers(opened, ["risk", "x", "order-exec"]) == ["risk", "order-exec"]


@pytest.mark.usefixtures("landed")
def test_commands_choose_and_show_producers(run: Run) -> None:
    found = json.loads(run("list", "--producer", "risk", "--producer", "__other__", "--json")[1])
    assert [letter["producer"] for letter in found] == ["risk", "__other__"]
    assert "risk" in run("list", "--producer", "risk")[1]
    shown = run("show", found[0]["id"])[1]
    assert "producer     risk\n" in shown
    assert json.loads(run("show", found[0]["id"], "--json")[1])["producer"] == "risk"
    assert json.loads(run("groups", "--producer", "risk", "--json")[1])[0]["producers"] == ["risk"]
    assert run("discard", "--producer", "risk", "--note", "x")[1] == "1 dead letter discarded\n"


@pytest.mark.slow
@pytest.mark.usefixtures("landed")
@pytest.mark.parametrize("width", [80, 120])
def test_groups_take_two_lines_each_within_the_screen(
    run: Run, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run("groups")
    groups = json.loads(run("groups", "--json")[1])
    lines = out.splitlines()
    assert (code, len(groups), len(lines)) == (0, 5, 2 + 2 * len(groups))
    assert max(map(len, lines)) <= width
    told = dict(line.split(maxsplit=1) for line in lines[3::2])
    assert told.keys() == {group["group"] for group in groups}
    by_reason = {group["reason"]: told[group["group"]] for group in groups}
    assert by_reason["not_json"].startswith("from __other__, order-exec, risk; text beginning with {")
    assert by_reason["too_old"].startswith("$.timestamp: string; from order-exec")
    [without, with_session] = [
        told[group["group"]]
        for group in sorted(groups, key=lambda group: len(group["shape"]))
        if group["reason"] == "bad_user_id"
    ]
    assert without.startswith("$.user_id: number; from order-exec; no session_id")
    assert with_session.startswith("$.user_id: number; from order-exec; session_id: string")
    assert all("properties: {order_id: string" in group["shape"] for group in groups if group["event_type"])


@pytest.mark.usefixtures("landed")
def test_groups_say_how_many_more_there_are(run: Run) -> None:
    more = "3 more groups, with fewer letters: --limit shows more, up to 500\n"
    code, out, err = run("groups", "--limit", 2)
    assert (code, len(out.splitlines()), err) == (0, 7, "")
    assert out.endswith(more)
    code, out, err = run("groups", "--limit", 2, "--json")
    assert (len(json.loads(out)), err) == (2, more)
    assert "1 more group, with" in run("groups", "--limit", 4)[1]
    assert "more group" not in run("groups", "--limit", 5)[1]
