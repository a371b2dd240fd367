"""Source statistics from landing to the command line: exact, bounded, never in the way of a landing."""

import asyncio
import json
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.settings import environment
from analytics_pipeline.storage import inbox, source_statistics
from analytics_pipeline.storage.connection import Lock, connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.source_statistics import MOST_PRODUCERS, Folded, SourceStatistics, fold, read
from tests.commands import run_command
from tests.integration.landing_rig import (
    claim,
    decode,
    decode_inbox,
    event,
    execute,
    message,
    rows,
    span,
    value,
)

KEEP = timedelta(days=90)


def named(offset: int, producer: str, content: Any) -> PlainMessage:
    return message(offset, content, extra=(("source", producer.encode()),))


def land_in(database: str, source: str, messages: list[PlainMessage], partition: int = 0) -> None:
    lander = Lander(database, name=f"landing-{source}-{partition}")
    owner = claim(database, (source, partition))
    try:
        lander.land(
            [span(owner, messages, source, partition)], decode([RawBatch(source, partition, messages)])
        )
    finally:
        lander.close()


def fold_now(database: str, now: datetime | None = None, keep: timedelta = KEEP) -> Folded:
    with connection(database, name="fold", autocommit=True) as opened:
        return fold(opened, now=now or datetime.now(UTC), keep=keep)


def shown(database: str, hours: int = 1) -> dict[tuple[str, str | None], SourceStatistics]:
    now = datetime.now(UTC)
    with connection(database, name="read", autocommit=True) as opened:
        found = read(opened, since=now - timedelta(hours=hours), until=now + timedelta(seconds=5))
    assert len({(one.source, one.producer) for one in found}) == len(found)
    return {(one.source, one.producer): one for one in found}


def counts(one: SourceStatistics) -> tuple[int, int, int, int]:
    return one.read, one.stored, one.duplicate, one.dead


def check_against_the_ledger(database: str) -> None:
    ledger = rows(
        database,
        "SELECT source, sum(read), sum(stored), sum(duplicate), sum(dead) FROM ingest_batches"
        " GROUP BY source ORDER BY 1",
    )
    live = rows(
        database,
        "SELECT source, sum(read), sum(stored), sum(duplicate), sum(dead) FROM source_statistics_live"
        " GROUP BY source ORDER BY 1",
    )
    assert live == ledger


def test_a_landing_leaves_its_statistics_and_folding_changes_nothing(database: str) -> None:
    late = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    once, again = event(0), event(4)
    land_in(
        database,
        "orders",
        [
            named(0, "execution", once),
            named(1, "execution", once),
            named(2, "execution", b"{"),
            named(3, "risk", event(3, timestamp=late)),
            message(4, again),
        ],
    )
    land_in(database, "orders", [message(0, again), message(1, event(5))], partition=1)
    check_against_the_ledger(database)
    before = shown(database)
    assert {key: counts(one) for key, one in before.items()} == {
        ("orders", "execution"): (3, 1, 1, 1),
        ("orders", "risk"): (1, 1, 0, 0),
        ("orders", None): (3, 2, 1, 0),
    }
    assert before["orders", "execution"].reasons == {"not_json": 1}
    assert before["orders", "risk"].lateness_p50_ms == pytest.approx(600_000, rel=0.05)
    assert before["orders", None].rate > 0

    folded = fold_now(database)
    assert (folded.taken, folded.written) == (4, 3)
    assert value(database, "SELECT count(*) FROM source_statistics_deltas") == 0
    check_against_the_ledger(database)
    after = shown(database)
    assert after.keys() == before.keys()
    for key, one in after.items():
        assert counts(one) == counts(before[key])
        assert (one.lateness_p99_ms, one.ahead_max_ms, one.reasons) == (
            before[key].lateness_p99_ms,
            before[key].ahead_max_ms,
            before[key].reasons,
        )

    land_in(database, "orders", [named(0, "risk", event(9))], partition=2)
    assert counts(shown(database)["orders", "risk"]) == (2, 2, 0, 0)
    assert fold_now(database).written == 1
    assert counts(shown(database)["orders", "risk"]) == (2, 2, 0, 0)
    assert fold_now(database) == Folded()


