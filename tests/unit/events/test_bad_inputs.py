"""Each strange input between two good messages: the right outcome, the bytes kept, the neighbours untouched."""

import json

import msgspec
import pytest

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.definitions import compile_all
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.posted import decode_posted
from analytics_pipeline.events.reasons import Reason
from tests.unit.events.bad_inputs import CASES, DEFINED, JUDGED, NOW, OK, Case, raw

LIMITS = Limits()
MILLIS = int(NOW.timestamp() * 1000)
DEFINITIONS, _ = compile_all([("defined.type", 1, DEFINED)])


def test_no_case_is_there_twice() -> None:
    assert len({case.name for case in [*CASES, *JUDGED]}) == len([*CASES, *JUDGED])


def test_every_reason_that_needs_no_context_has_a_case() -> None:
    with_context = {"unknown_field", "unknown_event_type", "schema_violation", "refused_by_database"}
    assert {case.outcome for case in CASES} - {OK} == set(Reason) - with_context


def test_every_reason_is_explained() -> None:
    assert all(reason.meaning.endswith(".") for reason in Reason)


@pytest.mark.parametrize("case", [*CASES, *JUDGED], ids=lambda case: case.name)
def test_kafka(case: Case) -> None:
    messages = [
        PlainMessage(raw(user_id="before"), 10, MILLIS),
        PlainMessage(case.value, 11, MILLIS, name=b"\x00key"),
        PlainMessage(raw(user_id="after"), 12, MILLIS),
    ]
    decoded = decode_batches(
        [RawBatch("order.events", 3, messages)], now=NOW, limits=LIMITS, definitions=DEFINITIONS
    )
    landed = set(decoded.events["source_offset"].to_pylist())
    if case.outcome == OK:
        assert landed == {10, 11, 12}, decoded.dead
        assert decoded.dead == []
    else:
        assert landed == {10, 12}
        [letter] = decoded.dead
        assert letter.reason == case.outcome
        assert (letter.offset, letter.value, letter.key) == (11, case.value, b"\x00key")
        assert "\0" not in letter.detail
        assert len(letter.detail) < 300, "a dead letter's detail does not repeat the data"


@pytest.mark.parametrize("case", [*CASES, *JUDGED], ids=lambda case: case.name)
def test_post(case: Case) -> None:
    if case.outcome != OK:
        with pytest.raises(Rejected) as rejected:
            decode_posted(case.value or b"", now=NOW, limits=LIMITS, definitions=DEFINITIONS)
        assert rejected.value.reason == case.outcome
        assert len(rejected.value.detail) < 300
        return
    posted = decode_posted(case.value or b"", now=NOW, limits=LIMITS, definitions=DEFINITIONS)
    # What the inbox holds is an event for Kafka's rules too, with the same id and time.
    again = decode_batches(
        [RawBatch("http", 0, [PlainMessage(posted.payload, 1, MILLIS)])], now=NOW, limits=LIMITS
    )
    [row] = again.events.to_pylist()
    assert row["id"] == posted.id.bytes
    assert row["timestamp"] == posted.timestamp


@pytest.mark.parametrize(
    "case", [c for c in [*CASES, *JUDGED] if c.outcome == OK], ids=lambda case: case.name
)
def test_what_lands_is_what_was_sent(case: Case) -> None:
    """Properties as jsonb would read the original: the last of equal keys, every digit of every number."""
    assert case.value is not None
    decoded = decode_batches(
        [RawBatch("order.events", 3, [PlainMessage(case.value, 1, MILLIS)])], now=NOW, limits=LIMITS
    )
    [row] = decoded.events.to_pylist()
    sent = json.loads(case.value, parse_float=str, parse_int=str)
    assert json.loads(row["properties"], parse_float=str, parse_int=str) == (sent.get("properties") or {})
    assert row["event_type"] == sent["event_type"]
    assert row["user_id"] == sent.get("user_id")


def test_duplicate_keys_are_left_to_jsonb_which_keeps_the_last() -> None:
    text = '{"a":1,"b":{"c":1,"c":2.50},"a":123456789012345678901234567890.10,"t":"x:y"}'
    sent = f'{{"event_type":"a","properties":{text}}}'.encode()
    decoded = decode_batches([RawBatch("t", 0, [PlainMessage(sent, 1, MILLIS)])], now=NOW, limits=LIMITS)
    assert decoded.events["properties"][0].as_py() == text


def test_a_mapping_is_judged_like_its_text() -> None:
    with pytest.raises(Rejected) as rejected:
        decode_posted({"event_type": "a", "properties": {"x": float("nan")}}, now=NOW, limits=LIMITS)
    assert rejected.value.reason is Reason.NUMBER_OUT_OF_RANGE
    with pytest.raises(Rejected) as rejected:
        decode_posted({"event_type": "a", "properties": {"x": "\ud800"}}, now=NOW, limits=LIMITS)
    assert rejected.value.reason is Reason.BAD_ENCODING
    posted = decode_posted({"event_type": "a", "properties": {"x": 1}}, now=NOW, limits=LIMITS)
    assert msgspec.json.decode(posted.payload)["properties"] == {"x": 1}
