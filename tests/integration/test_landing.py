"""The landing transaction on a real Postgres."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.storage import backends, offsets, standings
from analytics_pipeline.storage.connection import Lock, connection
from analytics_pipeline.storage.landing import CommitUnknown, Lander, TimedOut
from analytics_pipeline.storage.offsets import Claim, Moved
from tests.integration.landing_rig import (
    SOURCE,
    check_books,
    claim,
    decode,
    event,
    execute,
    land,
    meddle,
    message,
    rows,
    span,
    value,
)
from tests.integration.test_landing_inbox import break_commit
from tests.waiting import wait_for


def test_a_batch_lands_with_its_books(database: str, lander: Lander) -> None:
    owner = claim(database)
    sent = [event(number) for number in range(100)]
    landed, owner = land(lander, owner, [message(at, sent[at]) for at in range(100)])
    assert [(line.read, line.stored, line.duplicate, line.dead) for line in landed.lines] == [
        (100, 100, 0, 0)
    ]
    found = rows(
        database, "SELECT id::text, event_type, user_id, properties, source, source_offset FROM events"
    )
    assert sorted(found, key=lambda row: row[5]) == [
        (e["id"], e["event_type"], e["user_id"], e["properties"], SOURCE, at) for at, e in enumerate(sent)
    ]
    assert rows(database, "SELECT next_offset, epoch FROM ingest_offsets") == [(100, 1)]
    assert value(database, "SELECT sum(count) FROM rollup_deltas WHERE metric_name = 'events.count'") == 100
    check_books(database)


def test_batches_follow_each_other_without_a_gap(database: str, lander: Lander) -> None:
    owner = claim(database, start=7)
    for first in (7, 20, 33):
        _, owner = land(lander, owner, [message(at, event(at)) for at in range(first, first + 10)])
    ledger = rows(database, "SELECT first_offset, next_offset, read, skipped FROM ingest_batches ORDER BY 1")
    assert ledger == [(7, 17, 10, 0), (17, 30, 10, 3), (30, 43, 10, 3)]
    check_books(database)


def test_a_broken_message_becomes_a_dead_letter_with_its_bytes(database: str, lander: Lander) -> None:
    broken = message(1, b"\x00\xffnot json", name=b"k\x00ey", extra=(("a", b"\x00"), ("a", None)))
    landed, _ = land(lander, claim(database), [message(0, event(0)), broken, message(2, event(2))])
    assert [letter.reason for letter in landed.dead] == ["not_json"]
    found = rows(
        database,
        "SELECT source, partition, source_offset, reason, key, value, convert_from(headers, 'UTF8')"
        " FROM dead_letter_events",
    )
    assert found == [
        (SOURCE, 0, 1, "not_json", b"k\x00ey", b"\x00\xffnot json", '[["a", "AA=="], ["a", null]]')
    ]
    assert rows(database, "SELECT source_offset FROM events ORDER BY 1") == [(0,), (2,)]
    check_books(database)


def test_a_duplicate_inside_a_batch_is_stored_once_and_the_first_stays(database: str, lander: Lander) -> None:
    twin = event(1)
    first, second = message(0, {**twin, "user_id": "first"}), message(1, {**twin, "user_id": "second"})
    landed, _ = land(lander, claim(database), [first, second])
    assert (landed.lines[0].stored, landed.lines[0].duplicate) == (1, 1)
    assert rows(database, "SELECT user_id FROM events") == [("first",)]
    check_books(database)


def test_duplicates_of_an_earlier_batch_are_counted_and_change_nothing(database: str, lander: Lander) -> None:
    sent = [event(number) for number in range(50)]
    _, owner = land(lander, claim(database), [message(at, e) for at, e in enumerate(sent)])
    changed = [{**e, "user_id": "changed"} for e in sent[10:20]] + [event(number) for number in range(60, 70)]
    landed, owner = land(lander, owner, [message(50 + at, e) for at, e in enumerate(changed)])
    assert landed.used_fallback
    assert (landed.lines[0].stored, landed.lines[0].duplicate) == (10, 10)
    assert value(database, "SELECT count(*) FROM events WHERE user_id = 'changed'") == 0
    check_books(database)

    again, owner = land(lander, owner, [message(70 + at, event(100 + at)) for at in range(10)])
    assert again.used_fallback, "the stream has duplicates: the next batch starts in fallback mode"
    assert again.lines[0].stored == 10
    check_books(database)


def test_fallback_mode_ends_when_the_duplicates_end(database: str, lander: Lander) -> None:
    twin = event(0)
    _, owner = land(lander, claim(database), [message(0, twin)])
    _, owner = land(lander, owner, [message(1, twin)])
    modes = []
    for at in range(2, 30):
        landed, owner = land(lander, owner, [message(at, event(at))])
        modes.append(landed.used_fallback)
    assert modes[0]
    assert not modes[-1]
    check_books(database)


def test_twins_in_a_fallback_batch_are_told_apart(database: str, lander: Lander) -> None:
    """A key cannot tell which of two rows was stored, the source coordinates can."""
    stored_before, twin = event(0), event(1)
    _, owner = land(lander, claim(database), [message(0, stored_before)])
    batch = [stored_before, {**twin, "user_id": "a"}, {**twin, "user_id": "b"}, event(2)]
    landed, _ = land(lander, owner, [message(1 + at, e) for at, e in enumerate(batch)])
    assert (landed.lines[0].stored, landed.lines[0].duplicate) == (2, 2)
    assert value(database, "SELECT count(*) FROM events WHERE user_id = 'a'") == 1
    check_books(database)


def test_the_same_key_from_two_partitions_is_stored_once(database: str, lander: Lander) -> None:
    twin = event(1)
    owners = [claim(database, (SOURCE, number)) for number in (0, 1)]
    batches = [RawBatch(SOURCE, number, [message(0, twin)]) for number in (0, 1)]
    spans = [
        span(owner, batch.messages, partition=number)
        for number, (owner, batch) in enumerate(zip(owners, batches, strict=True))
    ]
    landed = lander.land(spans, decode(batches))
    assert [(line.partition, line.stored, line.duplicate) for line in landed.lines] == [(0, 1, 0), (1, 0, 1)]
    check_books(database)


@pytest.mark.parametrize("position", [0, 1, 7, 15, 16, 31])
@pytest.mark.parametrize("state", ["22023", "23514"])
def test_a_row_that_only_postgres_refuses_becomes_a_dead_letter(
    database: str, lander: Lander, position: int, state: str
) -> None:
    if state == "23514":
        execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    else:
        meddle(
            database,
            "events",
            "IF new.user_id = 'poison' THEN RAISE 'poison' USING ERRCODE = '22023'; END IF;",
        )
    sent = [event(number) for number in range(32)]
    sent[position]["user_id"] = "poison"
    landed, _ = land(lander, claim(database), [message(at, e) for at, e in enumerate(sent)])
    assert (landed.lines[0].stored, landed.lines[0].dead) == (31, 1)
    [(offset, reason, detail)] = rows(
        database, "SELECT source_offset, reason, detail FROM dead_letter_events"
    )
    assert (offset, reason) == (position, "refused_by_database")
    assert state in detail
    check_books(database)


def test_refused_and_duplicate_rows_in_one_batch(database: str, lander: Lander) -> None:
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    sent = [event(number) for number in range(20)]
    _, owner = land(lander, claim(database), [message(at, e) for at, e in enumerate(sent[:5])])
    bad = [{**e, "user_id": "poison"} if number in (8, 19) else e for number, e in enumerate(sent)]
    landed, _ = land(lander, owner, [message(5 + at, e) for at, e in enumerate(bad)])
    line = landed.lines[0]
    assert (line.read, line.stored, line.duplicate, line.dead) == (20, 13, 5, 2)
    check_books(database)


def test_events_below_the_retention_floor_are_too_old(database: str, lander: Lander) -> None:
    floor = datetime.now(UTC) - timedelta(hours=2)
    execute(database, "UPDATE retention_state SET raw_floor = %s", floor)
    old = event(0, timestamp=(floor - timedelta(microseconds=1)).isoformat())
    edge = event(1, timestamp=floor.isoformat())
    landed, _ = land(lander, claim(database), [message(0, old), message(1, edge), message(2, event(2))])
    assert (landed.lines[0].stored, landed.lines[0].dead) == (2, 1)
    assert rows(database, "SELECT source_offset, reason, value IS NOT NULL FROM dead_letter_events") == [
        (0, "too_old", True)
    ]
    check_books(database)


def test_a_replay_after_the_epoch_moved_is_refused(database: str, lander: Lander) -> None:
    old, messages = claim(database), [message(at, event(at)) for at in range(10)]
    new = claim(database)
    assert new == Claim(0, old.epoch + 1)
    with pytest.raises(Moved) as moved:
        land(lander, old, messages)
    assert moved.value.lost == {(SOURCE, 0)}
    assert value(database, "SELECT count(*) FROM events") == 0
    land(lander, new, messages)
    check_books(database)


def test_a_batch_landed_twice_is_refused_and_told_where_to_go_on(database: str, lander: Lander) -> None:
    owner, messages = claim(database), [message(at, event(at)) for at in range(10)]
    land(lander, owner, messages)
    with pytest.raises(Moved) as moved:
        land(lander, owner, messages)
    assert moved.value.elsewhere == {(SOURCE, 0): 10}
    assert moved.value.lost == set()
    assert value(database, "SELECT count(*) FROM dead_letter_events") == 0
    check_books(database)


def test_a_batch_of_dead_letters_landed_twice_is_refused(database: str, lander: Lander) -> None:
    """Nothing else than the offset tells that it was landed: no key of an event is there twice."""
    owner, messages = claim(database), [message(at, b"broken") for at in range(10)]
    land(lander, owner, messages)
    with pytest.raises(Moved) as moved:
        land(lander, owner, messages)
    assert moved.value.elsewhere == {(SOURCE, 0): 10}
    assert value(database, "SELECT count(*) FROM dead_letter_events") == 10
    check_books(database)


def test_one_lost_partition_keeps_the_whole_batch_out(database: str, lander: Lander) -> None:
    owners = [claim(database, (SOURCE, number)) for number in (0, 1)]
    claim(database, (SOURCE, 1))
    batches = [RawBatch(SOURCE, number, [message(0, event(number))]) for number in (0, 1)]
    spans = [
        span(owner, batch.messages, partition=number)
        for number, (owner, batch) in enumerate(zip(owners, batches, strict=True))
    ]
    with pytest.raises(Moved) as moved:
        lander.land(spans, decode(batches))
    assert moved.value.lost == {(SOURCE, 1)}
    assert value(database, "SELECT count(*) FROM events") == 0


@pytest.mark.slow
def test_a_claim_ends_a_stuck_owner(database: str) -> None:
    """A process stopped in the middle of COPY holds its rows, and no timeout ends it."""
    old = claim(database)
    stuck = psycopg.connect(database, application_name="analytics-landing-gone")
    stuck.execute("UPDATE ingest_offsets SET next_offset = 5 WHERE source = %s", (SOURCE,))
    stuck.pgconn.exec_(b"COPY events (event_type) FROM STDIN")
    stuck.pgconn.put_copy_data(b"half a row")
    assert claim(database).epoch == old.epoch + 1
    stuck.close()
    assert value(database, "SELECT next_offset FROM ingest_offsets") == 0


@pytest.mark.slow
def test_a_claim_waits_for_a_connection_of_its_own_process(database: str) -> None:
    claim(database)
    busy = psycopg.connect(database, application_name="analytics-landing-test")
    busy.execute("UPDATE ingest_offsets SET next_offset = 5 WHERE source = %s", (SOURCE,))
    done: list[Claim] = []
    waiting = threading.Thread(target=lambda: done.append(claim(database)))
    waiting.start()
    wait_for(
        lambda: value(
            database,
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND query_start < clock_timestamp() - interval '3 s'",
        ),
        timeout=10,
    )
    busy.commit()
    waiting.join(timeout=10)
    assert done == [Claim(5, 2)]
    busy.close()


def test_all_partitions_of_a_new_topic_begin_where_its_first_claim_says(database: str) -> None:
    with connection(database, name="landing-test") as opened:
        assert offsets.claim(opened, database, (SOURCE, 0), 3, {0: 7, 1: 5, 2: 9}) == Claim(7, 1)
        assert offsets.claim(opened, database, (SOURCE, 2), 3, {2: 99}) == Claim(9, 1)
        added_later = offsets.claim(opened, database, (SOURCE, 3), 3, {3: 99})
    assert added_later == Claim(3, 1)
    assert value(database, "SELECT epoch FROM ingest_offsets WHERE partition = 1") == 0


def test_claims_at_once_agree_on_where_a_new_topic_begins(database: str) -> None:
    ends = [{0: 7, 1: 5}, {0: 8, 1: 6}]
    done: dict[int, int] = {}

    def begin(number: int) -> None:
        with connection(database, name="landing-test") as opened:
            done[number] = offsets.claim(opened, database, (SOURCE, number), 0, ends[number]).next_offset

    claiming = [threading.Thread(target=begin, args=(number,)) for number in (0, 1)]
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (Lock.SOURCE, SOURCE))
        for thread in claiming:
            thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        wait_for(lambda: value(database, waiting) == 2)
    for thread in claiming:
        thread.join(timeout=10)
    assert done in ends


def test_a_statement_that_takes_too_long_is_told_apart(database: str, lander: Lander) -> None:
    owner = claim(database)
    lander.connection.execute("SET statement_timeout = '300ms'")
    lander.connection.commit()
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TimedOut):
            land(lander, owner, [message(0, event(0))])
    land(lander, owner, [message(0, event(0))])
    check_books(database)


def test_the_watermark_note_goes_with_the_batch(database: str, lander: Lander) -> None:
    owner, at = claim(database), datetime(2024, 1, 2, tzinfo=UTC)
    messages = [message(0, event(0))]
    lander.land([replace(span(owner, messages), caught_up_at=at)], decode([RawBatch(SOURCE, 0, messages)]))
    assert value(database, "SELECT caught_up_at FROM ingest_offsets") == at
    later = at + timedelta(seconds=5)
    with connection(database, name="landing-test") as opened:
        standings.note_caught_up(opened, {(SOURCE, 0): (Claim(1, owner.epoch), later)})
        standings.note_caught_up(opened, {(SOURCE, 0): (Claim(0, owner.epoch), later + timedelta(days=1))})
        standings.note_caught_up(opened, {(SOURCE, 0): (Claim(1, owner.epoch), at)})
    assert value(database, "SELECT caught_up_at FROM ingest_offsets") == later


def test_an_empty_stretch_of_offsets_is_recorded(database: str, lander: Lander) -> None:
    """Compaction, aborted transactions: offsets pass without messages."""
    owner = claim(database)
    lander.land([offsets.Span(SOURCE, 0, 0, 12, 0, owner.epoch)], decode([]))
    assert rows(database, "SELECT first_offset, next_offset, read, skipped FROM ingest_batches") == [
        (0, 12, 0, 12)
    ]
    check_books(database)


@pytest.mark.slow
@pytest.mark.parametrize("was_done", [True, False])
def test_a_commit_without_an_answer_is_resolved_by_reading_the_offsets(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch, was_done: bool
) -> None:
    owner, messages = claim(database), [message(at, event(at)) for at in range(10)]
    taken = [span(owner, messages)]
    break_commit(lander, monkeypatch, was_done)
    with pytest.raises(CommitUnknown):
        lander.land(taken, decode([RawBatch(SOURCE, 0, messages)]))
    assert lander.resolve(taken) is was_done
    if not was_done:
        land(lander, owner, messages)
    assert value(database, "SELECT count(*) FROM events") == 10
    check_books(database)


def test_resolving_waits_until_the_old_server_process_is_gone(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its COMMIT may still be on the way: only when it is gone do the offsets tell."""
    owner, messages = claim(database), [message(0, event(0))]
    taken = [span(owner, messages)]
    connection_before = lander.connection

    def lose() -> None:
        raise psycopg.OperationalError("the answer was lost, the connection is open")

    monkeypatch.setattr(connection_before, "commit", lose)
    monkeypatch.setattr(connection_before, "close", lambda: None)
    monkeypatch.setattr(type(connection_before), "broken", property(lambda _self: True))
    with pytest.raises(CommitUnknown):
        lander.land(taken, decode([RawBatch(SOURCE, 0, messages)]))
    monkeypatch.undo()
    assert lander.resolve(taken) is False
    alive = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%landing-test'"
    assert value(database, alive) == 1
    land(lander, owner, messages)
    check_books(database)
    connection_before.close()


