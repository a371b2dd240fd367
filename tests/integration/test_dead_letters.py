"""Dead letters on a real Postgres: groups, replay, discard, export, and the books in between."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from analytics_pipeline.errors import MissingPartition
from analytics_pipeline.events.decode import Decoded, decode_batches
from analytics_pipeline.events.definitions import NO_DEFINITIONS, Definitions, compile_definition
from analytics_pipeline.events.ids import deterministic_ids, source_seed
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.storage import audit, dead_letter_export, dead_letters, replays
from analytics_pipeline.storage.connection import Connection
from analytics_pipeline.storage.dead_letters import CONSERVED, Filter, Status
from analytics_pipeline.storage.landing import Lander, TimedOut
from analytics_pipeline.storage.replays import Replayed
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
from tests.integration.test_landing_inbox import break_commit
from tests.unit.events.bad_inputs import CASES, NOW, OK

STRICT = Definitions(
    {
        "order.placed": compile_definition(
            "order.placed", 3, {"properties": {"price": {"type": "number", "maximum": 10}}}
        )
    }
)
LATER = Definitions({"order.placed": compile_definition("order.placed", 4, {})})


@pytest.fixture
def opened(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


EVERY = Filter()


def replay(
    lander: Lander, which: Filter = EVERY, definitions: Definitions = NO_DEFINITIONS, **how: Any
) -> Replayed:
    done = Replayed()
    how = {"limits": LIMITS, **how}
    for batch in replays.replay(lander, which, definitions=lambda: definitions, **how):
        done.add(batch)
    return done


def patient(lander: Lander) -> Lander:
    """Let its transactions idle while the test does something else."""
    lander.connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    lander.connection.commit()
    return lander


def decode_strictly(batches: list[RawBatch]) -> Decoded:
    return decode_batches(batches, now=datetime.now(UTC), limits=LIMITS, definitions=STRICT)


def land_strictly(lander: Lander, database: str, messages: list[PlainMessage], **where: Any) -> None:
    """Land under a definition that refuses prices above 10, so all of `event()`."""
    source, partition = where.get("source", SOURCE), where.get("partition", 0)
    owner = claim(database, (source, partition))
    batch = RawBatch(source, partition, messages)
    lander.land([span(owner, messages, source, partition)], decode_strictly([batch]))


def check(database: str) -> None:
    """The books, with the equations of dead letters, and the audit of the ledger."""
    check_books(database)
    with psycopg.connect(database) as opened:
        assert [one for one in audit.verify(opened) if not one.holds] == []
    for name, by_ledger, by_table in rows(database, CONSERVED):
        assert by_ledger == by_table, name
    assert value(database, "SELECT count(*) FROM ingest_batches WHERE source = '_replay' AND dead <> 0") == 0
    unknown = rows(
        database,
        "SELECT id FROM dead_letter_events AS letter WHERE status = 'replayed' AND NOT EXISTS (SELECT FROM"
        " ingest_batches WHERE source = '_replay' AND batch_id = letter.replay_batch_id)",
    )
    assert unknown == []


def test_letters_of_a_shape_are_one_group(database: str, lander: Lander, opened: Connection) -> None:
    sent = [message(at, b"broken %d" % at) for at in range(5)]
    sent += [message(at, event(at, user_id=at)) for at in range(5, 8)]
    sent += [message(8, event(8, user_id=8, session_id="s")), message(9, None)]
    land(lander, claim(database), sent)
    found = dead_letters.groups(opened, Filter(), limit=10)
    assert [(group.reason, group.count, group.shape[:23]) for group in found] == [
        ("not_json", 5, "text beginning with b"),
        ("bad_user_id", 3, "{event_type: string, id"),
        ("empty_message", 1, "no value"),
        ("bad_user_id", 1, "{event_type: string, id"),
    ]
    group = found[1]
    assert "user_id: number" in group.shape
    assert group.event_type == "order.placed"
    assert group.detail.startswith("$.user_id: ")
    assert group.open == 3
    assert group.first_seen <= group.last_seen
    listed = dead_letters.find(opened, Filter(groups=(group.group,)), limit=10)
    assert [letter.offset for letter in listed] == [7, 6, 5]
    assert group.sample == listed[0].id
    assert dead_letters.groups(opened, Filter(), limit=1) == found[:1]
    check(database)


def test_every_filter_chooses(database: str, lander: Lander, opened: Connection) -> None:
    before = datetime.now(UTC)
    land(
        lander,
        claim(database),
        [message(0, b"broken"), message(1, event(1, user_id=1)), message(2, event(2))],
    )
    land(lander, claim(database, ("other", 3)), [message(0, None)], source="other", partition=3)
    after = datetime.now(UTC) + timedelta(seconds=1)
    every = dead_letters.find(opened, Filter(), limit=10)
    assert [(letter.source, letter.offset, letter.reason) for letter in every] == [
        ("other", 0, "empty_message"),
        (SOURCE, 1, "bad_user_id"),
        (SOURCE, 0, "not_json"),
    ]
    newest, middle, oldest = (letter.id for letter in every)
    for which, expected in [
        (Filter(reasons=("not_json", "empty_message")), [newest, oldest]),
        (Filter(event_types=("order.placed",)), [middle]),
        (Filter(sources=("other",)), [newest]),
        (Filter(ids=(middle, oldest)), [middle, oldest]),
        (Filter(groups=(every[1].group,)), [middle]),
        (Filter(statuses=(Status.REPLAYED, Status.DISCARDED)), []),
        (Filter(statuses=(Status.OPEN,)), [newest, middle, oldest]),
        (Filter(since=before, until=after), [newest, middle, oldest]),
        (Filter(since=after), []),
        (Filter(until=before - timedelta(minutes=1)), []),
        (Filter(since=every[2].created_at, until=every[0].created_at), [middle, oldest]),
        (Filter(sources=(SOURCE,), reasons=("empty_message",)), []),
    ]:
        assert [letter.id for letter in dead_letters.find(opened, which, limit=10)] == expected, which
        assert dead_letters.count(opened, which).total() == len(expected), which
        assert [letter.id for letter, _ in dead_letter_export.export(opened, which)] == expected[::-1], which
    pages = dead_letters.find(opened, Filter(), limit=2)
    assert [letter.id for letter in dead_letters.find(opened, Filter(), limit=2, before=pages[-1].id)] == [
        oldest
    ]
    assert [letter.id for letter, _ in dead_letter_export.export(opened, Filter(), limit=1)] == [oldest]


def test_a_letter_is_read_and_exported_with_every_byte(
    database: str, lander: Lander, opened: Connection
) -> None:
    headers = (("trace", b"\x00\xff"), ("trace", None), ("näme", b""))
    sent = message(4, b"\x00\xffnot json", name=b"k\x00ey", extra=headers)
    land(lander, claim(database, start=4), [sent])
    [listed] = dead_letters.find(opened, Filter(), limit=10)
    found = dead_letters.read(opened, listed.id)
    assert found is not None
    letter, content = found
    assert letter == listed
    assert (content.key, content.value, content.headers) == (b"k\x00ey", b"\x00\xffnot json", headers)
    assert (letter.source, letter.partition, letter.offset, letter.size) == (SOURCE, 0, 4, 10)
    assert dead_letters.read(opened, letter.id + 1) is None
    record = json.loads(json.dumps(dead_letter_export.as_record(letter, content)))
    assert base64.b64decode(record["value_base64"]) == content.value
    assert base64.b64decode(record["key_base64"]) == content.key
    assert record["headers_base64"] == [["trace", "AP8="], ["trace", None], ["näme", ""]]
    assert (record["source"], record["offset"], record["reason"]) == (SOURCE, 4, "not_json")
    assert dead_letter_export.as_produce_request(content) == {
        "headers": [
            {"name": "trace", "value": "AP8="},
            {"name": "trace", "value": None},
            {"name": "näme", "value": ""},
        ],
        "key": {"type": "BINARY", "data": record["key_base64"]},
        "value": {"type": "BINARY", "data": record["value_base64"]},
    }


def test_a_replay_after_a_new_definition_lands_the_events(database: str, lander: Lander) -> None:
    """With the coordinates, the id and the lateness that they would have had, their deltas, and a line of their own."""
    at = datetime.now(UTC) - timedelta(minutes=10)
    reached = int(datetime.now(UTC).timestamp() * 1000)
    body = {"event_type": "order.placed", "properties": {"price": 99}}
    sent = [PlainMessage(json.dumps(body).encode(), 7, reached, name=b"k"), message(8, event(8))]
    sent.append(PlainMessage(json.dumps({**body, "timestamp": at.isoformat()}).encode(), 9, reached))
    land_strictly(lander, database, sent)
    assert value(database, "SELECT count(*) FROM events") == 0
    assert replay(lander, definitions=STRICT).still_bad == {"schema_violation": 3}
    check(database)

    done = replay(lander, definitions=LATER)
    assert (done.tried, done.stored, done.duplicate, done.still_bad, done.busy) == (3, 3, 0, {}, 0)
    found = rows(
        database,
        "SELECT source, source_partition, source_offset, definition_version, is_late, id FROM events ORDER BY 3",
    )
    assert [row[:5] for row in found] == [
        (SOURCE, 0, 7, 4, False),
        (SOURCE, 0, 8, 4, False),
        (SOURCE, 0, 9, 4, True),
    ]
    [[high, low]] = deterministic_ids(
        np.array([reached * 1000]), np.array([7]), np.array([source_seed(SOURCE, 0)], np.uint64)
    ).tolist()
    assert found[0][5].int == high << 64 | low
    assert rows(
        database,
        "SELECT source, partition, first_offset, read, stored, duplicate, dead FROM ingest_batches"
        " WHERE source = '_replay'",
    ) == [("_replay", 0, None, 3, 3, 0, 0)]
    assert (
        value(
            database,
            "SELECT sum(count) FROM rollup_deltas WHERE metric_name = 'events.count' AND dimension_set = ''",
        )
        == 3
    )
    letters = rows(
        database, "SELECT status, attempts, settled_at IS NOT NULL, value IS NOT NULL FROM dead_letter_events"
    )
    assert letters == [("replayed", 2, True, True)] * 3
    check(database)


def test_every_bad_input_is_refused_again_for_the_same_reason(
    database: str, lander: Lander, opened: Connection
) -> None:
    """Its bytes, its group and its neighbours are what they were; a stored one in between does no harm."""
    refused = [case for case in CASES if case.outcome != OK]
    messages = [
        PlainMessage(case.value, at, int(NOW.timestamp() * 1000), name=b"\x00")
        for at, case in enumerate(refused)
    ]
    owner = claim(database)
    decoded = decode_batches([RawBatch(SOURCE, 0, messages)], now=NOW, limits=Limits())
    lander.land([span(owner, messages)], decoded)
    before = {letter.id: letter for letter in dead_letters.find(opened, Filter(), limit=10_000)}
    assert sorted(letter.offset for letter in before.values()) == list(range(len(refused)))
    done = replay(lander, limits=Limits(), now=lambda: NOW)
    assert (done.tried, done.stored, done.still_bad.total()) == (len(refused), 0, len(refused))
    for letter, content in dead_letter_export.export(opened, Filter()):
        assert letter.reason == refused[letter.offset or 0].outcome
        assert content.value == refused[letter.offset or 0].value
        assert letter.attempts == 1
        old = before[letter.id]
        assert (letter.group, letter.detail, letter.event_type) == (old.group, old.detail, old.event_type)
    check(database)


def test_twice_is_a_no_op(database: str, lander: Lander) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(20)])
    assert replay(lander).stored == 20
    before = rows(database, "SELECT * FROM dead_letter_events ORDER BY id")
    ledger = rows(database, "SELECT * FROM ingest_batches ORDER BY batch_id")
    assert replay(lander) == Replayed()
    assert rows(database, "SELECT * FROM dead_letter_events ORDER BY id") == before
    assert rows(database, "SELECT * FROM ingest_batches ORDER BY batch_id") == ledger
    check(database)


def test_an_event_that_was_stored_meanwhile_is_a_duplicate(database: str, lander: Lander) -> None:
    """Sent again and corrected by its producer: the letter is settled, and nothing is stored twice."""
    sent = [event(at) for at in range(4)]
    land_strictly(lander, database, [message(at, e) for at, e in enumerate(sent)])
    again = [message(4, sent[1]), message(5, {**sent[3], "user_id": "corrected"})]
    land(lander, claim(database), again)
    done = replay(lander)
    assert (done.tried, done.stored, done.duplicate) == (4, 2, 2)
    assert value(database, "SELECT count(*) FROM events WHERE user_id = 'corrected'") == 1
    assert value(database, "SELECT count(*) FROM dead_letter_events WHERE status = 'replayed'") == 4
    check(database)


def test_the_same_event_in_two_letters_is_stored_once(database: str, lander: Lander) -> None:
    twin = event(1)
    land_strictly(lander, database, [message(0, twin), message(1, twin), message(2, event(2))])
    done = replay(lander)
    assert (done.tried, done.stored, done.duplicate) == (3, 2, 1)
    check(database)


@pytest.mark.slow
def test_what_is_still_bad_stays_open_with_its_new_reason(database: str, lander: Lander) -> None:
    execute(database, "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')")
    ahead = datetime.now(UTC) + timedelta(hours=1)
    sent = [message(0, event(0)), message(1, event(1, user_id="poison")), message(2, b"never")]
    sent.append(message(3, event(3, timestamp=ahead.isoformat())))
    land_strictly(lander, database, sent)
    before = dict(rows(database, "SELECT source_offset, fingerprint FROM dead_letter_events"))
    done = replay(lander)
    assert (done.tried, done.stored) == (4, 1)
    assert done.still_bad == {"refused_by_database": 1, "not_json": 1, "too_far_in_future": 1}
    found = rows(
        database,
        "SELECT source_offset, status, reason, attempts, detail, event_type FROM dead_letter_events ORDER BY 1",
    )
    assert [row[:4] for row in found] == [
        (0, "replayed", "schema_violation", 1),
        (1, "open", "refused_by_database", 1),
        (2, "open", "not_json", 1),
        (3, "open", "too_far_in_future", 1),
    ]
    assert "23514" in found[1][4]
    assert found[1][5] == "order.placed"
    after = dict(rows(database, "SELECT source_offset, fingerprint FROM dead_letter_events"))
    assert [before[at] == after[at] for at in range(4)] == [True, False, True, False]
    check(database)

    execute(database, "ALTER TABLE events DROP CONSTRAINT no_poison")
    done = replay(lander, Filter(reasons=("refused_by_database",)))
    assert (done.tried, done.stored) == (1, 1)
    assert replay(lander, now=lambda: ahead).stored == 1, "the time has come"
    assert rows(database, "SELECT source_offset, attempts FROM dead_letter_events WHERE status = 'open'") == [
        (2, 2)
    ]
    check(database)


def test_events_below_the_floor_are_refused_and_stay(database: str, lander: Lander) -> None:
    """Also those that the settings would let in: what retention has removed does not come back piece by piece."""
    at = datetime.now(UTC) - timedelta(hours=3)
    land_strictly(lander, database, [message(0, event(0, timestamp=at.isoformat())), message(1, event(1))])
    execute(database, "UPDATE retention_state SET raw_floor = %s", at + timedelta(microseconds=1))
    [found] = replays.preview(lander, EVERY, definitions=lambda: LATER, limits=LIMITS)
    assert found.still_bad == {"too_old": 1}
    done = replay(lander)
    assert (done.tried, done.stored, done.still_bad) == (2, 1, {"too_old": 1})
    [(status, reason, detail)] = rows(
        database, "SELECT status, reason, detail FROM dead_letter_events WHERE source_offset = 0"
    )
    assert (status, reason) == ("open", "too_old")
    assert "older than raw events are kept" in detail
    check(database)
    assert replay(lander, Filter(reasons=("too_old",))).still_bad == {"too_old": 1}
    check(database)


def test_a_message_without_a_time_gets_the_one_at_which_it_was_written_here(
    database: str, lander: Lander
) -> None:
    body = json.dumps({"event_type": "order.placed", "properties": {"price": 99}}).encode()
    land_strictly(lander, database, [PlainMessage(body, 0, None)])
    replay(lander)
    [(at, written)] = rows(
        database, "SELECT e.timestamp, d.created_at FROM events AS e, dead_letter_events AS d"
    )
    assert at == written.replace(microsecond=written.microsecond // 1000 * 1000)
    check(database)


def test_a_message_time_beyond_all_years_is_not_forgotten(database: str, lander: Lander) -> None:
    body = json.dumps({"event_type": "order.placed", "properties": {"price": 99}}).encode()
    land(lander, claim(database), [PlainMessage(body, 0, 2**62)])
    assert value(database, "SELECT reason FROM dead_letter_events") == "too_far_in_future"
    assert replay(lander).still_bad == {"too_far_in_future": 1}


@pytest.mark.slow
def test_the_filter_the_limit_and_the_batches_are_kept(database: str, lander: Lander) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(30)])
    land_strictly(lander, database, [message(at, event(100 + at)) for at in range(10)], source="other")
    assert replay(lander, Filter(sources=("other",)), limit=4).stored == 4
    assert rows(database, "SELECT source, source_offset FROM events ORDER BY 2") == [
        ("other", at) for at in range(4)
    ]
    batches = list(
        replays.replay(
            lander,
            Filter(sources=(SOURCE,)),
            definitions=lambda: LATER,
            limits=LIMITS,
            limit=25,
            batch_size=10,
        )
    )
    assert [(batch.tried, batch.stored) for batch in batches] == [(10, 10), (10, 10), (5, 5)]
    assert value(database, "SELECT count(*) FROM ingest_batches WHERE source = '_replay'") == 4
    assert replay(lander, batch_size=3).tried == 5 + 6
    check(database)


def test_letters_of_one_coordinate_are_landed_one_after_the_other(database: str, lander: Lander) -> None:
    """A topic made anew counts from 0 again: coordinates cannot tell these apart within one batch."""
    land_strictly(lander, database, [message(at, event(at)) for at in range(3)])
    land(lander, claim(database), [message(3, event(50))])
    execute(database, "UPDATE ingest_offsets SET next_offset = 0")
    execute(database, "UPDATE ingest_batches SET first_offset = NULL, next_offset = NULL")
    land_strictly(lander, database, [message(at, event(10 + at)) for at in range(3)])
    batches = list(replays.replay(lander, Filter(), definitions=lambda: LATER, limits=LIMITS))
    assert [batch.stored for batch in batches] == [3, 3]
    check(database)


def test_what_another_replay_holds_is_left_to_it(database: str, lander: Lander) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(10)])
    inside, go_on = threading.Event(), threading.Event()

    def slowly() -> Definitions:
        inside.set()
        assert go_on.wait(60)
        return LATER

    other = patient(Lander(database, name="landing-test"))
    first: list[Replayed] = []
    thread = threading.Thread(
        target=lambda: first.extend(
            replays.replay(other, Filter(), definitions=slowly, limits=LIMITS, limit=6, batch_size=6)
        )
    )
    thread.start()
    assert inside.wait(60)
    done = replay(lander, batch_size=4)
    go_on.set()
    thread.join(60)
    other.close()
    assert (done.tried, done.stored, done.busy) == (4, 4, 6)
    assert [(batch.tried, batch.stored) for batch in first] == [(6, 6)]
    assert value(database, "SELECT count(*) FROM events") == 10
    check(database)


def test_letters_that_are_settled_while_they_are_looked_for_are_left_alone(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(5)])
    other, real = Lander(database, name="landing-test"), replays.fitting

    def meanwhile(candidates: Any, most: int) -> list[int]:
        monkeypatch.setattr(replays, "fitting", real)
        assert replay(other, limit=3).stored == 3
        return real(candidates, most)

    monkeypatch.setattr(replays, "fitting", meanwhile)
    done = replay(patient(lander))
    other.close()
    assert (done.tried, done.stored, done.busy) == (2, 2, 3)
    assert value(database, "SELECT max(attempts) FROM dead_letter_events") == 1
    check(database)


@pytest.mark.slow
def test_a_replay_beside_live_landings_of_the_same_events(database: str, lander: Lander) -> None:
    """Whoever comes first stores the event; the other counts a duplicate."""
    sent = [event(number) for number in range(600)]
    land_strictly(lander, database, [message(at, e) for at, e in enumerate(sent)])
    other = Lander(database, name="landing-test")
    done: list[Replayed] = []
    thread = threading.Thread(target=lambda: done.append(replay(other, batch_size=20)))
    thread.start()
    owner = claim(database)
    for first in range(0, 600, 30):
        batch = [message(600 + at, sent[599 - at]) for at in range(first, first + 30)]
        _, owner = land(lander, owner, batch)
    thread.join(60)
    other.close()
    assert done[0].tried == 600
    assert value(database, "SELECT count(*) FROM events") == 600
    check(database)


@pytest.mark.slow
@pytest.mark.parametrize("was_done", [True, False])
def test_a_commit_without_an_answer_is_found_out(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch, was_done: bool
) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(10)])
    break_commit(lander, monkeypatch, was_done)
    done = replay(lander, batch_size=6)
    assert done.stored == (4 if was_done else 10), "what had been committed is not told again"
    assert value(database, "SELECT count(*) FROM events") == 10
    assert value(database, "SELECT count(*) FROM dead_letter_events WHERE attempts = 1") == 10
    check(database)


@pytest.mark.slow
def test_letters_held_by_a_lost_connection_are_not_passed_over(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server process still holds them: it is ended before they are looked for again."""
    land_strictly(lander, database, [message(at, event(at)) for at in range(10)])
    lost = lander.connection

    def lose() -> None:
        raise psycopg.OperationalError("the answer was lost, the connection is open")

    with monkeypatch.context() as patched:
        patched.setattr(lost, "commit", lose)
        patched.setattr(lost, "close", lambda: None)
        patched.setattr(type(lost), "broken", property(lambda self: self is lost))
        done = replay(lander)
    lost.close()
    assert (done.tried, done.stored, done.busy) == (10, 10, 0)
    check(database)


