"""What a refusal says: which property, where, and what the limit is; never the data; groups do not depend on it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import DeadLetter, PlainMessage, RawBatch
from analytics_pipeline.events.posted import Refused, read_posted
from analytics_pipeline.events.syntax import Met, describe, find_flaw
from tests.unit.events.bad_inputs import CASES, NOT_JSON, NOW, Case, props, raw, value

SECRET = "hunter2"
LIMITS = Limits()
NOW_MILLIS = int(NOW.timestamp() * 1000)


def letter_of(content: bytes | None, limits: Limits = LIMITS) -> DeadLetter:
    batch = RawBatch("t", 0, [PlainMessage(content, 1, NOW_MILLIS)])
    [letter] = decode_batches([batch], now=NOW, limits=limits).dead
    return letter


def detail_of(content: bytes, limits: Limits = LIMITS) -> str:
    """The detail that Kafka's letter and the answer of POST have."""
    letter = letter_of(content, limits)
    [refused] = read_posted([content], now=NOW, limits=limits)
    assert isinstance(refused, Refused)
    assert letter.detail == f"{refused.path}: {refused.detail}"
    return letter.detail


def test_a_property_that_is_too_large_is_told_by_its_place() -> None:
    many = {f"p{number}": 1 for number in range(12)}
    long = {**many, "p6": "x" * 1100}
    assert detail_of(raw(properties=long)) == (
        "$.properties.*: property 7 of 12: its value has 1100 bytes, at most 1024 are allowed"
    )
    assert detail_of(raw(properties={"a": 1, "n" * 1025: 1})) == (
        "$.properties.*: property 2 of 2: its name has 1025 bytes, at most 1024 are allowed"
    )


def test_a_nul_is_told_by_its_property() -> None:
    sentence = "holds the character U+0000, which cannot be stored"
    assert (
        detail_of(props('{"a":1,"b":[{"c":"\\u0000"}],"d":2}'))
        == f"$.properties: property 2 of 3: its value {sentence}"
    )
    assert detail_of(props('{"a\\u0000":1}')) == f"$.properties: property 1 of 1: its name {sentence}"
    assert detail_of(props('{"a":{"b\\u0000":1}}')) == f"$.properties: property 1 of 1: its value {sentence}"


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        ("1e999", "the number is not finite as a 64-bit float"),
        ("9" * 400, "the number is not finite as a 64-bit float"),
        ("1e-400", "the number's exponent is outside -324 to 1000"),
        ("0e" + "9" * 5000, "the number's exponent is outside -324 to 1000"),
    ],
)
def test_a_number_out_of_range_is_told_by_its_byte(number: str, problem: str) -> None:
    content = props(f'{{"é":"1e999 \\" \\\\","ok":[-1.5E+3,0],"x":{number},"y":1e998}}')
    at = content.index(f'"x":{number}'.encode()) + 4
    assert detail_of(content) == f"$: at byte {at}: {problem}"
    lines = content.replace(b"{", b"{\n")
    at = lines.index(f'"x":{number}'.encode()) + 4
    column = len(lines.split(b"\n")[2][: at - lines.rindex(b"\n", 0, at) - 1].decode()) + 1
    assert detail_of(lines) == f"$: at line 3, column {column} (byte {at}): {problem}"


