"""An event of the client is one of the service: same rules, id and time set once."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from analytics_pipeline.events.decode import decode_posted
from analytics_pipeline.events.ids import time_of_uuid7
from analytics_pipeline.events.limits import Limits
from b25_client.errors import InvalidEvent
from b25_client.events import make_event, uuid7

AT = datetime(2026, 5, 1, 12, 0, 0, 123456, UTC)


def test_the_service_reads_what_the_client_writes() -> None:
    made = make_event(
        "order.placed", {"price": 10.5, "note": "naïve ☃"}, user_id="u", session_id="s", timestamp=AT
    )
    read = decode_posted(made.payload, now=AT, limits=Limits())
    assert (read.id, read.timestamp) == (made.id, made.timestamp) == (made.id, AT)
    content = json.loads(read.payload)
    assert content["properties"] == {"price": 10.5, "note": "naïve ☃"}
    assert (content["user_id"], content["session_id"]) == ("u", "s")
    assert b"\n" not in made.payload


def test_id_and_time_are_always_sent() -> None:
    before = datetime.now(UTC)
    made = make_event("page.view")
    content = json.loads(made.payload)
    assert content["id"] == str(made.id)
    assert datetime.fromisoformat(content["timestamp"]) == made.timestamp >= before
    assert "properties" not in content


def test_an_id_is_a_uuid7_of_the_events_time() -> None:
    made = make_event("page.view", timestamp=AT)
    assert made.id.version == 7
    assert time_of_uuid7(made.id) == AT.replace(microsecond=123000)
    assert len({uuid7(AT) for _ in range(1000)}) == 1000


def test_times_go_out_in_utc() -> None:
    made = make_event("page.view", timestamp=AT.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert json.loads(made.payload)["timestamp"] == "2026-05-01T12:00:00.123456Z"


def test_uuids_and_times_in_properties_become_text() -> None:
    made = make_event("page.view", {"order": UUID(int=1), "at": AT})
    assert json.loads(made.payload)["properties"] == {
        "order": "00000000-0000-0000-0000-000000000001",
        "at": "2026-05-01T12:00:00.123456Z",
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"event_type": ""}, "event_type"),
        ({"event_type": "x" * 256}, "event_type"),
        ({"event_type": 7}, "event_type"),
        ({"event_type": None}, "event_type"),
        ({"event_type": "a", "user_id": 5}, "user_id"),
        ({"event_type": "a", "session_id": "x" * 256}, "session_id"),
        ({"event_type": "a", "timestamp": AT.replace(tzinfo=None)}, "timestamp"),
        ({"event_type": "a", "timestamp": "2026-05-01T12:00:00Z"}, "timestamp"),
        ({"event_type": "a", "timestamp": 1.5}, "timestamp"),
        (
            {"event_type": "a", "timestamp": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))},
            "timestamp",
        ),
        ({"event_type": "a", "id": "01970000-0000-7000-8000-000000000001"}, "id"),
        ({"event_type": "a", "properties": ["secret"]}, "properties"),
        ({"event_type": "a", "properties": "secret"}, "properties"),
        ({"event_type": "a", "properties": {"secret": Decimal("1.5")}}, "properties"),
        ({"event_type": "a", "properties": {"secret": float("nan")}}, "properties"),
        ({"event_type": "a", "properties": {"secret": object()}}, "properties"),
        ({"event_type": "a", "properties": {"secret": "\ud800"}}, "properties"),
    ],
)
def test_what_is_certainly_wrong_is_refused_at_once(arguments: dict, named: str) -> None:
    with pytest.raises(InvalidEvent, match=f"^{named}") as refused:
        make_event(**arguments)
    assert "secret" not in str(refused.value)


def test_deep_and_endless_properties_are_refused() -> None:
    endless: dict = {}
    endless["self"] = endless
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for properties in (endless, deep):
        with pytest.raises(InvalidEvent, match=r"^properties"):
            make_event("a", properties)
