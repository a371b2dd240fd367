"""Rows that have expired: the ledger, dead letters, what was accepted. The books balance before and after."""

import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from analytics_pipeline.settings import Retention
from analytics_pipeline.storage import expired_rows, retention
from analytics_pipeline.storage.audit import verify
from analytics_pipeline.storage.connection import Connection, connect
from analytics_pipeline.storage.expired_rows import preview_expired_rows, remove_expired_rows
from analytics_pipeline.storage.rollups import merge_hour, pending_hours
from tests.integration.landed import Event, land

DAY = timedelta(days=1)
KEEP = Retention(raw_events="1d", dead_letters="2d", ledger="5d")


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    with connect(database, name="test", autocommit=True) as connection:
        yield connection


def line(db: Connection, at: datetime, *, source: str = "orders", dead: int = 0, duplicate: int = 0) -> int:
    """A batch that stored nothing, with its open dead letters, committed at a time."""
    with db.transaction():
        [batch] = db.execute("SELECT nextval('ingest_batch_id_seq')").fetchone()
        read = dead + duplicate
        first, following = None, None
        if source == "http":
            db.execute("INSERT INTO http_accepted VALUES (%s, %s, %s)", (uuid.uuid4(), at.date(), read))
        else:
            [following] = db.execute(
                "INSERT INTO ingest_offsets AS known (source, partition, next_offset) VALUES (%s, 0, %s)"
                " ON CONFLICT (source, partition) DO UPDATE SET next_offset = known.next_offset + excluded.next_offset"
                " RETURNING next_offset",
                (source, read),
            ).fetchone()
            first = following - read
        db.execute(
            "INSERT INTO ingest_batches (batch_id, source, partition, first_offset, next_offset, read, stored,"
            " duplicate, dead, catalog_version, began_at, committed_at)"
            " VALUES (%s, %s, 0, %s, %s, %s, 0, %s, %s, '', %s, %s)",
            (batch, source, first, following, read, duplicate, dead, at, at),
        )
        db.execute(
            "INSERT INTO dead_letter_events (batch_id, source, partition, source_offset, reason, fingerprint,"
            " key, value, headers, created_at)"
            " SELECT %s, %s, 0, n, 'not_json', 'f', 'k', 'v', '[]', %s FROM generate_series(1, %s) AS n",
            (batch, source, at, dead),
        )
    return int(batch)


def discard(db: Connection, batch: int, at: datetime) -> None:
    db.execute(
        "UPDATE dead_letter_events SET status = 'discarded', settled_at = %s WHERE batch_id = %s AND status = 'open'",
        (at, batch),
    )


def replay(db: Connection, batches: list[int], at: datetime) -> int:
    """One replay that settles the open letters of several batches; their events were there already."""
    with db.transaction():
        [batch] = db.execute("SELECT nextval('ingest_batch_id_seq')").fetchone()
        settled = db.execute(
            "UPDATE dead_letter_events SET status = 'replayed', replay_batch_id = %s, settled_at = %s"
            " WHERE batch_id = ANY(%s) AND status = 'open'",
            (batch, at, batches),
        ).rowcount
        db.execute(
            "INSERT INTO ingest_batches (batch_id, source, partition, read, stored, duplicate, dead, catalog_version,"
            " began_at, committed_at) VALUES (%s, '_replay', 0, %s, 0, %s, 0, '', %s, %s)",
            (batch, settled, settled, at, at),
        )
    return int(batch)


def batches(db: Connection, source: str) -> list[int]:
    return [
        b
        for (b,) in db.execute("SELECT batch_id FROM ingest_batches WHERE source = %s ORDER BY 1", (source,))
    ]


def broken(db: Connection) -> dict[str, list[object]]:
    return {check.name: list(check.places) for check in verify(db) if check.broken}


def raise_floor(db: Connection, now: datetime) -> None:
    db.execute("UPDATE retention_state SET raw_floor = %s", (now - KEEP.raw_events,))


def drop_events(db: Connection, now: datetime) -> None:
    """Let retention remove every day of events that a run at `now` would."""
    retention.write_policies(db, KEEP)
    for pending in pending_hours(db):
        merge_hour(db, pending.hour, run_id="test")
    retention.remove_expired(db, now=now, run_id="test")


def test_old_lines_go_with_their_letters_and_the_last_line_stays(db, now):
    raise_floor(db, now)
    old = [line(db, now - 9 * DAY, duplicate=3, dead=n % 2) for n in range(6)]
    for batch in old:
        discard(db, batch, now - 8 * DAY)
    told = preview_expired_rows(db, KEEP, now=now)
    done = remove_expired_rows(db, KEEP, now=now)
    assert (done.ledger_lines, done.dead_letters, done.held) == (5, 2, [])
    assert (told.ledger_lines, told.dead_letters, told.held) == (5, 2, [])
    assert batches(db, "orders") == old[-1:]
    assert broken(db) == {}
    new = line(db, now, duplicate=2)
    assert remove_expired_rows(db, KEEP, now=now).ledger_lines == 1
    assert batches(db, "orders") == [new]
    assert broken(db) == {}


