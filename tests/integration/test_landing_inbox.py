"""Posted events: durable from the append on, landed once, also when something fails in between."""

import asyncio
import json
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
import pytest

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import Message
from analytics_pipeline.events.posted import decode_posted
from analytics_pipeline.storage import inbox, landing
from analytics_pipeline.storage.landing import CommitUnknown, Lander, TimedOut
from tests.integration.landing_rig import check_books, decode_inbox, event, execute, message, rows, value
from tests.waiting import wait_for

PROCESS = uuid.UUID(int=7)


def post(conninfo: str, payloads: Sequence[bytes], process: uuid.UUID = PROCESS, each: int = 2) -> list[int]:
    """Post requests of `each` events, in rows of up to two requests; the offsets of the events."""

    async def append() -> list[int]:
        made = []
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            for start in range(0, len(payloads), 2 * each):
                row = payloads[start : start + 2 * each]
                requests = [row[:each], row[each:]] if len(row) > each else [row]
                entries = [inbox.Entry(b"\n".join(events), len(events)) for events in requests]
                landings = await inbox.append(connection, entries, process_id=process, now=datetime.now(UTC))
                made += [found.row + found.first + n for found in landings for n in range(found.events)]
        return made

    return asyncio.run(append())


def payloads(*numbers: int) -> list[bytes]:
    """The same number gives the same event."""
    limits, now = Limits(), datetime.now(UTC)
    return [
        decode_posted(
            json.dumps(event(n, timestamp=f"{now.date()}T00:00:00Z")).encode(), now=now, limits=limits
        ).payload
        for n in numbers
    ]


def check_inbox(conninfo: str) -> None:
    accepted, read, waiting = rows(
        conninfo,
        "SELECT (SELECT coalesce(sum(accepted), 0) FROM http_accepted),"
        " (SELECT coalesce(sum(read), 0) FROM ingest_batches WHERE source = 'http'),"
        " (SELECT coalesce(sum(events), 0)::bigint FROM http_inbox)",
    )[0]
    assert accepted == read + waiting
    check_books(conninfo)


def test_appending_returns_the_rows_in_order_and_counts_them(database: str) -> None:
    first = post(database, payloads(0, 1, 2))
    second = post(database, payloads(3), uuid.UUID(int=8))
    assert first == sorted(first)
    assert second[0] > first[-1]
    stored = rows(database, "SELECT payload FROM http_inbox ORDER BY id")
    assert [line for (payload,) in stored for line in payload.split(b"\n")] == payloads(0, 1, 2, 3)
    assert rows(database, "SELECT process_id, accepted FROM http_accepted ORDER BY 1") == [
        (PROCESS, 3),
        (uuid.UUID(int=8), 1),
    ]
    check_inbox(database)


def test_appending_wakes_whoever_listens(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as listening:
        listening.execute("LISTEN inbox")
        post(database, payloads(0))
        assert [note.channel for note in listening.notifies(timeout=5, stop_after=1)] == ["inbox"]


def test_events_that_take_long_to_judge_land_where_they_are_judged_before_the_transaction(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "_TIMEOUT", "1s")
    lander, other = Lander(database, name="slow-landing"), Lander(database, name="landing-test")
    post(database, payloads(*range(4)))
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'analytics-slow-landing' AND xact_start IS NOT NULL"
    )

    def slowly(messages: Sequence[Message]) -> Decoded:
        wait_for(lambda: value(database, open_ones) == 0, message="no transaction of the landing is open")
        return decode_inbox(messages)

    with pytest.raises(TimedOut, match="stood still"):
        lander.land_inbox(100, slowly)
    assert value(database, "SELECT sum(events) FROM http_inbox") == 4
    landed = lander.land_inbox(100, slowly, is_slow=True)
    assert landed is not None
    assert landed.lines[0].stored == 4
    assert lander.land_inbox(100, slowly, is_slow=True) is None

    def overtaken(messages: Sequence[Message]) -> Decoded:
        assert other.land_inbox(2, decode_inbox) is not None
        return decode_inbox(messages)

    post(database, payloads(*range(4, 12)))
    with pytest.raises(EnvironmentFault, match="another process"):
        lander.land_inbox(100, overtaken, is_slow=True)
    check_inbox(database)
    rest = lander.land_inbox(100, decode_inbox, is_slow=True)
    assert rest is not None
    assert rest.lines[0].stored == 4
    check_inbox(database)
    lander.close()
    other.close()


def test_posted_events_land_once_and_leave_the_inbox(database: str, lander: Lander) -> None:
    ids = post(database, payloads(*range(10)))
    landed = lander.land_inbox(6, decode_inbox)
    assert landed is not None
    assert landed.lines[0].stored == 8
    check_inbox(database)
    again = lander.land_inbox(100, decode_inbox)
    assert again is not None
    assert again.lines[0].stored == 2
    assert lander.land_inbox(100, decode_inbox) is None
    assert rows(database, "SELECT source, source_partition, source_offset FROM events ORDER BY 3") == [
        ("http", 0, i) for i in ids
    ]
    assert rows(database, "SELECT first_offset, next_offset, read FROM ingest_batches ORDER BY batch_id") == [
        (None, None, 8),
        (None, None, 2),
    ]
    check_inbox(database)