def test_a_slow_batch_is_halved(database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(10)])
    real, sizes = lander.land_replay, []

    def land_replay(take: Any) -> Any:
        landed = real(take) if len(sizes) >= 2 else None
        sizes.append(landed and landed.lines[0].read)
        if landed is None:
            raise TimedOut("slow")
        return landed

    monkeypatch.setattr(lander, "land_replay", land_replay)
    with pytest.raises(TimedOut):
        replay(lander, batch_size=1)
    sizes.clear()
    monkeypatch.setattr(lander, "land_replay", lambda take: land_replay(take))
    list(
        zip(
            range(3),
            replays.replay(lander, Filter(), definitions=lambda: LATER, limits=LIMITS, batch_size=8),
            strict=False,
        )
    )
    assert sizes[:4] == [None, None, 2, 4]


def test_a_missing_partition_is_an_error_that_changes_nothing(database: str, lander: Lander) -> None:
    at = datetime.now(UTC) - timedelta(days=20)
    keep = Limits(raw_retention=timedelta(days=30))
    land(lander, claim(database), [message(0, event(0, timestamp=at.isoformat()))])
    with pytest.raises(MissingPartition):
        replay(lander, limits=keep)
    assert rows(database, "SELECT status, attempts FROM dead_letter_events") == [("open", 0)]
    execute(database, "SELECT create_event_partition(%s::date)", at.date())
    assert replay(lander, limits=keep).stored == 1
    check(database)