def test_a_young_line_stays(db, now):
    raise_floor(db, now)
    [old, young] = [line(db, now - 9 * DAY, duplicate=1), line(db, now - 4 * DAY, duplicate=1)]
    last = line(db, now, duplicate=1)
    remove_expired_rows(db, KEEP, now=now)
    assert batches(db, "orders") == [young, last]
    assert old not in batches(db, "orders")


def test_an_open_letter_keeps_its_line_and_all_that_follow(db, now):
    raise_floor(db, now)
    first, second, third, last = (line(db, now - 9 * DAY, dead=1, duplicate=1) for _ in range(4))
    for batch in (first, third, last):
        discard(db, batch, now - 8 * DAY)
    done = remove_expired_rows(db, KEEP, now=now)
    assert batches(db, "orders") == [second, third, last]
    assert done.held == ["orders/0"]
    assert preview_expired_rows(db, KEEP, now=now).held == ["orders/0"]
    [(status, value)] = db.execute(
        "SELECT status, value FROM dead_letter_events WHERE batch_id = %s", (second,)
    )
    assert (status, value) == ("open", b"v")
    assert broken(db) == {}
    discard(db, second, now - 3 * DAY)
    remove_expired_rows(db, KEEP, now=now)
    assert batches(db, "orders") == [last]
    assert broken(db) == {}


def test_a_letter_settled_a_short_time_ago_keeps_its_line_and_its_content(db, now):
    raise_floor(db, now)
    old = line(db, now - 9 * DAY, dead=1)
    line(db, now, duplicate=1)
    discard(db, old, now - DAY)
    done = remove_expired_rows(db, KEEP, now=now)
    assert (done.ledger_lines, done.contents_erased) == (0, 0)
    assert batches(db, "orders")[0] == old


def test_the_content_of_settled_letters_goes_before_their_fate(db, now):
    raise_floor(db, now)
    batch = line(db, now - 4 * DAY, dead=2)
    discard(db, batch, now - 3 * DAY)
    waiting = line(db, now - 4 * DAY, dead=1)
    assert preview_expired_rows(db, KEEP, now=now).contents_erased == 2
    assert remove_expired_rows(db, KEEP, now=now).contents_erased == 2
    assert remove_expired_rows(db, KEEP, now=now).contents_erased == 0
    letters = "SELECT key, value, headers, reason, status, note FROM dead_letter_events WHERE batch_id = %s"
    erased = (None, None, None, "not_json", "discarded", "its content has expired")
    assert db.execute(letters, (batch,)).fetchall() == [erased, erased]
    assert db.execute(letters, (waiting,)).fetchall() == [(b"k", b"v", b"[]", "not_json", "open", None)]
    assert broken(db) == {}


def test_letters_that_one_replay_settled_go_whenever_their_own_line_does(db, now):
    raise_floor(db, now)
    first = line(db, now - 9 * DAY, dead=3)
    young = line(db, now - 4 * DAY, dead=2)
    replayed = replay(db, [first, young], now - 3 * DAY)
    line(db, now, duplicate=1)
    done = remove_expired_rows(db, KEEP, now=now)
    assert (done.ledger_lines, done.held) == (0, ["orders/0"])
    assert broken(db) == {}
    later = now + 3 * DAY
    done = remove_expired_rows(db, KEEP, now=later)
    assert (done.ledger_lines, done.dead_letters) == (3, 5)
    assert batches(db, "_replay") == []
    assert replayed not in batches(db, "orders")
    assert broken(db) == {}


def test_a_letter_outlives_the_line_of_its_replay_with_a_note(db, now):
    raise_floor(db, now)
    old = line(db, now - 9 * DAY, dead=1)
    replayed = replay(db, [old], now - 8 * DAY)
    blocker = line(db, now - 10 * DAY, source="other", dead=1)
    remove_expired_rows(db, KEEP, now=now)
    [(status, note)] = db.execute("SELECT status, note FROM dead_letter_events WHERE batch_id = %s", (old,))
    assert status == "discarded"
    assert f"replayed by batch {replayed}, which has expired" in note
    assert batches(db, "other") == [blocker]
    assert broken(db) == {}


