"""Every class of JSON text: read exactly where Python's strict parser reads it, refused where it refuses, no crash."""

import gc
import json
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.events.posted import Refused, read_posted
from tests.unit.events.bad_inputs import NOW
from tests.unit.events.json_classes import I, N, Texts, Y, hostile

LIMITS = Limits(max_property_bytes=2_000_000)
OK = "ok"
_SECONDS = 1.0
"""Of processor time; on a machine of its own each takes a tenth of it."""
NO_JSON = {"empty_message", "not_json", "bad_encoding", "too_deep"}
"""Reasons for texts that are no JSON; too deep is found before the rest is read."""
BEYOND_JSON = {"number_out_of_range", "nul_character", "bad_encoding", "too_deep"}
"""Reasons for texts that are JSON and cannot be stored."""


def outcomes(texts: Sequence[bytes]) -> list[str]:
    """What becomes of each, alone and in the company of all: the same."""
    alone = [RawBatch("t", number, [PlainMessage(text, 0, 0)]) for number, text in enumerate(texts)]
    found = decode(alone)
    together = [RawBatch("t", 0, [PlainMessage(text, number, 0) for number, text in enumerate(texts)])]
    assert decode(together) == found
    posted = read_posted(texts, now=NOW, limits=LIMITS)
    assert [one.reason.value if isinstance(one, Refused) else OK for one in posted] == [
        found[number] for number in range(len(texts))
    ], "posted, they fare alike"
    return [found[number] for number in range(len(texts))]


def decode(batches: Sequence[RawBatch]) -> dict[int, str]:
    decoded = decode_batches(batches, now=NOW, limits=LIMITS)
    by_partition = len(batches) > 1
    stored = decoded.events["source_partition" if by_partition else "source_offset"].to_pylist()
    dead = {
        letter.partition if by_partition else letter.offset: letter.reason.value for letter in decoded.dead
    }
    assert not dead.keys() & set(stored)
    return dict.fromkeys(stored, OK) | dead


def event(text: bytes, key: bytes = b"properties") -> bytes:
    return b'{"event_type":"a","timestamp":"2024-05-15T11:59:00Z","%b":{"a":%b}}' % (key, text)


def strictly(text: bytes) -> Any:
    """Python's reading, with what JSON does not allow refused.

    Raises:
        ValueError: it is no JSON in UTF-8.
        RecursionError: too deep to tell.
    """
    if text.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark")
    return json.loads(text.decode(), parse_constant=_refuse, parse_int=str)


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("no JSON")


def is_json(text: bytes) -> bool | None:
    try:
        strictly(text)
    except ValueError:
        return False
    except RecursionError:
        return None
    return True


def check(texts: Sequence[bytes], found: Sequence[str]) -> None:
    """Agreement on what JSON is; what is JSON may still be refused for a reason of its own."""
    for text, outcome in zip(texts, found, strict=True):
        agreed = is_json(text)
        if agreed is None:
            assert outcome == "too_deep", text[:80]
        elif agreed:
            assert outcome not in {"empty_message", "not_json"}, text[:80]
        else:
            assert outcome in NO_JSON | {"number_out_of_range"}, (text[:80], outcome)


@pytest.mark.parametrize("texts", Y.values(), ids=Y)
def test_what_must_be_read_is_read_and_kept(texts: Any) -> None:
    cases: list[bytes] = list(texts())
    assert all(map(is_json, cases)), "the generator is wrong"
    assert set(outcomes(cases)) <= {"not_an_object", "missing_event_type"}
    assert set(outcomes([event(case) for case in cases])) == {OK}
    assert set(outcomes([event(case, b"unknown") for case in cases])) == {OK}
    sent = [PlainMessage(event(case), number, 0) for number, case in enumerate(cases)]
    kept = decode_batches([RawBatch("t", 0, sent)], now=NOW, limits=LIMITS).events
    by_offset = dict(zip(kept["source_offset"].to_pylist(), kept["properties"].to_pylist(), strict=True))
    for number, case in enumerate(cases):
        assert strictly(by_offset[number].encode()) == {"a": strictly(case)}


@pytest.mark.parametrize("texts", N.values(), ids=N)
def test_what_must_be_refused_is_refused(texts: Any) -> None:
    cases: list[bytes] = [text for text in texts() if not is_json(text)]
    assert len(cases) > 30, "the generator is wrong"
    for wrapped in (cases, [event(case) for case in cases], [event(case, b"unknown") for case in cases]):
        refused = [text for text in wrapped if not is_json(text)]
        found = outcomes(refused)
        assert OK not in found
        check(refused, found)


@pytest.mark.parametrize("texts", [*N.values(), *I.values()], ids=[*N, *I])
def test_what_may_be_either_agrees_with_the_strict_parser(texts: Any) -> None:
    cases = list(texts())
    for wrapped in (cases, [event(case) for case in cases], [event(case, b"unknown") for case in cases]):
        check(wrapped, outcomes(wrapped))


@pytest.mark.parametrize("texts", I.values(), ids=I)
def test_what_is_json_is_refused_only_for_what_cannot_be_stored(texts: Texts | Any) -> None:
    cases = [event(case) for case in texts() if is_json(event(case))]
    found = outcomes(cases)
    assert set(found) - {OK} <= BEYOND_JSON


@pytest.mark.parametrize("key", [b"properties", b"unknown"])
def test_nothing_large_takes_long(key: bytes) -> None:
    """A message of 80 kB once took a minute."""
    gc.collect()
    gc.freeze()  # else the collector looks, again and again, at all that other tests left
    try:
        for case in hostile():
            for text in (case, event(case, key)):
                assert min(seconds_for(text) for _ in range(3)) < _SECONDS, text[:80]
    finally:
        gc.unfreeze()


def seconds_for(text: bytes) -> float:
    started = time.process_time()
    decode_batches([RawBatch("t", 0, [PlainMessage(text, 0, 0)])], now=NOW, limits=LIMITS)
    return time.process_time() - started


@pytest.mark.parametrize("field", ["event_type", "id", "user_id", "session_id", "timestamp"])
def test_nothing_large_in_a_field_takes_long(field: str) -> None:
    for text in (
        "a" * 1_000_000,
        "2024-05-15T11:59:30." + "1" * 1_000_000 + "Z",
        "0" * 1_000_000,
        "\n" * 1_000_000,
    ):
        started = time.process_time()
        message = PlainMessage(json.dumps({"event_type": "a", field: text}).encode(), 0, 0)
        decode_batches([RawBatch("t", 0, [message])], now=NOW, limits=LIMITS)
        assert time.process_time() - started < _SECONDS, text[:80]
