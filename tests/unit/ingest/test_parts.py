"""The small pure parts of the landing loop."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.events.dead_letter_limit import DeadLetterLimit
from analytics_pipeline.events.messages import Message, PlainMessage, sizes
from analytics_pipeline.ingest.backoff import Backoff
from analytics_pipeline.ingest.owned import Owned
from analytics_pipeline.ingest.process import run_together
from analytics_pipeline.ingest.watermarks import Note, Notes
from analytics_pipeline.storage.offsets import Claim

START = datetime(2024, 5, 15, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def test_waits_grow_and_start_small_again_after_success() -> None:
    backoff = Backoff()
    waits = [backoff.next() for _ in range(12)]
    assert 0.1 < waits[0] < 0.5
    assert 4 < waits[-1] <= 5.5
    backoff.reset()
    assert backoff.next() < 0.5


def test_a_note_counts_once_its_watermark_is_reached() -> None:
    notes = Notes()
    notes.add(Note(at(1), 10), next_offset=0)
    notes.add(Note(at(2), 15), next_offset=0)
    assert notes.reached(9) is None
    assert notes.reached(10) == at(1)
    assert notes.reached(99) == at(2)
    notes.forget(at(1))
    assert notes.reached(14) is None
    assert notes.reached(15) == at(2)


@given(st.lists(st.integers(0, 50), max_size=2000), st.integers(0, 100_000))
def test_a_long_backlog_of_notes_stays_small_and_truthful(steps: list[int], landed: int) -> None:
    notes, high = Notes(), 0
    truth = None
    for second, step in enumerate(steps):
        high += step
        notes.add(Note(at(second), high), next_offset=0)
        if high <= landed:
            truth = at(second)
    assert len(notes._waiting) <= 257
    reached = notes.reached(landed)
    assert reached is None or (truth is not None and reached <= truth)


def test_the_same_note_twice_is_one() -> None:
    notes = Notes()
    for _ in range(3):
        notes.add(Note(at(1), 10), next_offset=0)
    notes.forget(at(1))
    assert notes.reached(10) is None


@pytest.mark.parametrize(
    ("batches", "stops"),
    [
        ([(100, 100)], True),
        ([(99, 99)], False),
        ([(50, 50), (50, 50)], True),
        ([(50, 50), (1, 0), (48, 48)], False),
        ([(50, 50), (1, 0), (50, 50)], True),
        ([(60, 60), (40, 0)], True),
        ([(50, 50), (50, 0)], False),
        ([(10, 10)], False),
        ([(1000, 500)] * 10, False),
        ([(1000, 0), (50, 50), (50, 0)], False),
        ([(1000, 1)] * 10 + [(100, 70)], True),
        ([(0, 0)] * 5, False),
    ],
)
def test_the_dead_letter_limit(batches: list[tuple[int, int]], stops: bool) -> None:
    limit = DeadLetterLimit(ratio=0.5, consecutive=100)
    verdicts = [limit.add(read, dead) for read, dead in batches]
    assert (verdicts[-1] is not None) is stops


def test_one_failing_task_stops_the_others() -> None:
    stopped = []

    def waits(stop: threading.Event) -> None:
        stop.wait(10)
        stopped.append(True)

    def fails(_stop: threading.Event) -> None:
        raise ValueError("a bug")

    failure = run_together({"a": waits, "b": fails, "c": waits}, threading.Event())
    assert isinstance(failure, ValueError)
    assert stopped == [True, True]


def test_a_stop_ends_all_tasks_without_a_failure() -> None:
    stop = threading.Event()
    stop.set()
    assert run_together({"a": lambda event: None}, stop) is None


def test_tasks_that_do_not_stop_are_named_after_one_wait_for_all() -> None:
    stop, end = threading.Event(), threading.Event()
    stop.set()

    def hangs(_stop: threading.Event) -> None:
        end.wait(60)

    began = time.monotonic()
    failure = run_together({"a": hangs, "b": hangs, "c": lambda event: None}, stop, stop_timeout=0.2)
    took = time.monotonic() - began
    end.set()
    assert isinstance(failure, EnvironmentFault)
    assert str(failure) == "a, b did not stop within 0.2 s; nothing is lost"
    assert took < 30


def test_messages_that_are_in_memory_or_landed_are_not_taken_again() -> None:
    owned = Owned(("t", 0), Claim(5, 1), DeadLetterLimit(0.5, 100))
    owned.take([PlainMessage(b"", offset) for offset in (3, 4, 5, 6)])
    owned.take([PlainMessage(b"", offset) for offset in (5, 6, 7)])
    cut = owned.cut(100, 100)
    assert cut is not None
    assert [message.offset() for message in cut.batch.messages] == [5, 6, 7]
    owned.landed(cut.span)
    owned.take([PlainMessage(b"", offset) for offset in (6, 7)])
    assert owned.cut(100, 100) is None


def test_the_watermark_of_a_topic_that_was_made_anew_is_no_proof() -> None:
    notes, at = Notes(), datetime(2026, 5, 15, 12, tzinfo=UTC)
    notes.add(Note(at, 1000), next_offset=1000)
    notes.forget(at)
    notes.add(Note(at + timedelta(seconds=1), 5), next_offset=1000)
    assert notes.reached(1000) is None
    notes.add(Note(at + timedelta(seconds=2), 1000), next_offset=1000)
    assert notes.reached(1000) == at + timedelta(seconds=2)


def test_a_log_that_lost_its_end_goes_on_where_landing_had_not_been_there() -> None:
    notes, at = Notes(), datetime(2026, 5, 15, 12, tzinfo=UTC)
    notes.add(Note(at, 1000), next_offset=700)
    notes.add(Note(at + timedelta(seconds=1), 900), next_offset=800)
    assert notes.reached(900) == at + timedelta(seconds=1)


def test_a_message_is_as_large_as_its_value_its_key_and_its_headers() -> None:
    found = [
        PlainMessage(b"four", 0),
        PlainMessage(None, 1),
        PlainMessage(b"", 2, name=b"key"),
        PlainMessage(b"1", 3, name=b"2", extra=(("name", b"value"), ("empty", None))),
    ]
    assert list(sizes(found[:3])) == [4, 0, 3]
    assert list(sizes(found)) == [4, 0, 3, 16]


class NamedByBytes(PlainMessage):
    """As confluent-kafka is with a header name that is not UTF-8; asking it again would end the process."""

    asked = 0

    def headers(self) -> Any:
        type(self).asked += 1
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def test_a_message_whose_headers_cannot_be_read_is_kept_without_them_and_not_asked_again() -> None:
    bad = [NamedByBytes(b"one", 1, 5, b"k"), NamedByBytes(None, 3)]
    found: list[Message] = [
        PlainMessage(b"0", 0, extra=(("a", b"b"),)),
        bad[0],
        PlainMessage(b"2", 2),
        bad[1],
    ]
    assert list(sizes(found)) == [3, 4, 1, 0]
    assert found[1::2] == [PlainMessage(b"one", 1, 5, b"k"), PlainMessage(None, 3)]
    assert NamedByBytes.asked == 2
    owned = Owned(("t", 0), Claim(0, 1), DeadLetterLimit(0.5, 100))
    owned.take([PlainMessage(b"0", 0), NamedByBytes(b"1", 1)])
    cut = owned.cut(100, 100)
    assert cut is not None
    assert [message.headers() for message in cut.batch.messages] == [None, None]


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=5),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.booleans()), max_size=30),
)
def test_a_cut_keeps_to_its_messages_and_bytes(
    fetched: list[list[int]], cuts: list[tuple[int, int, bool]]
) -> None:
    owned, wanted = (
        Owned(("t", 0), Claim(0, 1), DeadLetterLimit(0.5, 100)),
        [n for one in fetched for n in one],
    )
    offsets = iter(range(len(wanted)))
    for one in fetched:
        owned.take([PlainMessage(bytes(size), next(offsets)) for size in one])
    landed = 0
    for most, most_bytes, lands in cuts:
        assert owned.buffered_bytes == owned.waiting_bytes == sum(wanted[landed:])
        cut = owned.cut(most, most_bytes)
        if cut is None:
            assert not most or landed == len(wanted)
            continue
        found = [len(message) for message in cut.batch.messages]
        assert found == wanted[landed : landed + len(found)]
        assert cut.size == sum(found)
        assert len(found) == 1 or (len(found) <= most and cut.size <= most_bytes)
        owned.launched(cut.span)
        assert owned.waiting_bytes == sum(wanted[landed + len(found) :])
        if lands:
            owned.landed(cut.span)
            landed += len(found)
        else:
            owned.recall()
