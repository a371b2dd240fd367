"""Each message can learn what became of it, by where it was or by its id."""

import io
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from analytics_pipeline.cli import fate as fate_command
from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import Offset, RawBatch
from analytics_pipeline.settings import environment
from analytics_pipeline.storage import offsets
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.fates import Fate, Verdict, at_offsets, outcome
from analytics_pipeline.storage.fates_of_ids import EventKey, fates_of, of_events
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Span
from tests.commands import run_command
from tests.integration.ingest_process import produce
from tests.integration.landing_rig import claim, decode, event, execute, land, message
from tests.integration.test_dead_letters import replay

Run = Callable[..., tuple[int, str, str]]

TOPIC = "orders"
AT = datetime.now(UTC) - timedelta(seconds=20)
BROKEN = str(uuid7(AT, bytes(10)))


def at_offset(opened: psycopg.Connection[Any], topic: str, partition: int, offset: int) -> list[Fate]:
    [found] = at_offsets(opened, [Offset(topic, partition, offset)])
    return found


def of_event(opened: psycopg.Connection[Any], event_id: uuid.UUID, at: datetime | None) -> list[Fate]:
    [found] = of_events(opened, [EventKey(event_id, at)])
    return found


@pytest.fixture
def landed(database: str) -> str:
    """Offsets: 0 stored, 1 its duplicate, 2 broken; then 3 stored, 4 skipped."""
    once = event(0, id=str(uuid7(AT, b"0123456789")), timestamp=AT.isoformat())
    first = [message(0, once), message(1, once), message(2, event(2, id=BROKEN, user_id=5))]
    second = [message(3, event(3))]
    lander, owner = Lander(database, name="landing-test"), claim(database, (TOPIC, 0))
    lander.land([Span(TOPIC, 0, 0, 3, 3, owner.epoch)], decode([RawBatch(TOPIC, 0, first)]))
    lander.land([Span(TOPIC, 0, 3, 5, 1, owner.epoch)], decode([RawBatch(TOPIC, 0, second)]))
    lander.close()
    return database


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offset", "verdict", "reason"),
    [
        (0, Verdict.STORED, None),
        (1, Verdict.DUPLICATE, None),
        (2, Verdict.DEAD, "bad_user_id"),
        (3, Verdict.STORED, None),
        (4, Verdict.SKIPPED, None),
        (5, Verdict.WAITING, None),
    ],
)
def test_by_offset(landed: str, offset: int, verdict: Verdict, reason: str | None) -> None:
    with connection(landed, name="test") as opened:
        [one] = at_offset(opened, TOPIC, 0, offset)
    assert (one.verdict, one.reason, one.source, one.offset) == (verdict, reason, TOPIC, offset)


def test_a_partition_that_nobody_read_is_unknown(landed: str) -> None:
    with connection(landed, name="test") as opened:
        [one] = at_offset(opened, "elsewhere", 0, 0)
        [posted] = at_offset(opened, "http", 0, 0)
    assert one.verdict is posted.verdict is Verdict.UNKNOWN
    assert "landing token" in posted.detail


def test_by_id(landed: str) -> None:
    with connection(landed, name="test") as opened:
        stored_id = uuid7(AT, b"0123456789")
        for at in (None, AT):
            [stored] = of_event(opened, stored_id, at)
            assert (stored.verdict, stored.offset, stored.event_time) == (Verdict.STORED, 0, AT)
        [wrong_time] = of_event(opened, stored_id, AT + timedelta(microseconds=1))
        [dead] = of_event(opened, uuid.UUID(BROKEN), None)
        [timeless] = of_event(opened, uuid.uuid4(), None)
    assert wrong_time.verdict is Verdict.UNKNOWN
    assert (dead.verdict, dead.reason, dead.offset) == (Verdict.DEAD, "bad_user_id", 2)
    assert timeless.verdict is Verdict.UNKNOWN


@pytest.fixture
def lander(database: str) -> Any:
    made = Lander(database, name="landing-test")
    yield made
    made.close()