def test_posted_events_stay_accounted_for(db, now, monkeypatch):
    monkeypatch.setattr(expired_rows, "_AT_ONCE", 3)
    raise_floor(db, now)
    for days in (12, 11, 10, 9, 8, 7, 6, 4, 1):
        line(db, now - days * DAY, source="http", duplicate=days)
    told = preview_expired_rows(db, KEEP, now=now)
    assert remove_expired_rows(db, KEEP, now=now).ledger_lines == 6
    assert told.ledger_lines >= 6
    carried = "SELECT read, duplicate, stored, note FROM ingest_batches WHERE source = 'http' ORDER BY batch_id LIMIT 1"
    assert db.execute(carried).fetchone() == (63, 63, 0, "carried forward: older lines, added up")
    assert len(batches(db, "http")) == 3
    assert db.execute("SELECT count(*), sum(accepted) FROM http_accepted").fetchone() == (3, 68)
    assert broken(db) == {}
    assert remove_expired_rows(db, KEEP, now=now).ledger_lines == 0
    line(db, now, source="http", duplicate=1)
    remove_expired_rows(db, KEEP, now=now + 20 * DAY)
    assert len(batches(db, "http")) == 2
    assert broken(db) == {}


def test_lines_stay_as_long_as_their_events(db, now):
    for _ in range(3):
        land(db, [Event("page.view", now, {"page": "/"}), Event("page.view", now - 2 * DAY)])
    later = now + 6 * DAY
    assert remove_expired_rows(db, KEEP, now=later).ledger_lines == 0
    drop_events(db, now + DAY)  # the older events go, the others stay
    assert remove_expired_rows(db, KEEP, now=later).ledger_lines == 0
    raise_floor(db, later)
    assert remove_expired_rows(db, KEEP, now=later).ledger_lines == 0
    assert broken(db) == {}
    drop_events(db, later)
    assert remove_expired_rows(db, KEEP, now=later).ledger_lines == 2
    assert len(batches(db, "orders")) == 1
    assert broken(db) == {}


def test_lines_stay_while_their_deltas_wait(db, now):
    for _ in range(2):
        land(db, [Event("page.view", now)])
    db.execute("UPDATE ingest_batches SET hours = '{}'")
    raise_floor(db, now + 9 * DAY)
    assert remove_expired_rows(db, KEEP, now=now + 9 * DAY).ledger_lines == 0
    db.execute("DELETE FROM pending_batches")
    assert remove_expired_rows(db, KEEP, now=now + 9 * DAY).ledger_lines == 1


def test_landings_and_operators_are_never_waited_for_nor_blocked(db, database, now):
    raise_floor(db, now)
    for _ in range(3):
        discard(db, line(db, now - 9 * DAY, dead=1), now - 8 * DAY)
    with connect(database, name="landing") as landing:
        landing.execute("INSERT INTO ingest_batches SELECT 900, 'orders', 0, 3, 3, 0, 0, 0, 0, 0, ''")
        landing.execute("UPDATE ingest_offsets SET updated_at = now()")
        landing.execute("INSERT INTO http_accepted VALUES (%s, current_date, 1)", (uuid.uuid4(),))
        db.execute("SET statement_timeout = '5s'")
        assert remove_expired_rows(db, KEEP, now=now).ledger_lines == 2
        landing.rollback()
    assert broken(db) == {}


def test_the_books_balance_whatever_goes_and_when(db, now, monkeypatch):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    monkeypatch.setattr(expired_rows, "_AT_ONCE", 4)
    raise_floor(db, now + 60 * DAY)
    clock = now - 60 * DAY
    known: list[int] = []
    for _ in range(60):
        clock += timedelta(hours=chance.randrange(1, 30))
        source = chance.choice(["orders", "market", "http"])
        match chance.choice(["line", "line", "line", "discard", "replay", "expire"]):
            case "line":
                known.append(
                    line(
                        db,
                        clock,
                        source=source,
                        dead=chance.choice([0, 0, 1, 3]),
                        duplicate=chance.randrange(1, 4),
                    )
                )
            case "discard" if known:
                discard(db, chance.choice(known), clock)
            case "replay" if known:
                replay(db, chance.sample(known, chance.randrange(1, len(known) + 1)), clock)
            case "expire":
                remove_expired_rows(db, KEEP, now=clock)
        assert broken(db) == {}, f"seed {seed}"
    for batch in known:
        discard(db, batch, clock)
    line(db, clock, source="http", duplicate=1)
    remove_expired_rows(db, KEEP, now=clock + 20 * DAY)
    assert broken(db) == {}, f"seed {seed}"
    assert len(batches(db, "_replay")) == 0
    assert len(batches(db, "orders")) <= 1
    assert len(batches(db, "market")) <= 1
    assert len(batches(db, "http")) <= 2
    assert db.execute("SELECT count(*) FROM dead_letter_events WHERE status = 'open'").fetchone() == (0,)
