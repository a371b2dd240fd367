"""The proof of landing: it holds after everything that landing does, and each kind of damage has its place named."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline.events.definitions import NO_DEFINITIONS
from analytics_pipeline.storage import audit, dead_letters, offsets, replays
from analytics_pipeline.storage.batches import Filter, batches
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.verdicts import Check
from tests.commands import run_command
from tests.integration import landing_rig
from tests.integration.landing_rig import (
    LIMITS,
    SOURCE,
    claim,
    decode_inbox,
    execute,
    land,
    message,
    rows,
    value,
)

event = cache(landing_rig.event)  # the same number is the same event again

NAMES = {
    "offsets_follow_one_another",
    "offsets_are_read_or_skipped",
    "messages_are_accounted_for",
    "offsets_are_the_ledgers",
    "posted_events_are_read_or_wait",
    "stored_events_are_there",
    "dead_letters_are_there",
    "replayed_letters_are_settled",
}


@pytest.fixture
def landed(database: str) -> Iterator[str]:
    """Two partitions of three batches with duplicates, dead letters and gaps, and a posted batch."""
    lander = Lander(database, name="landing-test")
    for partition in (0, 1):
        owner = claim(database, (SOURCE, partition), 100)
        for number in range(3):
            first = owner.next_offset + number  # a gap before the second and the third
            contents = [event(1000 * partition + 10 * number + n) for n in range(5)]
            sent = [*contents, contents[0], b"broken"]
            messages = [message(first + n, content) for n, content in enumerate(sent)]
            _, owner = land(lander, owner, messages, partition=partition)
    execute(database, "INSERT INTO http_accepted VALUES (gen_random_uuid(), current_date, 3)")
    for number in (1, 2, 3):
        payload = json.dumps(event(9000 + number)).encode()
        execute(database, "INSERT INTO http_inbox (payload) VALUES (%s)", payload)
    lander.land_inbox(2, decode_inbox)
    yield database
    lander.close()


def verify(database: str, **options: datetime) -> dict[str, Check]:
    with connection(database, name="test") as opened:
        checks = audit.verify(opened, **options)
    assert {check.name for check in checks} == NAMES
    return {check.name: check for check in checks}


def broken(database: str, **options: datetime) -> dict[str, Check]:
    return {name: check for name, check in verify(database, **options).items() if not check.holds}


def test_everything_holds_and_the_numbers_are_told(landed: str) -> None:
    checks = verify(landed)
    assert broken(landed) == {}
    accounted = checks["messages_are_accounted_for"].numbers
    assert accounted == {"read": 44, "stored": 32, "duplicate": 6, "dead": 6}
    assert checks["offsets_are_read_or_skipped"].numbers == {"offsets": 48, "read": 42, "skipped": 6}
    assert checks["posted_events_are_read_or_wait"].numbers == {"accepted": 3, "read": 2, "waiting": 1}
    assert checks["stored_events_are_there"].numbers["rows"] == 32
    assert checks["dead_letters_are_there"].numbers == {"dead": 6, "rows": 6}
    assert checks["offsets_follow_one_another"].numbers == {"partitions": 3, "lines": 7}


def test_an_empty_database_holds(database: str) -> None:
    assert broken(database) == {}


DAMAGES = {
    "offsets_follow_one_another": "DELETE FROM ingest_batches WHERE batch_id = 2",
    "offsets_are_read_or_skipped": "UPDATE ingest_batches SET skipped = skipped + 1 WHERE batch_id = 2",
    "messages_are_accounted_for": "UPDATE ingest_batches SET duplicate = duplicate + 1 WHERE batch_id = 2",
    "offsets_are_the_ledgers": "UPDATE ingest_offsets SET next_offset = next_offset - 1 WHERE partition = 0",
    "posted_events_are_read_or_wait": "DELETE FROM http_inbox",
    "stored_events_are_there": "DELETE FROM events WHERE source_partition = 0 AND source_offset = 110",
    "dead_letters_are_there": "DELETE FROM dead_letter_events WHERE batch_id = 2",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_kind_of_damage_is_found_where_it_is(landed: str, name: str) -> None:
    execute(landed, "ALTER TABLE ingest_batches DROP CONSTRAINT read_is_accounted_for")
    execute(landed, "ALTER TABLE ingest_batches DROP CONSTRAINT offsets_are_accounted_for")
    execute(landed, DAMAGES[name])
    found = broken(landed)
    assert name in found
    [place] = found[name].places
    assert found[name].broken == 1
    if name == "posted_events_are_read_or_wait":
        assert place.source == "http"
        return
    assert (place.source, place.partition) == (SOURCE, 0)
    assert 2 in place.batches or name in {"offsets_follow_one_another", "offsets_are_the_ledgers"}
    if name == "offsets_follow_one_another":
        assert place.batches == (1, 3)
        assert (place.first_offset, place.next_offset) == (107, 115)
    # Nothing else is called broken than what the damage touches.
    also = {"offsets_follow_one_another": {"stored_events_are_there", "dead_letters_are_there"}}
    assert found.keys() - {name} <= also.get(name, set())


def test_an_event_of_no_batch_and_a_doubled_one_are_found(landed: str) -> None:
    at = datetime.now(UTC)
    execute(landed, "INSERT INTO events (event_type, timestamp) VALUES ('stray', %s)", at)
    execute(
        landed,
        "INSERT INTO events (event_type, timestamp, source, source_partition, source_offset, created_at)"
        " SELECT event_type, timestamp, source, source_partition, source_offset, created_at FROM events"
        " WHERE source_partition = 1 AND source_offset = 100",
    )
    places = broken(landed)["stored_events_are_there"].places
    assert {(place.source, place.partition) for place in places} == {("", 0), (SOURCE, 1)}
    [stray] = [place for place in places if not place.source]
    assert "of no batch" in stray.problem


def test_an_event_too_many_does_not_make_up_for_a_missing_one(landed: str) -> None:
    execute(landed, "DELETE FROM events WHERE source_partition = 0 AND source_offset = 110")
    execute(
        landed,
        "INSERT INTO events (event_type, timestamp, source, source_partition, source_offset, created_at)"
        " SELECT event_type, timestamp, source, source_partition, source_offset, created_at FROM events"
        " WHERE source_partition = 1 AND source_offset = 100",
    )
    found = broken(landed)["stored_events_are_there"]
    assert found.numbers["stored"] == found.numbers["rows"]
    assert [(place.partition, place.batches) for place in found.places] == [(0, (2,)), (1, (4,))]


def test_a_damage_of_any_size_names_its_batch(landed: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    source, partition, offset = random.Random(seed).choice(
        rows(landed, "SELECT source, source_partition, source_offset FROM events ORDER BY 1, 2, 3")
    )
    execute(
        landed,
        "DELETE FROM events WHERE source = %s AND source_partition = %s AND source_offset = %s",
        source, partition, offset,
    )  # fmt: skip
    [place] = broken(landed)["stored_events_are_there"].places
    assert (place.source, place.partition) == (source, partition)
    if source != "http":
        assert place.first_offset is not None
        assert place.next_offset is not None
        assert place.first_offset <= offset < place.next_offset


def test_since_looks_at_the_rest_alone(landed: str) -> None:
    execute(landed, "UPDATE ingest_batches SET committed_at = committed_at - interval '2 days'")
    execute(landed, "UPDATE ingest_batches SET began_at = began_at - interval '2 days'")
    execute(landed, "UPDATE events SET created_at = created_at - interval '2 days'")
    execute(landed, "UPDATE dead_letter_events SET created_at = created_at - interval '2 days'")
    lander, owner = Lander(landed, name="landing-test"), claim(landed, (SOURCE, 0))
    land(lander, owner, [message(owner.next_offset + n, event(500 + n)) for n in range(4)])
    lander.close()
    since = datetime.now(UTC) - timedelta(days=1)
    assert broken(landed) == {}
    checks = verify(landed, since=since)
    assert all(check.holds for check in checks.values())
    assert checks["messages_are_accounted_for"].numbers["read"] == 4
    assert checks["stored_events_are_there"].numbers["rows"] == 4
    # The first batch of the window still follows the one before it.
    execute(landed, "DELETE FROM ingest_batches WHERE batch_id = 3")
    assert broken(landed, since=since).keys() == {"offsets_follow_one_another"}
    assert len(broken(landed)) == 3


def test_what_retention_removed_is_not_missing(landed: str) -> None:
    floor = datetime.now(UTC) + timedelta(days=1)
    before = verify(landed)["stored_events_are_there"].numbers["stored"]
    execute(landed, "UPDATE retention_state SET raw_floor = %s", floor)
    execute(landed, "DELETE FROM events WHERE source_offset < 110")
    checks = verify(landed)
    assert all(check.holds for check in checks.values())
    assert checks["stored_events_are_there"].numbers["removed_by_retention"] > 0
    assert checks["stored_events_are_there"].numbers["stored"] == before
    execute(landed, "DELETE FROM events")
    assert broken(landed) == {}


def test_retention_explains_only_what_it_removed(landed: str) -> None:
    """A batch of a day that is still kept is judged beside one whose events may be gone."""
    execute(
        landed, "UPDATE ingest_batches SET hours = ARRAY[timestamptz '2020-01-01 00:00Z'] WHERE batch_id = 1"
    )
    execute(landed, "UPDATE retention_state SET raw_floor = '2021-01-01 00:00Z'")
    execute(landed, "DELETE FROM events WHERE source_partition = 0 AND source_offset < 105")
    assert broken(landed) == {}
    execute(landed, "DELETE FROM events WHERE source_partition = 0 AND source_offset = 110")
    [place] = broken(landed)["stored_events_are_there"].places
    assert place.batches == (2,)


def test_going_back_is_recorded_and_holds(landed: str) -> None:
    with connection(landed, name="offsets") as opened:
        offsets.skip_to(opened, landed, (SOURCE, 0), 103, note="again")
    lander, owner = Lander(landed, name="landing-test"), claim(landed, (SOURCE, 0))
    again = [message(owner.next_offset + n, event(3 + n)) for n in range(2)]
    landed_again, owner = land(lander, owner, again)
    lander.close()
    assert owner.next_offset == 105
    assert [line.duplicate for line in landed_again.lines] == [2]
    assert broken(landed) == {}


def test_a_seek_without_a_line_in_the_ledger_is_caught(landed: str) -> None:
    """Also after landing has gone on from there, and the offsets agree with the ledger's end again."""
    execute(landed, "UPDATE ingest_offsets SET next_offset = 103 WHERE partition = 0")
    assert broken(landed).keys() == {"offsets_are_the_ledgers"}
    lander, owner = Lander(landed, name="landing-test"), claim(landed, (SOURCE, 0))
    land(lander, owner, [message(owner.next_offset + n, event(3 + n)) for n in range(2)])
    lander.close()
    found = broken(landed)
    assert found.keys() == {"offsets_follow_one_another"}
    [place] = found["offsets_follow_one_another"].places
    assert (place.first_offset, place.next_offset) == (103, 124)