def test_a_preview_changes_nothing(database: str, lander: Lander) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(4)] + [message(4, b"broken")])
    before = rows(database, "SELECT * FROM dead_letter_events ORDER BY id")
    found = list(replays.preview(lander, Filter(), definitions=lambda: LATER, limits=LIMITS, batch_size=3))
    assert [(one.tried, one.stored, one.still_bad) for one in found] == [
        (3, 3, Counter()),
        (2, 1, Counter({"not_json": 1})),
    ]
    assert rows(database, "SELECT * FROM dead_letter_events ORDER BY id") == before
    assert value(database, "SELECT count(*) FROM events") == 0
    assert replay(lander).stored == 4


def test_discarded_letters_keep_their_bytes_and_are_not_replayed(
    database: str, lander: Lander, opened: Connection
) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(5)] + [message(5, b"broken")])
    assert dead_letters.discard(opened, Filter(reasons=("not_json",)), note="a test of the network") == 1
    assert dead_letters.discard(opened, Filter(), note="too many", limit=2) == 2
    assert dead_letters.discard(opened, Filter(reasons=("not_json",)), note="again") == 0
    found = rows(
        database,
        "SELECT source_offset, note, value IS NOT NULL FROM dead_letter_events WHERE status = 'discarded'",
    )
    assert sorted(found) == [(0, "too many", True), (1, "too many", True), (5, "a test of the network", True)]
    done = replay(lander)
    assert (done.tried, done.stored) == (3, 3)
    assert dead_letters.discard(opened, Filter(), note="none is open") == 0
    check(database)