def test_a_batch_that_rolls_back_leaves_nothing(database: str) -> None:
    messages = [message(0, event(0))]
    stale = claim(database, ("orders", 0))
    claim(database, ("orders", 0))
    lander = Lander(database, name="landing-stale")
    with pytest.raises(Exception, match="lost"):
        lander.land([span(stale, messages, "orders")], decode([RawBatch("orders", 0, messages)]))
    lander.close()
    assert value(database, "SELECT count(*) FROM source_statistics_live") == 0
    check_against_the_ledger(database)


def test_rows_that_only_postgres_refuses_count_as_dead(database: str) -> None:
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_risk CHECK (user_id <> 'user-1')")
    land_in(database, "orders", [named(n, "execution", event(n)) for n in range(3)])
    one = shown(database)["orders", "execution"]
    assert counts(one) == (3, 2, 0, 1)
    assert one.reasons == {"refused_by_database": 1}
    check_against_the_ledger(database)


@pytest.mark.slow
def test_landings_and_foldings_at_once_lose_nothing(database: str) -> None:
    """Two landings of one topic and producer, while others fold: nobody waits for a lock of another's."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    batches = [[generator.randrange(1, 6) for _ in range(25)] for _ in range(2)]
    is_over = threading.Event()

    def landing(partition: int) -> None:
        lander = Lander(database, name=f"landing-{partition}")
        owner, offset = claim(database, ("orders", partition)), 0
        for size in batches[partition]:
            numbers = range(offset, offset + size)
            messages = [named(n, "execution", event(1000 * partition + n)) for n in numbers]
            lander.land(
                [span(owner, messages, "orders", partition)],
                decode([RawBatch("orders", partition, messages)]),
            )
            offset += size
            owner = owner._replace(next_offset=offset)
        lander.close()

    def folding() -> None:
        while not is_over.is_set():
            fold_now(database)

    with ThreadPoolExecutor(4) as pool:
        foldings = [pool.submit(folding) for _ in range(2)]
        landings = [pool.submit(landing, number) for number in range(2)]
        try:
            for one in landings:
                one.result(60)
        finally:
            is_over.set()
        for one in foldings:
            one.result(60)
    fold_now(database)
    assert counts(shown(database)["orders", "execution"])[0] == sum(map(sum, batches))
    check_against_the_ledger(database)


def test_an_open_landing_does_not_hold_up_another_nor_folding(database: str) -> None:
    land_in(database, "orders", [message(0, event(0))])
    decoded = decode([RawBatch("orders", 1, [message(0, event(1))])])
    with psycopg.connect(database) as first, first.cursor() as cursor:
        cursor.execute("SET statement_timeout = '5s'")
        source_statistics.append(cursor, 99, decoded, decoded.events, [], [])
        cursor.execute(
            "INSERT INTO source_statistics_deltas (batch_id, source, producer, read, stored, duplicate, dead,"
            " reasons, lateness, ahead_max_ms) VALUES (99, 'orders', '', 1, 1, 0, 0, '{}', '', 0)"
        )
        land_in(database, "orders", [message(0, event(2))], partition=2)
        assert fold_now(database).taken == 2
        first.commit()
    assert fold_now(database).taken == 1
    assert counts(shown(database)["orders", None])[0] == 3


def test_only_one_folds_at_a_time(database: str) -> None:
    land_in(database, "orders", [message(0, event(0))])
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, 0)", (Lock.STATISTICS,))
        assert fold_now(database) == Folded()
    assert fold_now(database).taken == 1


def test_names_of_a_day_are_bounded_over_batches_and_sources(database: str) -> None:
    first = MOST_PRODUCERS // 2
    for start in range(0, MOST_PRODUCERS + 20, first):
        names = range(start, min(start + first, MOST_PRODUCERS + 20))
        land_in(
            database,
            f"topic-{start}",
            [named(n - start, f"p-{n}", event(n)) for n in names],
        )
        fold_now(database)
    land_in(
        database,
        "again",
        [named(0, "p-0", event(5000)), named(1, "p-new", event(5001)), message(2, event(5002))],
    )
    fold_now(database)
    found = shown(database)
    assert counts(found[f"topic-{2 * first}", "__other__"]) == (20, 20, 0, 0)
    assert {key[1] for key in found if key[0] == "again"} == {"p-0", "__other__", None}
    check_against_the_ledger(database)


def test_many_rows_are_folded_in_several_steps(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_statistics, "_MOST_DELTAS", 3)
    for partition in range(7):
        land_in(database, "orders", [message(0, event(partition))], partition)
    monkeypatch.setattr(source_statistics, "_MOST_STEPS", 2)
    assert fold_now(database).taken == 6
    assert fold_now(database).taken == 1
    assert counts(shown(database)["orders", None])[0] == 7


def test_old_hours_are_forgotten(database: str) -> None:
    land_in(database, "orders", [message(0, event(0))])
    fold_now(database)
    assert fold_now(database, datetime.now(UTC) + KEEP).forgotten == 0
    assert fold_now(database, datetime.now(UTC) + KEEP + timedelta(hours=1)).forgotten == 1
    assert shown(database) == {}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database: str):
    monkeypatch.setenv(
        "B25_LOCAL_STACK__STATE_FOLDER", environment().get("B25_LOCAL_STACK__STATE_FOLDER", "")
    )
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    with psycopg.connect(database) as opened:
        info = opened.info
        url = f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
    monkeypatch.setenv("B25_DATABASE__URL", url)

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", "sources", *arguments])

    return call


def test_the_command_shows_them(database: str, command) -> None:
    code, out, _ = command()
    assert (code, out.strip()) == (0, "nothing landed in this time")
    ahead = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    land_in(
        database,
        "orders",
        [
            named(0, "execution", event(0)),
            named(1, "execution", event(1, timestamp=ahead)),
            named(2, "execution", b"no"),
        ],
    )
    code, out, _ = command("--json")
    [one] = json.loads(out)
    assert code == 0
    assert (one["source"], one["producer"], one["read"], one["dead"]) == ("orders", "execution", 3, 1)
    assert 25_000 < one["ahead_max_ms"] < 31_000
    assert one["reasons"] == {"not_json": 1}
    assert datetime.fromisoformat(one["last_at"]).tzinfo is not None
    code, out, _ = command("--since", "2h")
    assert code == 0
    assert "execution" in out
    assert "not_json 1" in out.replace("\n", " ")
    assert re.search(r"what landed from \d{4}-\d\d-\d\d \d\d:00Z until now", out)
    assert "execution" in command("--producer", "execution")[1]
    assert command("--producer", "another")[1].strip() == "nothing landed in this time"
    code, _, errors = command("--since", "yesterday")
    assert code == 2
    assert "--since" in errors


def test_events_of_many_clients_in_one_row_of_the_inbox_keep_their_names(database: str) -> None:
    entries = [("orders", 2), ("", 1), ("risk", 3), ("orders", 1)]
    numbers = iter(range(100))

    async def post() -> None:
        made = [
            inbox.Entry(
                b"\n".join(json.dumps(event(next(numbers))).encode() for _ in range(count)), count, name
            )
            for name, count in entries
        ]
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as opened:
            await inbox.append(opened, made, process_id=uuid4(), now=datetime.now(UTC))
            await inbox.append(opened, [made[1]], process_id=uuid4(), now=datetime.now(UTC))

    asyncio.run(post())
    lander = Lander(database, name="landing-http")
    lander.land_inbox(1000, decode_inbox)
    lander.close()
    found = {producer: counts(one) for (_, producer), one in shown(database).items()}
    assert found == {"orders": (3, 3, 0, 0), "risk": (3, 3, 0, 0), None: (2, 1, 1, 0)}
    check_against_the_ledger(database)