@pytest.fixture
def replayed(landed: str) -> str:
    """Two letters are good by now and land with their old coordinates, four are still bad."""
    execute(
        landed, "UPDATE dead_letter_events SET value = %s WHERE batch_id = 2", json.dumps(event(700)).encode()
    )
    execute(
        landed, "UPDATE dead_letter_events SET value = %s WHERE batch_id = 5", json.dumps(event(10)).encode()
    )
    lander = Lander(landed, name="landing-test")
    done = list(
        replays.replay(lander, dead_letters.Filter(), definitions=lambda: NO_DEFINITIONS, limits=LIMITS)
    )
    lander.close()
    assert [(one.tried, one.stored, one.duplicate) for one in done] == [(6, 1, 1)]
    return landed


def test_a_replay_is_part_of_the_proof(replayed: str) -> None:
    checks = verify(replayed)
    assert all(check.holds for check in checks.values())
    assert checks["replayed_letters_are_settled"].numbers == {"read": 2, "stored": 1}
    assert checks["dead_letters_are_there"].numbers == {"dead": 6, "rows": 6}
    since = datetime.now(UTC) - timedelta(minutes=1)
    assert broken(replayed, since=since) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (
            "UPDATE dead_letter_events SET status = 'open', settled_at = NULL, replay_batch_id = NULL"
            " WHERE batch_id = 2",
            "replayed_letters_are_settled",
        ),
        (
            "UPDATE dead_letter_events SET status = 'replayed', settled_at = now(), replay_batch_id = 1"
            " WHERE batch_id = 1",
            "replayed_letters_are_settled",
        ),
        (
            "DELETE FROM events WHERE created_at = (SELECT began_at FROM ingest_batches WHERE source = '_replay')",
            "stored_events_are_there",
        ),
    ],
)
def test_damage_to_a_replay_is_found(replayed: str, damage: str, name: str) -> None:
    execute(replayed, damage)
    found = broken(replayed)
    assert found.keys() == {name}
    [place] = found[name].places
    assert place.source == "_replay"