def test_a_posted_duplicate_goes_through_the_savepoint(database: str, lander: Lander) -> None:
    """A unique violation must not put the taken rows back into the inbox."""
    post(database, payloads(0, 1))
    lander.land_inbox(100, decode_inbox)
    post(database, payloads(1, 2))
    landed = lander.land_inbox(100, decode_inbox)
    assert landed is not None
    assert (landed.lines[0].stored, landed.lines[0].duplicate) == (1, 1)
    assert value(database, "SELECT coalesce(sum(events), 0)::bigint FROM http_inbox") == 0
    check_inbox(database)


def test_a_posted_row_that_postgres_refuses_becomes_a_dead_letter(database: str, lander: Lander) -> None:
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'user-3')")
    ids = post(database, payloads(*range(8)))
    landed = lander.land_inbox(100, decode_inbox)
    assert landed is not None
    assert (landed.lines[0].stored, landed.lines[0].dead) == (7, 1)
    assert rows(database, "SELECT source, source_offset, reason FROM dead_letter_events") == [
        ("http", ids[3], "refused_by_database")
    ]
    check_inbox(database)


def test_positions_count_from_the_request_not_from_the_row(database: str, lander: Lander) -> None:
    post(database, payloads(1))
    lander.land_inbox(100, decode_inbox)

    async def tell() -> list[inbox.Outcome | None]:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            requests = [payloads(2, 3), [*payloads(4), b"{}", *payloads(1, 5)]]
            entries = [inbox.Entry(b"\n".join(events), len(events)) for events in requests]
            landings = await inbox.append(connection, entries, process_id=PROCESS, now=datetime.now(UTC))
            assert len({landing.row for landing in landings}) == 1
            await asyncio.to_thread(lander.land_inbox, 100, decode_inbox)
            return [await inbox.outcome(connection, landing) for landing in landings]

    assert asyncio.run(tell()) == [
        inbox.Outcome(False, 2, [], []),
        inbox.Outcome(False, 4, [2], [(1, "missing_event_type")]),
    ]
    check_inbox(database)


def test_rows_behind_those_that_another_landing_holds_are_counted_for_themselves(
    database: str, lander: Lander
) -> None:
    """Three rows of one event are held; of the three rows of four behind them, the first reaches the limit."""
    small = [offset for n in range(3) for offset in post(database, payloads(n))]
    post(database, payloads(*range(10, 22)))
    with psycopg.connect(database) as other:
        other.execute("SELECT FROM http_inbox WHERE id = ANY(%s) FOR UPDATE", (small,))
        landed = lander.land_inbox(3, decode_inbox)
    assert landed is not None
    assert landed.lines[0].read == 4
    check_inbox(database)


def test_a_failure_puts_the_rows_back(database: str, lander: Lander) -> None:
    post(database, payloads(*range(5)))

    def fail(_messages: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lander.land_inbox(100, fail)  # type: ignore[arg-type]
    assert value(database, "SELECT coalesce(sum(events), 0)::bigint FROM http_inbox") == 5
    assert lander.land_inbox(100, decode_inbox) is not None
    check_inbox(database)


def test_two_landings_at_once_take_different_rows(database: str, lander: Lander) -> None:
    post(database, payloads(*range(20)))
    inside, go_on = threading.Event(), threading.Event()

    def slowly(messages: Sequence[object]) -> object:
        inside.set()
        assert go_on.wait(3)
        return decode_inbox(messages)  # type: ignore[arg-type]

    other = Lander(database, name="landing-test")
    thread = threading.Thread(target=lambda: other.land_inbox(8, slowly))  # type: ignore[arg-type]
    thread.start()
    assert inside.wait(10)
    landed = lander.land_inbox(100, decode_inbox)
    go_on.set()
    thread.join(10)
    other.close()
    assert landed is not None
    assert landed.lines[0].read == 12
    assert value(database, "SELECT count(*) FROM events") == 20
    check_inbox(database)


@pytest.mark.parametrize("was_done", [True, False])
def test_a_commit_without_an_answer_neither_loses_nor_doubles(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch, was_done: bool
) -> None:
    post(database, payloads(*range(5)))
    break_commit(lander, monkeypatch, was_done)
    with pytest.raises(CommitUnknown):
        lander.land_inbox(100, decode_inbox)
    wait_for(
        lambda: (
            value(database, "SELECT coalesce(sum(events), 0)::bigint FROM http_inbox")
            == (0 if was_done else 5)
        )
    )
    while lander.land_inbox(100, decode_inbox) is not None:
        pass
    assert value(database, "SELECT count(*) FROM events") == 5
    check_inbox(database)


def break_commit(lander: Lander, monkeypatch: pytest.MonkeyPatch, was_done: bool) -> None:
    """Cut the connection during the next COMMIT, after or before the server did it."""
    connection = lander.connection
    real = connection.commit

    def commit() -> None:
        monkeypatch.undo()
        if was_done:
            real()
        connection.pgconn.finish()
        raise psycopg.OperationalError("connection lost")

    monkeypatch.setattr(connection, "commit", commit)


def test_broken_payloads_are_dead_letters_not_a_stuck_inbox(database: str, lander: Lander) -> None:
    """What validation let through once, an older API for example."""
    ids = post(database, [b"not json", payloads(1)[0], b"\x00"], each=1)
    landed = lander.land_inbox(100, decode_inbox)
    assert landed is not None
    assert (landed.lines[0].stored, landed.lines[0].dead) == (1, 2)
    assert sorted(r[0] for r in rows(database, "SELECT source_offset FROM dead_letter_events")) == [
        ids[0],
        ids[2],
    ]
    assert message(0, None).value() is None
    check_inbox(database)
