"""Two connections at once, stepped: each waits at a named moment until the test lets it go on."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from analytics_pipeline import failpoints
from analytics_pipeline.errors import MissingPartition
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.failpoints import FailPoint
from analytics_pipeline.storage import offsets
from analytics_pipeline.storage.landing import Landed, Lander
from analytics_pipeline.storage.offsets import Claim, Moved
from tests.integration.landing_rig import (
    SOURCE,
    check_books,
    claim,
    decode,
    event,
    execute,
    land,
    message,
    rows,
    span,
    value,
)
from tests.integration.stepping import Doing, Steps, wait_until_blocked

_POISON = "ALTER TABLE events ADD CONSTRAINT no_poison CHECK (user_id <> 'poison')"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps()
    monkeypatch.setattr(failpoints, "_armed", made)
    return made


@pytest.fixture
def landers(database: str) -> Iterator[tuple[Lander, Lander]]:
    """As of two processes."""
    made = Lander(database, name="landing-one"), Lander(database, name="landing-two")
    yield made
    for lander in made:
        lander.close()


@pytest.fixture
def lander(landers: tuple[Lander, Lander]) -> Lander:
    return landers[0]


def expect_duplicates(lander: Lander) -> None:
    lander._rows._fallback_left = 5


def batch(*numbers: int) -> list[Any]:
    return [message(at, event(number)) for at, number in enumerate(numbers)]


@pytest.mark.parametrize("in_fallback", [False, True])
@pytest.mark.parametrize("first_commits", [True, False])
def test_two_connections_with_the_same_keys(
    database: str, landers: tuple[Lander, Lander], steps: Steps, in_fallback: bool, first_commits: bool
) -> None:
    """The second waits for the first, then stores what the first did not."""
    one, two = landers
    if in_fallback:
        expect_duplicates(one)
        expect_duplicates(two)
    owners = [claim(database, (SOURCE, number)) for number in (0, 1)]
    sent = batch(*range(10))
    steps.hold("one", FailPoint.AFTER_COPY)
    first = Doing("one", lambda: land(one, owners[0], sent, partition=0)[0])
    steps.wait_at("one", FailPoint.AFTER_COPY)
    second = Doing("two", lambda: land(two, owners[1], sent, partition=1)[0])
    wait_until_blocked(database, "landing-two")
    if not first_commits:
        claim(database, (SOURCE, 0))
    steps.release("one", FailPoint.AFTER_COPY)
    if first_commits:
        assert first.result().lines[0].stored == 10
    else:
        with pytest.raises(Moved):
            first.result()
    line = second.result().lines[0]
    assert (line.stored, line.duplicate) == ((0, 10) if first_commits else (10, 0))
    assert value(database, "SELECT count(*) FROM events") == 10
    check_books(database)


@pytest.mark.parametrize("commits", [True, False])
def test_a_claim_waits_for_a_landing_that_has_moved_the_offset(
    database: str, lander: Lander, steps: Steps, commits: bool
) -> None:
    owner = claim(database)
    steps.hold("one", FailPoint.AFTER_CAS)
    doing = Doing("one", lambda: land(lander, owner, batch(*range(10)))[0])
    steps.wait_at("one", FailPoint.AFTER_CAS)
    claiming = Doing("claim", lambda: claim(database))
    wait_until_blocked(database, "landing-test")
    if not commits:
        execute(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'analytics-landing-one'",
        )
    steps.release("one", FailPoint.AFTER_CAS)
    assert claiming.result() == Claim(10 if commits else 0, owner.epoch + 1)
    if commits:
        assert doing.result().lines[0].stored == 10
    assert value(database, "SELECT count(*) FROM events") == (10 if commits else 0)
    check_books(database)


@pytest.mark.slow
@pytest.mark.parametrize("in_fallback", [False, True])
def test_a_deadlock_is_tried_again_in_both_modes(
    database: str, postgres_server: str, lander: Lander, in_fallback: bool
) -> None:
    owner = claim(database)
    if in_fallback:
        expect_duplicates(lander)
    early, later = event(1), event(2)
    insert = "INSERT INTO events (id, event_type, timestamp) VALUES (%s, 'x', %s) ON CONFLICT DO NOTHING"
    patient = make_conninfo(postgres_server, dbname=conninfo_to_dict(database)["dbname"])
    # Its own search for deadlocks comes too late: Postgres ends the landing transaction (40P01).
    with psycopg.connect(patient, options="-c deadlock_timeout=60s") as other:
        other.execute(insert, (later["id"], later["timestamp"]))
        doing = Doing("one", lambda: land(lander, owner, [message(0, early), message(1, later)])[0])
        wait_until_blocked(database, "landing-one")
        other.execute(insert, (early["id"], early["timestamp"]))
        other.rollback()
    assert doing.result().lines[0].stored == 2
    check_books(database)


def test_ownership_lost_in_the_middle_of_a_fallback(
    database: str, landers: tuple[Lander, Lander], steps: Steps
) -> None:
    """The old owner waits inside its INSERT while a new one claims and lands the same messages."""
    old, new = landers
    expect_duplicates(old)
    owner, sent = claim(database), batch(*range(10))
    foreign = event(5)
    with psycopg.connect(database) as other:
        other.execute(
            "INSERT INTO events (id, event_type, timestamp) VALUES (%s, 'x', %s)",
            (foreign["id"], foreign["timestamp"]),
        )
        sent[5] = message(5, foreign)
        doing = Doing("old", lambda: land(old, owner, sent)[0])
        wait_until_blocked(database, "landing-one")
        heir = claim(database)
        following = Doing("new", lambda: land(new, heir, sent)[0])
        wait_until_blocked(database, "landing-two")
        other.rollback()
    with pytest.raises(Moved) as moved:
        doing.result()
    assert moved.value.lost == {(SOURCE, 0)}
    assert following.result().lines[0].stored == 10
    assert value(database, "SELECT count(*) FROM events") == 10
    check_books(database)


@pytest.mark.slow
@pytest.mark.parametrize("question", [1, 2, 3, 5])
def test_ownership_lost_while_looking_for_the_culprit(
    database: str, lander: Lander, monkeypatch: pytest.MonkeyPatch, question: int
) -> None:
    """Before anything is called a dead letter, the offsets are read again."""
    execute(database, _POISON)
    owner, verify, asked = claim(database), offsets.verify, [0]

    def verified(*arguments: Any) -> None:
        asked[0] += 1
        if asked[0] == question:
            claim(database)
        verify(*arguments)

    monkeypatch.setattr(offsets, "verify", verified)
    sent = [message(at, event(at, user_id="poison" if at == 6 else "u")) for at in range(8)]
    with pytest.raises(Moved) as moved:
        land(lander, owner, sent)
    assert asked[0] >= question
    assert moved.value.lost == {(SOURCE, 0)}
    assert rows(database, "SELECT FROM events UNION ALL SELECT FROM dead_letter_events") == []
    check_books(database)


@pytest.mark.slow
@pytest.mark.parametrize("in_fallback", [False, True])
def test_a_missing_partition_in_both_modes(database: str, lander: Lander, in_fallback: bool) -> None:
    """Its neighbours wait with it, nothing becomes a dead letter, and all land once it is there."""
    owner = claim(database)
    known = batch(0)
    _, owner = land(lander, owner, known)
    if in_fallback:
        expect_duplicates(lander)
    old = event(1, timestamp="2024-02-03T04:05:06Z")
    sent = [message(1, event(2)), message(2, old), message(3, event(3))]
    decoded = decode([RawBatch(SOURCE, 0, sent)], Limits(raw_retention=Limits().raw_retention * 100))
    taken = [span(owner, sent)]
    for _ in range(2):
        with pytest.raises(MissingPartition):
            lander.land(taken, decoded)
        assert value(database, "SELECT count(*) FROM events") == 1
        assert value(database, "SELECT count(*) FROM dead_letter_events") == 0
    execute(database, "SELECT create_event_partition('2024-02-03'::date)")
    assert lander.land(taken, decoded).lines[0].stored == 3
    check_books(database)


@pytest.mark.slow
@pytest.mark.parametrize("in_fallback", [False, True])
def test_twins_of_two_partitions_and_of_one_in_one_batch(
    database: str, lander: Lander, in_fallback: bool
) -> None:
    if in_fallback:
        expect_duplicates(lander)
    owners = [claim(database, (SOURCE, number)) for number in (0, 1)]
    twin, stored_before = event(1), event(0)
    if in_fallback:
        _, owners[0] = land(lander, owners[0], [message(0, stored_before)])
    first = owners[0].next_offset
    batches = [
        RawBatch(
            SOURCE, 0, [message(first, twin), message(first + 1, twin), message(first + 2, stored_before)]
        ),
        RawBatch(SOURCE, 1, [message(0, twin), message(1, event(2)), message(2, stored_before)]),
    ]
    spans = [
        span(owner, one.messages, partition=one.partition) for owner, one in zip(owners, batches, strict=True)
    ]
    landed: Landed = lander.land(spans, decode(batches))
    before = 1 if in_fallback else 0
    assert sum(line.stored for line in landed.lines) == 3 - before
    assert sum(line.duplicate for line in landed.lines) == 3 + before
    assert value(database, "SELECT count(*) FROM events") == 3
    check_books(database)