def told(database: str, *offsets_asked: int) -> list[Fate]:
    """In the end, of messages of partition 0."""
    with connection(database, name="test") as opened:
        found = at_offsets(opened, [Offset(TOPIC, 0, one) for one in offsets_asked])
    return [outcome(fates) for fates in found]


def land_all(database: str, lander: Lander, *events: dict[str, Any], limits: Limits | None = None) -> None:
    messages = [message(at, one) for at, one in enumerate(events)]
    batch = RawBatch(TOPIC, 0, messages)
    owner = claim(database, (TOPIC, 0))
    decoded = decode([batch], limits) if limits else decode([batch])
    lander.land([Span(TOPIC, 0, 0, len(messages), len(messages), owner.epoch)], decoded)


def test_a_replayed_letter_is_stored_whatever_the_time_of_its_event(database: str, lander: Lander) -> None:
    ahead, now = timedelta(minutes=20), datetime.now(UTC)
    plain = event(0, timestamp=(now + ahead).isoformat())
    # The first thing in its value that looks like the event's time is not it.
    misleading = event(1, properties={"timestamp": "2001-01-01T00:00:00Z"})
    misleading = {
        "properties": misleading.pop("properties"),
        **misleading,
        "timestamp": (now + 2 * ahead).isoformat(),
    }
    of_id = event(2, id=str(uuid7(now + ahead, bytes(10))))
    del of_id["timestamp"]
    land_all(database, lander, plain, misleading, of_id)
    assert [one.reason for one in told(database, 0, 1, 2)] == ["too_far_in_future"] * 3
    assert replay(lander, now=lambda: now + 2 * ahead).stored == 3
    found = told(database, 0, 1, 2)
    assert [(one.verdict, one.reason) for one in found] == [(Verdict.STORED, None)] * 3
    assert [one.event_time for one in found][:2] == [now + ahead, now + 2 * ahead]
    assert all(one.dead_letter is not None and "too_far_in_future" in one.detail for one in found)
    with connection(database, name="test") as opened:
        [by_id] = of_event(opened, uuid.UUID(of_id["id"]), None)
    assert (by_id.verdict, by_id.offset) == (Verdict.STORED, 2)


def test_a_letter_that_was_too_old_is_stored_once_it_was_replayed(database: str, lander: Lander) -> None:
    # The line of raw retention is the beginning of a day: 12 hours ago, and up to 24 before that.
    old = event(0, timestamp=(datetime.now(UTC) - timedelta(hours=37)).isoformat())
    land_all(database, lander, old, limits=Limits(raw_retention=timedelta(hours=12)))
    assert [one.reason for one in told(database, 0)] == ["too_old"]
    assert replay(lander).stored == 1
    [found] = told(database, 0)
    assert (found.verdict, found.event_time) == (Verdict.STORED, datetime.fromisoformat(old["timestamp"]))


def test_an_event_much_older_than_its_message_is_found(database: str, lander: Lander) -> None:
    land_all(
        database, lander, event(0), event(1, timestamp=(datetime.now(UTC) - timedelta(hours=30)).isoformat())
    )
    assert [one.verdict for one in told(database, 0, 1)] == [Verdict.STORED] * 2


def test_an_event_that_is_gone_was_removed_by_retention_or_is_missing(database: str, lander: Lander) -> None:
    land_all(database, lander, event(0), event(1))
    execute(database, "DELETE FROM events WHERE source_offset = 1")
    assert [one.verdict for one in told(database, 0, 1)] == [Verdict.STORED, Verdict.MISSING]
    execute(database, "UPDATE retention_state SET raw_floor = now() + interval '1 day'")
    assert [one.verdict for one in told(database, 0, 1)] == [Verdict.STORED, Verdict.EXPIRED]


def test_a_letter_whose_event_was_there_is_a_duplicate(database: str, lander: Lander) -> None:
    later = event(0, timestamp=(datetime.now(UTC) + timedelta(minutes=20)).isoformat())
    land_all(database, lander, later, later)
    done = replay(lander, now=lambda: datetime.now(UTC) + timedelta(minutes=20))
    assert (done.stored, done.duplicate) == (1, 1)
    assert [one.verdict for one in told(database, 0, 1)] == [Verdict.STORED, Verdict.DUPLICATE]