def test_batches_are_listed_by_what_is_asked(landed: str) -> None:
    def found(**options: object) -> list[tuple[int, int]]:
        with connection(landed, name="test") as opened:
            return [(one.batch_id, one.partition) for one in batches(opened, Filter(**options))]

    assert found(limit=2) == [(7, 0), (6, 1)]
    assert found(source=SOURCE, partition=0) == [(3, 0), (2, 0), (1, 0)]
    assert found(source=SOURCE, partition=1, offset=108) == [(5, 1)]
    assert found(source="http") == [(7, 0)]
    assert found(batch=4) == [(4, 1)]
    assert found(has_skipped=True) == [(6, 1), (5, 1), (3, 0), (2, 0)]
    assert len(found(has_dead=True)) == len(found(has_duplicates=True)) == 6
    assert found(is_noted=True) == []
    assert found(since=datetime.now(UTC)) == []
    assert len(found(until=datetime.now(UTC))) == 7


@pytest.fixture
def run(landed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    parts = conninfo_to_dict(landed)
    names = {"HOST": "host", "PORT": "port", "DATABASE": "dbname", "USER": "user", "PASSWORD": "password"}
    for key, part in names.items():
        monkeypatch.setenv(f"B25_DATABASE__{key}", str(parts.get(part, "")))
    monkeypatch.setenv("B25_DATABASE__SSL_MODE", "disable")

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", *arguments])

    return call


def test_the_command_proves_and_names_what_is_broken(run, landed: str) -> None:
    code, out, _ = run("ledger", "verify")
    assert code == 0
    assert out.count("holds") == len(NAMES)
    assert "stored 32" in out
    code, out, _ = run("ledger", "verify", "--json", "--since", "1h")
    assert (code, json.loads(out)["holds"]) == (0, True)
    execute(landed, DAMAGES["stored_events_are_there"])
    code, out, _ = run("ledger", "verify")
    assert code == 1
    assert f"{SOURCE}/0, offsets 107 to 115, batch 2: 5 stored by the ledger, 4 rows" in out
    code, out, _ = run("ledger", "verify", "--json")
    found = json.loads(out)
    assert (code, found["holds"]) == (1, False)
    [place] = [place for check in found["checks"] for place in check["places"]]
    assert (place["source"], place["partition"], place["batches"]) == (SOURCE, 0, [2])


def test_the_command_shows_batches(run, landed: str) -> None:
    code, out, _ = run("ledger", "show", SOURCE, "--partition", "0")
    assert code == 0
    assert "107–115" in out
    code, out, _ = run("ledger", "show", "--json", "--batch", "7")
    [line] = json.loads(out)
    assert (code, line["source"], line["read"]) == (0, "http", 2)
    assert run("ledger", "show", "nothing")[1] == "no batch matches\n"
    assert value(landed, "SELECT count(*) FROM ingest_batches") == 7


def test_a_time_nobody_can_read_is_told(run) -> None:
    code, _, err = run("ledger", "verify", "--since", "yesterday")
    assert code == 2
    assert "--since" in err
