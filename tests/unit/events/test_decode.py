"""Decoding a batch: ids, times, lateness, duplicates; the fast path agrees with the exact reader."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_pipeline.events import columns, properties, reading
from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.document import Document, read_document
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.schema import EVENTS_SCHEMA
from tests.unit.events.bad_inputs import CASES, NOW, Case, raw

MILLIS = int(NOW.timestamp() * 1000)
LIMITS = Limits()


def run(*messages: PlainMessage, source: str = "t", partition: int = 0, limits: Limits = LIMITS) -> Any:
    return decode_batches([RawBatch(source, partition, messages)], now=NOW, limits=limits)


def one(content: bytes, millis: int | None = MILLIS, **kw: Any) -> dict[str, Any]:
    decoded = run(PlainMessage(content, 5, millis), **kw)
    assert decoded.dead == []
    [row] = decoded.events.to_pylist()
    return row  # type: ignore[no-any-return]


def test_an_empty_batch_has_the_schema() -> None:
    assert decode_batches([], now=NOW, limits=LIMITS).events.schema == EVENTS_SCHEMA
    assert run(PlainMessage(b"x", 1)).events.schema == EVENTS_SCHEMA


def test_every_column_is_filled() -> None:
    row = one(raw(id="f47ac10b-58cc-4372-a567-0e02b2c3d479", user_id="u", session_id="s"), source="a.b")
    assert row == {
        "id": UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479").bytes,
        "event_type": "order.placed",
        "user_id": "u",
        "session_id": "s",
        "properties": '{"price": 1.5}',
        "timestamp": datetime(2024, 5, 15, 11, 59, 30, 250000, UTC),
        "is_late": False,
        "source": "a.b",
        "source_partition": 0,
        "source_offset": 5,
        "definition_version": None,
    }


def test_without_a_timestamp_the_time_of_a_uuid7_counts() -> None:
    at = NOW - timedelta(minutes=3)
    assert one(raw(timestamp=..., id=str(uuid7(at, bytes(10)))))["timestamp"] == at


def test_without_a_timestamp_the_time_of_another_id_does_not_count() -> None:
    row = one(raw(timestamp=..., id="f47ac10b-58cc-4372-a567-0e02b2c3d479"), millis=MILLIS - 7000)
    assert row["timestamp"] == NOW - timedelta(seconds=7)


@pytest.mark.parametrize(("millis", "expected"), [(MILLIS - 1234, -1.234), (None, 0.0), (-1, 0.0)])
def test_without_any_time_the_messages_own_counts_then_now(millis: int | None, expected: float) -> None:
    assert one(raw(timestamp=...), millis=millis)["timestamp"] == NOW + timedelta(seconds=expected)


def test_a_message_time_in_the_far_future_is_refused_unless_the_event_has_its_own() -> None:
    decoded = run(PlainMessage(raw(timestamp=...), 1, 2**62), PlainMessage(raw(), 2, 2**62))
    assert [(letter.offset, letter.reason) for letter in decoded.dead] == [(1, "too_far_in_future")]
    kept = decoded.dead[0].message_timestamp
    assert kept is not None
    assert kept.year == 9999
    assert decoded.events["source_offset"].to_pylist() == [2]


def test_without_an_id_a_replay_gets_the_same_one() -> None:
    first, again = one(raw()), one(raw())
    assert first["id"] == again["id"]
    assert one(raw(), partition=1)["id"] != first["id"]
    assert one(raw(), source="other")["id"] != first["id"]


@pytest.mark.parametrize(
    ("at", "reached", "is_late"),
    [
        ("11:58:00", "11:59:29.999", False),
        ("11:58:00", "11:59:30.000", True),
        ("11:58:59.999999", "11:59:29.999", False),
        ("11:58:59.999999", "11:59:30.000", True),
        ("11:59:00", "11:59:30.000", False),
    ],
)
def test_late_is_when_the_minute_was_over_by_the_grace(at: str, reached: str, is_late: bool) -> None:
    millis = int(datetime.fromisoformat(f"2024-05-15T{reached}+00:00").timestamp() * 1000)
    assert one(raw(timestamp=f"2024-05-15T{at}Z"), millis=millis)["is_late"] is is_late


def test_rows_are_sorted_by_time_and_id() -> None:
    messages = [
        PlainMessage(raw(timestamp=f"2024-05-15T11:{59 - n % 7:02}:00Z", user_id=str(n)), n, MILLIS)
        for n in range(100)
    ]
    rows = run(*messages).events.to_pylist()
    keys = [(row["timestamp"], row["id"]) for row in rows]
    assert keys == sorted(keys)
    assert all(row["user_id"] == str(row["source_offset"]) for row in rows)


def test_of_duplicates_the_lowest_offset_stays_and_others_are_counted_by_partition() -> None:
    same = {"id": "f47ac10b-58cc-4372-a567-0e02b2c3d479"}
    batches = [
        RawBatch("t", 0, [PlainMessage(raw(**same, user_id=str(n)), n, MILLIS) for n in (3, 4, 9)]),
        RawBatch("t", 1, [PlainMessage(raw(**same, user_id="x"), 1, MILLIS)]),
    ]
    decoded = decode_batches(batches, now=NOW, limits=LIMITS)
    assert decoded.events["user_id"].to_pylist() == ["3"]
    assert decoded.duplicates == {("t", 0): 2, ("t", 1): 1}


def test_one_id_at_two_times_is_two_events() -> None:
    same = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
    messages = [PlainMessage(raw(id=same, timestamp=f"2024-05-15T11:59:0{n}Z"), n, MILLIS) for n in (1, 2)]
    assert run(*messages).events.num_rows == 2


def test_unknown_fields_are_counted_or_refused() -> None:
    message = PlainMessage(raw(a=1, b=2), 1, MILLIS)
    assert run(message).unknown_fields == 2
    assert run(message).events.num_rows == 1
    [letter] = run(message, limits=Limits(strict=True)).dead
    assert (letter.reason, letter.event_type) == ("unknown_field", "order.placed")


def test_unregistered_types_are_refused_only_when_strict() -> None:
    decoded = run(
        PlainMessage(raw(), 1, MILLIS),
        PlainMessage(raw(event_type="mine"), 2, MILLIS),
        limits=Limits(strict_types=True),
    )
    assert [(d.offset, d.reason, d.event_type) for d in decoded.dead] == [(2, "unknown_event_type", "mine")]


def test_the_raw_message_of_a_row_is_found_again() -> None:
    messages = [PlainMessage(raw(), n, MILLIS) for n in (2, 5, 11)]
    decoded = run(*messages)
    assert decoded.message("t", 0, 5) is messages[1]
    for missing in (("t", 0, 4), ("t", 0, 12), ("t", 1, 5)):
        with pytest.raises(LookupError):
            decoded.message(*missing)


def test_parsing_ids_matches_the_standard_library() -> None:
    rng = random.Random(1)
    texts = [str(UUID(int=rng.getrandbits(128))) if rng.random() < 0.8 else None for _ in range(500)]
    halves, present, bad = columns.parse_ids([t.upper() if t and rng.random() < 0.3 else t for t in texts])
    assert not bad.any()
    assert [
        (int(h) << 64) | int(low) if there else None for (h, low), there in zip(halves, present, strict=True)
    ] == [UUID(t).int if t else None for t in texts]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["a:b", "e-1", "x\\y", "[", "{", "\u2028", "é", "1e-500"]),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)
EVENTS = st.fixed_dictionaries(
    {"event_type": st.text(max_size=12) | st.sampled_from(["a", "order.placed", "x\x01"])},
    optional={
        "id": st.uuids().map(str) | st.text(max_size=40),
        "user_id": st.none() | st.text(max_size=300) | st.integers(),
        "session_id": st.none() | st.text(max_size=10),
        "properties": st.none() | st.dictionaries(st.text(max_size=8), VALUES, max_size=8) | VALUES,
        "timestamp": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat) | st.text(max_size=30),
        "extra": VALUES,
    },
)


@settings(max_examples=400, deadline=None)
@given(EVENTS, st.booleans(), st.booleans())
def test_the_fast_path_says_what_the_exact_reader_says(event: Any, is_ascii: bool, is_compact: bool) -> None:
    separators = (",", ":") if is_compact else (", ", ": ")
    text = json.dumps(event, ensure_ascii=is_ascii, separators=separators)
    check_paths_agree(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([case.value for case in CASES if case.value and len(case.value) < 5000]), st.data())
def test_the_paths_agree_on_damaged_messages(content: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(content)))
    damage = data.draw(
        st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"[", b":", b"\\", b"}", b"null"])
    )
    check_paths_agree(content[:at] + damage + content[at + data.draw(st.integers(0, 3)) :])


def exactly(content: bytes) -> Document | Rejected:
    try:
        return read_document(content, LIMITS, frozenset())
    except Rejected as rejected:
        return rejected


def check_paths_agree(content: bytes) -> None:
    """Whatever the fast path accepts, the exact reader accepts with the same result."""
    exact = exactly(content)
    if isinstance(exact, Rejected):
        decoded = run(PlainMessage(content, 1, MILLIS))
        assert [letter.reason for letter in decoded.dead] == [exact.reason]
        return
    try:
        fast = reading._decode(content)
    except reading._UNSURE:
        return
    kept = bytes(fast.properties)
    if properties.quick(kept, LIMITS.max_properties, LIMITS.max_property_bytes) is None:
        return
    assert (fast.event_type, fast.user_id, fast.session_id) == (
        exact.event_type,
        exact.user_id,
        exact.session_id,
    )
    assert (fast.id and fast.id.lower()) == exact.id
    assert fast.timestamp == exact.timestamp
    # Text may keep equal keys, of which the last one counts; numbers keep their digits.
    assert json.loads(kept, parse_float=str, parse_int=str) == json.loads(
        exact.properties, parse_float=str, parse_int=str
    )


def test_nesting_does_not_depend_on_how_deep_the_caller_is() -> None:
    content = raw(properties={"a": json.loads("[" * 98 + "]" * 98)})

    def deep(levels: int) -> int:
        return run(PlainMessage(content, 1, MILLIS)).events.num_rows if levels == 0 else deep(levels - 1)

    assert deep(0) == deep(500) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_message_between_good_ones_is_judged_as_if_alone(case: Case) -> None:
    """Good messages are vouched for in chunks; company must not change a verdict."""
    good = [raw(user_id="first"), raw(user_id="last")]
    contents = [good[0], case.value, good[1]]
    together = run(*(PlainMessage(content, at, MILLIS) for at, content in enumerate(contents)))
    alone = [run(PlainMessage(content, at, MILLIS)) for at, content in enumerate(contents)]
    expected = [row for decoded in alone for row in decoded.events.to_pylist()]
    assert sorted(together.events.to_pylist(), key=lambda row: int(row["source_offset"])) == expected
    assert together.dead == [dead for decoded in alone for dead in decoded.dead]