def test_a_message_read_twice_has_both_readings(database: str, lander: Lander) -> None:
    sent = [message(at, event(at)) for at in range(4)]
    _, owner = land(lander, claim(database, (TOPIC, 0)), sent[:2], source=TOPIC)
    land(lander, owner, sent[2:], source=TOPIC)
    with connection(database, name="test") as opened:
        offsets.skip_to(opened, database, (TOPIC, 0), 1, note="again")
    land(lander, claim(database, (TOPIC, 0)), sent[1:], source=TOPIC)
    with connection(database, name="test") as opened:
        found = at_offsets(opened, [Offset(TOPIC, 0, at) for at in (3, 0, 1, 4)])
    both = [Verdict.STORED, Verdict.DUPLICATE]
    assert [[one.verdict for one in fates] for fates in found] == [
        both,
        [Verdict.STORED],
        both,
        [Verdict.WAITING],
    ]
    assert len({one.batch_id for fates in found[:3] for one in fates}) == 3


def test_messages_passed_over_by_an_operator_are_skipped(database: str, lander: Lander) -> None:
    land(lander, claim(database, (TOPIC, 0)), [message(0, event(0))], source=TOPIC)
    with connection(database, name="test") as opened:
        offsets.skip_to(opened, database, (TOPIC, 0), 10, note="broken disk")
    land(lander, claim(database, (TOPIC, 0)), [message(10, event(10))], source=TOPIC)
    found = told(database, 0, 5, 10)
    assert [one.verdict for one in found] == [Verdict.STORED, Verdict.SKIPPED, Verdict.STORED]
    assert found[1].detail == "broken disk"


def test_any_number_of_messages_takes_the_same_few_questions(
    landed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Offset(TOPIC, number % 3, number) for number in range(3_000)]
    asked += [Offset(TOPIC, 0, number) for number in (4, 2, 1, 0)]
    keys = [EventKey(uuid7(AT, number.to_bytes(10)), None) for number in range(1_000)]
    keys += [EventKey(uuid7(AT, b"0123456789"), AT), EventKey(uuid.UUID(BROKEN))]
    said: list[str] = []
    execute_plainly = psycopg.Connection.execute

    def counting(self: Any, statement: Any, *more: Any, **other: Any) -> Any:
        said.append(statement)
        return execute_plainly(self, statement, *more, **other)

    with connection(landed, name="test") as opened:
        monkeypatch.setattr(psycopg.Connection, "execute", counting)
        found = [outcome(fates).verdict for fates in fates_of(opened, [*asked, *keys])]
    assert found[3_000:3_004] == [Verdict.SKIPPED, Verdict.DEAD, Verdict.DUPLICATE, Verdict.STORED]
    assert found[-2:] == [Verdict.STORED, Verdict.DEAD]
    assert len(found) == 4_006
    assert len(said) <= 15