def test_the_schema_lets_nobody_mark_a_letter_replayed_by_hand(database: str, lander: Lander) -> None:
    land(lander, claim(database), [message(0, b"broken")])
    for change in (
        "status = 'replayed'",
        "status = 'discarded'",
        "settled_at = now()",
        "replay_batch_id = 1",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            execute(database, f"UPDATE dead_letter_events SET {change}")


def test_posted_events_are_replayed_like_others(database: str, lander: Lander) -> None:
    execute(
        database,
        "INSERT INTO http_inbox (payload) VALUES (%s)",
        json.dumps(event(1)).encode(),
    )
    execute(
        database, "INSERT INTO http_accepted (process_id, day, accepted) VALUES (gen_random_uuid(), now(), 1)"
    )
    landed = lander.land_inbox(10, lambda messages: decode_strictly([RawBatch("http", 0, list(messages))]))
    assert landed is not None
    assert landed.lines[0].dead == 1
    assert replay(lander).stored == 1
    assert rows(database, "SELECT source, source_partition FROM events") == [("http", 0)]
    check(database)


def test_large_letters_are_taken_a_few_at_a_time(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "_MOST_BYTES", 5_000)
    land_strictly(lander, database, [message(at, event(at, note="x" * 2_000)) for at in range(5)])
    batches = list(replays.replay(lander, Filter(), definitions=lambda: LATER, limits=LIMITS))
    assert [batch.tried for batch in batches] == [2, 2, 1]
    monkeypatch.setattr(replays, "_MOST_BYTES", 10)
    check(database)


def test_a_lost_letter_breaks_the_equations(database: str, lander: Lander) -> None:
    land_strictly(lander, database, [message(at, event(at)) for at in range(3)])
    replay(lander)
    assert [row[1:] for row in rows(database, CONSERVED)] == [(3, 3), (3, 3)]
    execute(database, "DELETE FROM dead_letter_events WHERE source_offset = 1")
    assert [row[1:] for row in rows(database, CONSERVED)] == [(3, 2), (3, 2)]