@pytest.mark.parametrize(
    ("content", "place", "met"),
    [
        (b'{"a":1,}', "byte 7", Met.COMMA),
        (b'{"a":[1, ] }', "byte 9", Met.COMMA),
        (b'{"a":1', "byte 6", Met.END),
        (b'{"a":1,  ', "byte 9", Met.END),
        (b'{"a', "byte 1", Met.OPEN_STRING),
        (b'{"a":"b\\"', "byte 5", Met.OPEN_STRING),
        (b'{"a":1}{"a":2}', "byte 7", Met.MORE),
        ('{"é":"{"}\n\n{}'.encode(), "line 3, column 1 (byte 12)", Met.MORE),
        (b'{"a":"x\ny"}', "byte 7", Met.CONTROL),
        (b'{"a":\x00}', "byte 5", Met.CONTROL),
        (b'"a\nb"', "byte 2", Met.CONTROL),
        (b'"\\x"', "byte 1", Met.OTHER),
        (b'{"NaN":NaN}', "byte 7", Met.CONSTANT),
        (b'{"a":[-Infinity]}', "byte 6", Met.CONSTANT),
        (b'{\n  "a": 01}', "line 2, column 9 (byte 10)", Met.OTHER),
        (b"{'a':1}", "byte 1", Met.OTHER),
        (b"nul", "byte 0", Met.OTHER),
        (b"1 2", "byte 2", Met.MORE),
    ],
)
def test_what_is_not_json_is_told_by_its_place(content: bytes, place: str, met: Met) -> None:
    assert letter_of(content).reason == "not_json"
    assert detail_of(content) == f"$: not one JSON document at {place}: {met.value}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b" \n", "there is nothing but white space"),
        (b"\x1f\x8b\x08\x00", "the value looks like gzip"),
        (b"\x00\x00\x00\x00\x07\x0corder", "the value begins with a zero byte"),
        (b"  <xml>", "not one JSON document at byte 2"),
        (b" \x80", "not JSON at byte 1: no JSON begins so"),
    ],
)
def test_how_other_values_begin_is_told(content: bytes, sentence: str) -> None:
    assert sentence in detail_of(content)


@pytest.mark.parametrize("case", [case for case in NOT_JSON if case.value], ids=lambda case: case.name)
def test_every_value_that_is_not_json_has_a_place_or_a_kind(case: Case) -> None:
    if case.outcome == "not_json":
        assert letter_of(case.value).detail != "$: The value is not one JSON document."


def test_what_is_json_has_no_flaw() -> None:
    with pytest.raises(ValueError, match="is JSON"):
        find_flaw('{"a": [1, "b"]}')


def test_looking_for_the_place_takes_no_time_that_grows_with_quotes() -> None:
    describe(b'{"a":"' + b'\\"' * 500_000)
    describe(b'{"a":1,' + b'"a":"\\"",' * 100_000 + b"}")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("x" * 300, "300 characters, at most 255 are allowed"),
        ("", "must not be empty"),
        (7, "must be a string"),
        ("ab\ncd", "character 3 of 5 is a control character"),
    ],
)
def test_an_event_type_is_refused_for_what_it_is(name: Any, sentence: str) -> None:
    assert detail_of(raw(event_type=name)) == f"$.event_type: {sentence}"


def test_times_are_refused_with_the_limit() -> None:
    assert detail_of(raw(timestamp="2024-02-14T23:59:59Z")) == (
        "$.timestamp: older than raw events are kept, which is from 2024-02-15 on (UTC)"
    )
    assert detail_of(raw(timestamp="2024-05-15T12:20:00Z")) == (
        "$.timestamp: more than max_future_skew, 5m, ahead of the clock: by 20m"
    )
    long = Limits(max_future_skew=timedelta(hours=1, minutes=30))
    assert detail_of(raw(timestamp="2024-05-15T13:30:00.000001Z"), long) == (
        "$.timestamp: more than max_future_skew, 1h30m, ahead of the clock: by 1h30m1s"
    )


def test_numbers_in_a_detail_do_not_make_groups() -> None:
    def group(content: bytes) -> str:
        return letter_of(content).fingerprint

    assert group(raw(timestamp="2024-05-15T12:20:00Z")) == group(raw(timestamp="2024-05-15T12:30:00Z"))
    assert group(raw(event_type="x" * 300)) == group(raw(event_type="x" * 301))
    assert group(value("1e999")) == group(value(" 1e998"))
    assert group(b'{"a":1,}') == group(b'{"a":100,}')
    assert group(props(json.dumps({"a": 1, "b": "x" * 1100}))) == group(
        props(json.dumps({"b": "x" * 1200, "a": 1}))
    )
    assert group(props('{"a":"\\u0000","b":"c"}')) == group(props('{"a":"c","b":"\\u0000"}'))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_detail_repeats_the_data(case: Case) -> None:
    """Each strange input again, with a secret in every string and name that it has room for."""
    if case.value is None or case.outcome == "ok":
        return
    content = case.value.replace(b'"a', b'"' + SECRET.encode()).replace(b'"x', b'"' + SECRET.encode())
    for letter in decode_batches(
        [RawBatch("t", 0, [PlainMessage(content, 1, NOW_MILLIS)])], now=NOW, limits=LIMITS
    ).dead:
        assert SECRET not in letter.detail