@pytest.fixture
def run(landed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv(
        "B25_LOCAL_STACK__STATE_FOLDER", environment().get("B25_LOCAL_STACK__STATE_FOLDER", "")
    )
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    with psycopg.connect(landed) as opened:
        info = opened.info
        url = f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
    monkeypatch.setenv("B25_DATABASE__URL", url)

    def call(*arguments: object) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", "fate", *map(str, arguments)])

    return call


def test_the_command_tells(run: Run) -> None:
    code, out, _ = run(TOPIC, 0, 2)
    assert code == 0
    assert out.startswith("dead: bad_user_id; ")
    assert "analytics dead-letters show " in out
    code, out, _ = run("--id", uuid7(AT, b"0123456789"), "--json")
    assert (code, json.loads(out)[0]["verdict"]) == (0, "stored")
    assert run("nowhere", 0, 0)[0] == 1
    for wrong in (
        (), ("--id", "x"), (TOPIC, 0, 0, "--id", BROKEN), (TOPIC, 0), (TOPIC, 0, 0, "--time", "1h"),
        (TOPIC, 0, 0, "--file", "-"), ("--file", "/nowhere/at/all"), (TOPIC, 0, 2**63), (TOPIC, 2**31, 0),
    ):  # fmt: skip
        code, _, errors = run(*wrong)
        assert code == 2, wrong
        assert "rror" in errors


@pytest.mark.slow
def test_a_file_is_answered_line_by_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fate_command, "_AT_ONCE", 2)
    lines = [
        f"{TOPIC} 0 2",
        json.dumps({"topic": TOPIC, "partition": 0, "offset": 0, "id": None, "status": "accepted"}),
        "",
        f"  {TOPIC}\t0  1\r",
        json.dumps({"topic": TOPIC, "partition": 0, "offset": None, "id": BROKEN}),
        f"{uuid7(AT, b'0123456789')} {AT.isoformat()}",
        f"{TOPIC} 0 4",
        f"{TOPIC} 0 5",
    ]
    file = tmp_path / "sent"
    file.write_text("\n".join(lines))
    verdicts = ["dead", "stored", "duplicate", "dead", "stored", "skipped", "waiting"]
    code, out, errors = run("--file", file, "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert (code, [one["verdict"] for one in answers]) == (0, verdicts)
    assert [one["offset"] for one in answers] == [2, 0, 1, 2, 0, 4, 5]
    assert errors == "7 messages: 2 stored, 2 dead, 1 duplicate, 1 skipped, 1 waiting\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    code, out, _ = run("--file", "-")
    assert (code, [line.split(":")[0].split(";")[0] for line in out.splitlines()]) == (0, verdicts)
    file.write_text(f"{TOPIC} 0 0\nnowhere 0 0\n")
    assert run("--file", file)[0] == 1
    file.write_text("")
    assert run("--file", file) == (0, "", "no messages were asked for\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        "orders 0", "orders 0 -1", "orders x 1", "orders 0 1 2", f"orders 0 {2**63}", f"orders {2**31} 0", "{",
        '{"topic": "orders", "partition": 0}', '{"topic": "orders", "partition": true, "offset": 1}',
        '{"id": "no"}', "0197f2f0-6c5c-7d3e-8a4b-1c2d3e4f5a6b yesterday",
        '{"id": 5}', '{"topic": "a\\u0000", "partition": 0, "offset": 1}',
        "x" * 70_000, "{" * 70_000, "\udcff 0 0",
    ],
)  # fmt: skip
def test_a_line_that_names_no_message_is_named(run: Run, tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "sent"
    content = f"{TOPIC} 0 0\n\n{wrong}\n{TOPIC} 0 2\n"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    code, out, errors = run("--file", file)
    assert (code, out.split(";")[0]) == (2, "stored"), "what comes before it is answered"
    assert errors.startswith("error: --file: line 3 names no message: write `topic partition offset`")


def test_a_topic_that_is_not_read_is_named_with_the_nearest(run: Run) -> None:
    code, out, _ = run("orders.event", 3, 15863)
    assert code == 1
    assert "no topic of this name is read (kafka.topics); did you mean order.events?" in out
    assert "those are trading.events, " in run("nowhere", 0, 0)[1]
    assert "landing has never read this partition" in run(TOPIC, 7, 0)[1], (
        "landing knows it: read by other settings"
    )


def test_an_offset_that_kafka_does_not_hold_is_not_waited_for(
    run: Run, landed: str, kafka: str, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(partitions=2)
    produce(kafka, name, [b"1", b"2"], partition=0)
    claim(landed, (name, 0), 0)
    monkeypatch.setenv("B25_KAFKA__BROKERS", kafka)
    monkeypatch.setenv("B25_KAFKA__TOPICS", name)
    code, out, _ = run(name, 0, 1)
    assert (code, out.split("; ")[:2]) == (0, ["waiting", "landing stands at offset 0"])
    code, out, _ = run(name, 0, 99_999_999)
    assert code == 1
    assert out.startswith("unknown; the partition ends at offset 2 and holds no such message; ")
    code, out, _ = run(name, 7, 0)
    assert (code, out.split("; ")[1]) == (1, "Kafka has no such partition")
    code, out, _ = run(name, 1, 0)
    assert (code, out.split("; ")[1]) == (1, "the partition ends at offset 0 and holds no such message")