def test_a_stuck_landing_connection_is_ended_and_a_busy_one_is_not(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "STUCK_AGE", timedelta(milliseconds=300))
    stuck = psycopg.connect(database, application_name="analytics-landing-gone")
    pid = stuck.info.backend_pid
    stuck.pgconn.exec_(b"BEGIN; COPY events (event_type) FROM STDIN")
    idle = psycopg.connect(database, application_name="analytics-landing-idle")
    idle.execute("SELECT 1")
    idle.rollback()
    other = psycopg.connect(database, application_name="somebody")
    other.execute("SELECT 1")
    with connection(database, name="watchdog", autocommit=True) as opened:
        ended = wait_for(lambda: backends.end_stuck(opened))
    assert ended == [pid]
    assert idle.execute("SELECT 1").fetchone() == other.execute("SELECT 1").fetchone() == (1,)
    for made in (stuck, idle, other):
        made.close()


def test_deltas_are_those_of_the_stored_rows(database: str, lander: Lander) -> None:
    """In fallback and after refusals too: metrics count what `events` holds."""
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    filled = {
        "event_type": "order.filled",
        "properties": {"symbol": "X", "price": 2, "quantity": 3, "latency_ms": 1},
    }
    sent = [event(number, **filled) for number in range(10)]
    _, owner = land(lander, claim(database), [message(at, e) for at, e in enumerate(sent[:4])])
    sent[7]["user_id"] = "poison"
    land(lander, owner, [message(4 + at, e) for at, e in enumerate(sent)])
    assert rows(
        database,
        "SELECT sum(count), sum(sum) FROM rollup_deltas"
        " WHERE metric_name = 'trading.total_volume' AND dimension_set = ''",
    ) == [(9, 54)]
    check_books(database)
