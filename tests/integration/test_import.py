"""The original's history moved here: what is stored, what is not, and that both sides agree, on two real databases."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from analytics_pipeline.errors import ConfigurationError, InvariantBroken
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.storage import import_progress, import_runs
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.landing import CommitUnknown, Lander, TimedOut
from tests.integration.databases import fresh_database
from tests.integration.landing_rig import claim, execute, land, message, rows, value
from tests.integration.original_service import (
    Event,
    both,
    check_everything,
    create_tables,
    event,
    history,
    multiset,
    past,
    planned,
    run_import,
    settings_of,
    store,
)

BATCH = 100
LONG = "x" * 1025
BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("bad_event_type", {"event_type": ""}),
    ("bad_event_type", {"event_type": "a\tb"}),
    ("bad_properties", {"properties": [1, 2]}),
    ("bad_properties", {"properties": '"text"'}),
    ("too_many_properties", {"properties": {f"p{n}": n for n in range(51)}}),
    ("property_too_large", {"properties": {"note": LONG}}),
    ("number_out_of_range", {"properties": '{"size": 1e400}'}),
    ("too_deep", {"properties": '{"a": ' + "[" * 100 + "]" * 100 + "}"}),
]


@pytest.fixture
def theirs(postgres: Postgres) -> Iterator[str]:
    for conninfo in fresh_database(postgres, "template1"):
        create_tables(conninfo)
        yield conninfo


@pytest.fixture
def rng() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def broken(rng: random.Random, day: int) -> list[Event]:
    return [event(rng, past(day) + timedelta(hours=n), **parts) for n, (_, parts) in enumerate(BROKEN)]


def of_day(days: list[import_runs.DayDone], ago: int) -> import_runs.DayDone:
    [found] = [one for one in days if one.day == past(ago).date()]
    return found


def numbers(day: import_runs.DayDone) -> tuple[int, int, int, int]:
    return day.read, day.stored, day.duplicate, day.dead


def test_the_whole_history_is_here_as_it_was_there(database: str, theirs: str, rng: random.Random) -> None:
    good = history(rng, 350, [2, 1])
    edges = [event(rng, at) for at in (past(2), past(1) - timedelta(microseconds=1), past(1))]
    empty = [event(rng, past(1) + timedelta(hours=9), properties=text) for text in ("null", "{}")]
    store(theirs, good + edges + empty)
    execute(
        theirs, "INSERT INTO events (event_type, properties, timestamp) VALUES ('none', NULL, %s)", past(2)
    )
    before = multiset(theirs)
    done = run_import(database, theirs)
    assert [numbers(day) for day in done] == [(353, 353, 0, 0), (353, 353, 0, 0)]
    expected = Counter({(*row[:4], row[4].replace("null", "{}"), *row[5:]): n for row, n in before.items()})
    assert multiset(database) == expected
    assert multiset(theirs) == before
    check_everything(database)
    assert value(database, "SELECT count(*) FROM rollup_deltas") == 0
    assert rows(database, "SELECT count(DISTINCT source), min(source) FROM events") == [(1, "_import")]


def test_what_breaks_the_contract_is_a_dead_letter(database: str, theirs: str, rng: random.Random) -> None:
    store(theirs, [*history(rng, 20, [1]), *broken(rng, 1)])
    [day] = run_import(database, theirs, batch_size=7)
    assert numbers(day) == (28, 20, 0, 8)
    assert day.reasons == Counter(reason for reason, _ in BROKEN)
    kept = rows(
        database,
        "SELECT reason, source, partition, convert_from(key, 'UTF8'), value, message_timestamp, source_offset"
        " FROM dead_letter_events ORDER BY source_offset",
    )
    sent = sorted(zip(broken_rows(theirs), BROKEN, strict=True), key=lambda pair: pair[0][1])
    for (identity, at, text, created), (reason, *_), letter in zip(
        *zip(*[(row, known) for row, known in sent], strict=True), kept, strict=True
    ):
        assert letter[:4] == (reason, "_import", (at.date() - date(1970, 1, 1)).days, str(identity))
        content = json.loads(letter[4], parse_float=str)
        assert (content["id"], content["properties"]) == (str(identity), json.loads(text, parse_float=str))
        assert letter[5] == created.replace(microsecond=created.microsecond // 1000 * 1000)
    check_everything(database)


def broken_rows(theirs: str) -> list[tuple[Any, ...]]:
    return rows(
        theirs,
        "SELECT id, timestamp, properties::text, created_at FROM events"
        " WHERE date_trunc('hour', timestamp) = timestamp ORDER BY timestamp",
    )


def test_late_is_what_was_late_there(database: str, theirs: str, rng: random.Random) -> None:
    at = past(1) + timedelta(hours=3)
    late = event(rng, at, created_at=at + timedelta(minutes=5))
    store(theirs, [event(rng, at), late])
    run_import(database, theirs)
    assert rows(database, "SELECT id FROM events WHERE is_late") == [(late[0],)]


@pytest.mark.slow
def test_an_import_repeated_moves_nothing(database: str, theirs: str, rng: random.Random) -> None:
    store(theirs, [*history(rng, 120, [2, 1]), *broken(rng, 1)])
    first = run_import(database, theirs)
    lines = value(database, "SELECT count(*) FROM ingest_batches")
    again = run_import(database, theirs)
    assert [numbers(day) for day in again] == [numbers(day) for day in first]
    assert all(day.is_unchanged for day in again)
    assert value(database, "SELECT count(*) FROM ingest_batches") == lines


@pytest.mark.slow
def test_a_day_that_changed_there_is_taken_up_again(database: str, theirs: str, rng: random.Random) -> None:
    store(theirs, [*history(rng, 120, [2, 1]), *broken(rng, 1)])
    run_import(database, theirs)
    store(theirs, history(rng, 5, [1]))
    execute(theirs, "DELETE FROM events WHERE event_type = 'order.filled' AND timestamp < %s", past(1))
    older, newer = run_import(database, theirs)
    assert (newer.read, newer.stored, newer.dead) == (133, 5, 0)
    assert (older.stored, older.dead, older.is_unchanged) == (0, 0, False)
    assert value(database, "SELECT count(*) FROM events") == 245
    assert value(database, "SELECT count(*) FROM dead_letter_events") == len(BROKEN)
    check_everything(database)


def test_a_range_moves_whole_days(database: str, theirs: str, rng: random.Random) -> None:
    store(theirs, history(rng, 30, [2, 1]))
    store(theirs, [event(rng, past(-3))])
    execute(theirs, "INSERT INTO events (event_type, timestamp) VALUES ('a', 'infinity'), ('a', '-infinity')")
    found = planned(database, theirs, first=past(2).date(), end=past(1).date())
    assert (found.days, found.earlier, found.later) == ([past(2).date()], 1, 32)
    run_import(database, theirs, first=past(2).date(), end=past(1).date())
    assert value(database, "SELECT count(*) FROM events") == 30
    with pytest.raises(ConfigurationError, match="is not before --to"):
        planned(database, theirs, first=past(1).date(), end=past(1).date())


def test_events_older_than_raw_events_are_kept_are_refused(
    database: str, theirs: str, rng: random.Random
) -> None:
    store(theirs, [event(rng, past(40)), *history(rng, 3, [1])])
    line = past(2).date()
    with pytest.raises(ConfigurationError, match=rf"kept from {line} on.*raw_events at 41d.*--from {line}"):
        planned(database, theirs)
    with pytest.raises(ConfigurationError, match="raw events are kept"):
        planned(database, theirs, first=past(40).date())
    longer = settings_of(database, analytics={"retention": {"raw_events": "60d"}})
    assert planned(database, theirs, longer).days == [past(40).date(), past(1).date()]
    execute(database, "UPDATE retention_state SET raw_floor = %s", past(2))
    with pytest.raises(ConfigurationError, match="never comes back"):
        planned(database, theirs, longer)
    execute(database, "UPDATE retention_state SET raw_floor = '1970-01-01'")
    run_import(database, theirs, settings=longer)
    assert multiset(database) == multiset(theirs)
    check_everything(database)


@pytest.mark.slow
def test_a_dry_run_says_what_a_run_does_and_writes_nothing(
    database: str, theirs: str, rng: random.Random
) -> None:
    store(theirs, [*history(rng, 90, [2, 1]), *broken(rng, 1)])
    run_import(database, theirs, first=past(2).date(), end=past(1).date())
    store(theirs, history(rng, 10, [2]))
    tables = [
        name for (name,) in rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]

    def contents() -> dict[str, Any]:
        return {name: rows(database, f"SELECT {name}::text FROM {name} ORDER BY 1") for name in tables}

    before = contents()
    with both(database, theirs) as (opened, original):
        opened.execute("SET default_transaction_read_only = on")
        found = planned(database, theirs)
        days = list(import_runs.preview(opened, original, settings_of(database), found, batch_size=BATCH))
    assert contents() == before
    assert [numbers(day) for day in days] == [(100, 10, 90, 0), (98, 90, 0, 8)]
    assert days[1].reasons == Counter(reason for reason, _ in BROKEN)
    assert [numbers(day) for day in run_import(database, theirs)] == [numbers(day) for day in days]


def produced(rng: random.Random, number: int) -> dict[str, Any]:
    at = past(1) + timedelta(seconds=number)
    return {
        "id": str(UUID(int=rng.getrandbits(128), version=4)),
        "event_type": "order.placed",
        "user_id": f"user-{number % 3}",
        "properties": {"price": 50_000.0, "quantity": rng.choice([1.10, -0.0, 7]), "n": [number % 2, {"b": 1}, "é"]},
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}.{rng.choice(['000001', '000000900', '25', '999999999'])}Z",
    }  # fmt: skip


def as_the_original_has_it(rng: random.Random, sent: dict[str, Any]) -> Event:
    """Another id, all numbers as floats without a needless fraction, the time cut to microseconds."""
    head, fraction = sent["timestamp"].removesuffix("Z").split(".")
    at = datetime.fromisoformat(head).replace(tzinfo=UTC, microsecond=int(fraction.ljust(6, "0")[:6]))
    text = json.dumps(sent["properties"]).replace("50000.0", "50000").replace("-0.0", "-0")
    return event(rng, at, properties=text, user_id=sent["user_id"])


def test_what_ingest_has_landed_from_kafka_is_not_doubled(
    database: str, theirs: str, rng: random.Random
) -> None:
    """The original gave its messages ids of its own: the content tells that they are the same."""
    sent = [produced(rng, number) for number in range(200)]
    both_have, only_theirs = sent[50:], sent[:50]
    lander = Lander(database, name="landing-test")
    land(lander, claim(database), [message(offset, one) for offset, one in enumerate(both_have)])
    lander.close()
    execute(database, "UPDATE ingest_offsets SET caught_up_at = now()")
    there = [as_the_original_has_it(rng, one) for one in sent]
    store(theirs, [*there, as_the_original_has_it(rng, sent[-1])])  # it stored what came twice twice
    another = event(rng, there[60][5], properties={"price": 1})  # of the same time
    store(theirs, [another])
    [day] = run_import(database, theirs)
    assert numbers(day) == (202, 51, 151, 0)
    assert value(database, "SELECT count(*) FROM events") == 201
    assert value(database, "SELECT count(*) FROM events WHERE source = '_import'") == len(only_theirs) + 1
    check_everything(database)


@pytest.mark.slow
def test_the_same_events_landing_meanwhile_are_stored_once(
    database: str, theirs: str, rng: random.Random
) -> None:
    """By their ids, as posted ones have them, while both are at work."""
    there = history(rng, 600, [1])
    store(theirs, there)
    bodies = [
        {
            "id": str(identity), "event_type": event_type, "user_id": user_id, "session_id": session_id,
            "properties": json.loads(properties or "{}"), "timestamp": at.isoformat(),
        }
        for identity, event_type, user_id, session_id, properties, at, _ in there
    ]  # fmt: skip
    rng.shuffle(bodies)
    lander = Lander(database, name="landing-test")

    def land_all() -> None:
        owner = claim(database)
        for start in range(0, len(bodies), 60):
            batch = [message(at, bodies[at]) for at in range(start, start + 60)]
            _, owner = land(lander, owner, batch)

    settings = settings_of(database)
    with both(database, theirs) as (opened, original):
        found = import_runs.Importer(opened, original, settings, live_first=lambda _: None, batch_size=50)
        to_do = planned(database, theirs)
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(land_all)
            [day] = found.run(to_do)
            beside.result(60)
    lander.close()
    assert (day.read, day.stored + day.duplicate) == (600, 600)
    assert multiset(database) == multiset(theirs)
    check_everything(database)


def test_what_ingest_may_not_have_landed_yet_is_left(database: str, theirs: str, rng: random.Random) -> None:
    now = datetime.now(UTC)
    claim(database)
    with pytest.raises(ConfigurationError, match="not caught up with Kafka in 1 of 1"):
        planned(database, theirs)
    execute(database, "UPDATE ingest_offsets SET caught_up_at = %s", now - timedelta(hours=1))
    at = now - timedelta(hours=1, minutes=2)
    young = event(rng, at, created_at=now - timedelta(minutes=59))
    store(theirs, [event(rng, at, created_at=at), young])
    [day] = run_import(database, theirs)
    assert (numbers(day), day.younger) == ((1, 1, 0, 0), 1)
    execute(database, "UPDATE ingest_offsets SET caught_up_at = %s", now)
    [day] = run_import(database, theirs)
    assert (numbers(day), day.younger) == ((2, 1, 1, 0), 0)


def test_an_import_before_ingest_would_be_doubled(database: str, theirs: str) -> None:
    begins_early = settings_of(database, kafka={"enabled": True})
    with pytest.raises(ConfigurationError, match="start ingest and let it catch up"):
        planned(database, theirs, begins_early)
    late = settings_of(database, kafka={"enabled": True, "auto_offset_reset": "latest"})
    assert planned(database, theirs, late).days == []


@pytest.mark.slow
def test_a_loss_here_is_found(database: str, theirs: str, rng: random.Random) -> None:
    store(theirs, history(rng, 40, [1]))
    run_import(database, theirs)
    execute(database, "UPDATE events SET user_id = 'another' WHERE source_offset = 7")
    store(theirs, history(rng, 1, [1]))
    with pytest.raises(InvariantBroken, match="the right number of events, but not the same"):
        run_import(database, theirs)
    execute(database, "DELETE FROM events WHERE source_offset = 8")
    with pytest.raises(InvariantBroken, match=r"of type .* where .* were stored"):
        run_import(database, theirs)
    [(verified_at,)] = rows(database, "SELECT verified_at FROM import_days")
    assert verified_at is None


def test_two_imports_do_not_run_at_once(database: str, theirs: str, rng: random.Random) -> None:
    store(theirs, history(rng, 3, [1]))
    with connection(database, name="test", autocommit=True) as held:
        held.execute("SELECT pg_advisory_lock(25042, 0)")
        with pytest.raises(import_runs.Busy):
            run_import(database, theirs)
    run_import(database, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("is_committed", [True, False])
def test_a_commit_without_an_answer_doubles_nothing(
    database: str, theirs: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    store(theirs, [*history(rng, 90, [1]), *broken(rng, 1)])
    real, calls = Lander.land_import, []

    def land_import(self: Lander, take: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            if is_committed:
                real(self, take)
            raise CommitUnknown("no answer")
        return real(self, take)

    monkeypatch.setattr(Lander, "land_import", land_import)
    [day] = run_import(database, theirs, batch_size=20)
    assert numbers(day) == (98, 90, 0, 8)
    check_everything(database)


def test_a_transaction_that_takes_too_long_is_tried_by_halves(
    database: str, theirs: str, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(theirs, history(rng, 50, [1]))
    real, sizes = import_runs.imports.land, []

    def land_rows(lander: Lander, progress: Any, batch: Any, rules: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 10:
            raise TimedOut("too long")
        return real(lander, progress, batch, rules)

    monkeypatch.setattr(import_runs.imports, "land", land_rows)
    [day] = run_import(database, theirs, batch_size=40)
    assert numbers(day) == (50, 50, 0, 0)
    assert sizes[:4] == [40, 20, 10, 20]
    assert multiset(database) == multiset(theirs)


def test_definitions_come_along_and_judge(database: str, theirs: str, rng: random.Random) -> None:
    strict = json.dumps({"properties": {"size": {"type": "number"}}, "required": ["size"]})
    execute(
        theirs,
        "INSERT INTO custom_event_definitions (name, display_name, description, schema, is_active) VALUES"
        f" ('lot.sized', 'Lots', NULL, '{strict}', true), ('lot.old', 'Old', 'was', '{{}}', false),"
        " ('bad', 'Bad', '', '{\"type\": 5}', true), ('list', 'List', '', '[1]', true), ('taken', 'T', '', '{}', true)",
    )
    execute(
        database,
        """INSERT INTO custom_event_definitions (name, schema) VALUES ('taken', '{"minProperties": 1}')""",
    )
    at = past(1) + timedelta(hours=1)
    store(theirs, [event(rng, at, "lot.sized", {"size": 2}), event(rng, at, "lot.sized", {})])
    fates = {one.definition.name: one.fate.value for one in planned(database, theirs).definitions}
    assert fates == {
        "lot.sized": "new",
        "lot.old": "new",
        "bad": "refused",
        "list": "refused",
        "taken": "kept",
    }
    with both(database, theirs) as (opened, original):
        found = planned(database, theirs)
        [preview] = import_runs.preview(opened, original, settings_of(database), found)
    [day] = run_import(database, theirs)
    assert numbers(day) == numbers(preview) == (2, 1, 0, 1)
    assert day.reasons == {"schema_violation": 1}
    stored = "SELECT name, display_name, description, is_active, version FROM custom_event_definitions ORDER BY name"
    assert rows(database, stored) == [
        ("lot.old", "Old", "was", False, 1),
        ("lot.sized", "Lots", "", True, 1),
        ("taken", "", "", True, 1),
    ]
    assert value(database, "SELECT definition_version FROM events") == 1
    again = {one.definition.name: one.fate.value for one in planned(database, theirs).definitions}
    assert again == {
        "lot.sized": "same",
        "lot.old": "same",
        "bad": "refused",
        "list": "refused",
        "taken": "kept",
    }
    off = settings_of(database, custom_events={"enabled": False})
    execute(database, "TRUNCATE import_days")
    assert planned(database, theirs, off).definitions == []


@pytest.mark.slow
def test_dead_letters_can_be_replayed_and_the_day_still_agrees(
    database: str, theirs: str, rng: random.Random
) -> None:
    from analytics_pipeline.storage.dead_letters import Filter
    from analytics_pipeline.storage.replay_runs import run

    store(theirs, [*history(rng, 10, [1]), *broken(rng, 1)])
    run_import(database, theirs)
    wider = settings_of(
        database,
        analytics={"retention": {"raw_events": "2d"}, "ingestion": {"max_property_bytes": 4096}},
    )
    with connection(database, name="test") as opened:
        opened.rollback()
        replayed = list(run(opened, wider, Filter(sources=("_import",)), is_dry_run=False))
    assert sum(one.stored for one in replayed) == 1
    store(theirs, history(rng, 1, [1]))
    [day] = run_import(database, theirs)
    assert numbers(day) == (19, 1, 18, 0)
    check_everything(database)


def test_live_landing_goes_first(database: str) -> None:
    pauses, said = list[float](), list[str | None]()
    with connection(database, name="test", autocommit=True) as opened:
        first = import_runs.LiveFirst(opened, said.append, pauses.append, lambda: sum(pauses))
        with connection(database, name="landing-import-test"):
            first(0.25)
            assert pauses == []  # nobody else lands
            with connection(database, name="landing-0"):
                first(0.25)
                assert (pauses, said) == ([0.25], [None])
                claim(database)
                execute(database, "UPDATE ingest_offsets SET caught_up_at = now() - interval '1 minute'")
                first(0.25)
                assert sum(pauses) == pytest.approx(0.5 + import_runs.PATIENCE)
                assert said[-2:] == ["landing is 60 s behind", None]


def test_their_database_is_never_written_to(theirs: str, database: str) -> None:
    with both(database, theirs) as (_, original):
        for statement in (
            "DELETE FROM events",
            "CREATE TABLE t (n int)",
            "INSERT INTO events (event_type) VALUES ('a')",
        ):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                original.connection.execute(statement)
        assert original.name == f"{original.connection.info.dbname}@127.0.0.1:{original.connection.info.port}"


def test_progress_that_somebody_else_moved_is_seen(database: str) -> None:
    with connection(database, name="test", autocommit=True) as opened:
        found = import_progress.begin(opened, "a", past(1).date())
        moved = found.with_batch([], (past(1), UUID(int=1))).again()
        with opened.transaction(), opened.cursor() as cursor:
            import_progress.move(cursor, found, moved)
        assert import_progress.begin(opened, "a", past(1).date()) == moved
        with pytest.raises(import_progress.Overtaken), opened.transaction(), opened.cursor() as cursor:
            import_progress.move(cursor, found, moved)


def test_a_role_that_may_not_read_is_told_so(
    database: str, theirs: str, postgres: Postgres, rng: random.Random
) -> None:
    store(theirs, history(rng, 1, [1]))
    execute(theirs, "REVOKE SELECT ON events FROM CURRENT_USER")
    with pytest.raises(ConfigurationError, match="grant it SELECT on events"):
        planned(database, theirs)
