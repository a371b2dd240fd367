"""Each message can learn what became of it, by where it was or by its id."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.messages import RawBatch
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.storage.fates import Verdict, at_offset, of_event
from analytics_pipeline.storage.landing import Lander
from analytics_pipeline.storage.offsets import Span
from tests.commands import run_command
from tests.integration.landing_rig import claim, decode, event, message

TOPIC = "orders"
AT = datetime.now(UTC) - timedelta(seconds=20)
BROKEN = str(uuid7(AT, bytes(10)))


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


def test_the_command_tells(
    landed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(
        "B25_LOCAL_STACK__STATE_FOLDER", environment().get("B25_LOCAL_STACK__STATE_FOLDER", "")
    )
    monkeypatch.delenv("B25_LOCAL_STACK__STATE_FOLDER")
    with psycopg.connect(landed) as opened:
        info = opened.info
        url = f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
    monkeypatch.setenv("B25_DATABASE__URL", url)

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, ["analytics", "fate", *arguments])

    code, out, _ = call(TOPIC, "0", "2")
    assert code == 0
    assert out.startswith("dead: bad_user_id; ")
    assert "analytics dead-letters show " in out
    code, out, _ = call("--id", str(uuid7(AT, b"0123456789")), "--json")
    assert (code, json.loads(out)[0]["verdict"]) == (0, "stored")
    assert call("nowhere", "0", "0")[0] == 1
    for wrong in ((), ("--id", "x"), (TOPIC, "0", "0", "--id", BROKEN)):
        code, _, errors = call(*wrong)
        assert code == 2
        assert errors.startswith("error: ")
