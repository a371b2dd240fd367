"""One stream over many connections: what it tells, where it goes on, and when it gives up."""

import io
import logging
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b25_client.arrow import ArrowDecoder
from b25_client.channels import EventsMessage, events_channel, metrics_channel
from b25_client.errors import InvalidRequest, ServiceUnavailable, StreamBroken, UnexpectedAnswer, Unreachable
from b25_client.metrics import Point
from b25_client.stored_events import EventsDecoder
from b25_client.streams import (
    Notice,
    NoticeKind,
    Pace,
    Stream,
    event_source,
)

GONE = httpx.ReadError("gone")


@dataclass
class Told:
    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


class Rig:
    """A stream with a clock that stands still."""

    def __init__(self, give_up_after: float | None = 60.0) -> None:
        self.now = 0.0
        self.notices: list[Notice] = []
        self.stream = Stream(
            events_channel({"event_type": "a"}),
            on_notice=self.notices.append,
            give_up_after=give_up_after,
            clock=lambda: self.now,
            random=lambda: 0.5,
        )

    def event(self, number: int) -> EventsMessage | None:
        return self.stream.take(
            Told("events", '{"events":[{"event_type":"a"}],"has_gap":false}', f"id-{number}")
        )

    @property
    def kinds(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.notices]


def test_a_stream_goes_on_behind_what_it_told_last() -> None:
    rig = Rig()
    assert "Last-Event-ID" not in rig.stream.request().headers
    rig.stream.connected()
    assert rig.stream.take(Told(retry=2000)) is None
    message = rig.event(1)
    assert message is not None
    assert (message.id, message.has_gap, message.events[0].event_type) == ("id-1", False, "a")
    assert rig.stream.take(Told(id="id-1")) is None  # a ping
    wait = rig.stream.lost(GONE)
    assert 2 <= wait < 2.2
    assert rig.stream.request().headers["Last-Event-ID"] == "id-1"
    assert list(rig.stream.request().parameters) == [("event_type", "a")]
    assert rig.kinds == [NoticeKind.BROKEN]
    assert rig.notices[0].wait == wait


def test_a_metric_begins_again_whole() -> None:
    stream = Stream(metrics_channel(["m"], {"interval": "1m"}), on_notice=lambda _: None, give_up_after=None)
    points = '{"data_points":[{"timestamp":"2026-01-01T00:00:00Z","value":1.5,"dimensions":{}}]}'
    message = stream.take(Told("points", points, "x"))
    assert message is not None
    assert isinstance(message.points[0], Point)
    assert message.metrics == ()
    stream.lost(None)
    assert "Last-Event-ID" not in stream.request().headers


def test_the_reason_of_an_end_is_told() -> None:
    rig = Rig()
    rig.stream.connected()
    rig.event(1)
    rig.stream.take(Told("bye", '{"reason":"the service stops"}'))
    rig.stream.lost(None)
    rig.stream.connected()
    rig.stream.lost(None)
    rig.stream.lost(ServiceUnavailable(503, title="full", retry_after=5))
    rig.stream.take(Told("problem", '{"status":503,"title":"Service unavailable","detail":"Postgres"}'))
    assert rig.kinds == [NoticeKind.ENDED, NoticeKind.BROKEN, NoticeKind.REFUSED, NoticeKind.PROBLEM]
    assert rig.notices[0].detail == "the service stops"
    assert (rig.notices[2].wait or 0) >= 5
    assert "Postgres" in rig.notices[3].detail
    assert rig.notices[3].wait is None


def test_a_reader_that_was_behind_when_the_connection_broke_was_too_slow() -> None:
    rig = Rig()
    rig.stream.connected()
    for _ in range(2):
        rig.stream.read()
        rig.event(1)
        rig.now += 0.8
        rig.stream.reading()
    rig.stream.lost(GONE)
    assert rig.kinds == [NoticeKind.TOO_SLOW]
    assert rig.notices[0].behind == pytest.approx(1.6)
    rig.stream.lost(httpx.ConnectError("no"))
    rig.stream.connected()
    rig.event(2)
    rig.stream.lost(GONE)
    assert rig.kinds[1:] == [NoticeKind.BROKEN, NoticeKind.BROKEN]


def test_whoever_waits_for_the_service_is_not_behind() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    now[0] += 5
    pace.read()
    now[0] += 3
    pace.reading()
    assert pace.behind == 3
    now[0] += 0.01
    pace.read()
    assert pace.behind == 3
    pace.reading()
    now[0] += 1
    pace.read()
    assert pace.behind == 0


def test_waits_grow_and_end() -> None:
    rig = Rig(give_up_after=10)
    rig.stream.connected()
    rig.event(1)
    rig.now = 1_000
    waits = []
    for _ in range(4):
        waits.append(rig.stream.lost(httpx.ConnectError("no")))
        rig.now += 2
    assert waits == sorted(waits)
    rig.now += 3
    with pytest.raises(Unreachable, match="5 attempts"):
        rig.stream.lost(httpx.ConnectError("no"))
    patient = Rig(give_up_after=None)
    for _ in range(50):
        patient.now += 100
        assert patient.stream.lost(httpx.ConnectError("no")) < 15


def test_what_does_not_pass_is_raised_at_once() -> None:
    with pytest.raises(InvalidRequest):
        Rig().stream.lost(InvalidRequest(400, title="wrong"))


@pytest.mark.parametrize(
    "told", [Told("events", "{"), Told("events", "[]"), Told("events", '{"events":[1]}')]
)
def test_a_message_that_is_not_understood_is_no_message(told: Told) -> None:
    with pytest.raises(UnexpectedAnswer):
        Rig().stream.take(told)


def test_kinds_that_are_not_known_are_left_out() -> None:
    assert Rig().stream.take(Told("news", "{}", "x")) is None


def test_notices_are_logged_where_nobody_asks_for_them(caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream(events_channel({}), give_up_after=None)
    with caplog.at_level(logging.WARNING, "b25_client.streams"):
        stream.lost(GONE)
    assert "broken" in caplog.text


def test_an_answer_that_is_no_stream_is_not_read() -> None:
    with pytest.raises(UnexpectedAnswer):
        event_source(httpx.Response(200, html="<html>"))


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[one:other] for one, other in pairwise(places)]


def arrow_stream() -> bytes:
    into = io.BytesIO()
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    with pa.ipc.new_stream(into, schema) as writer:
        for number in range(3):
            writer.write_table(pa.table([[number] * 50, ["x" * number] * 50], schema=schema))
    return into.getvalue()


ARROW = arrow_stream()
LINES = b"".join(b'{"event_type":"t%d"}\n' % number for number in range(20))


@given(st.lists(st.integers(0, 100_000), max_size=60))
def test_a_stream_may_come_in_any_pieces(cuts: list[int]) -> None:
    decoder = ArrowDecoder()
    batches = [batch for piece in cut(ARROW, cuts) for batch in decoder.feed(piece)] + list(decoder.end())
    assert pa.Table.from_batches(batches)["n"].to_pylist() == [0] * 50 + [1] * 50 + [2] * 50
    lines = EventsDecoder()
    events = [event for piece in cut(LINES, cuts) for event in lines.feed(piece)] + list(lines.end())
    assert [event.event_type for event in events] == [f"t{number}" for number in range(20)]


@given(st.integers(0, len(ARROW) - 1), st.integers(0, len(LINES) - 1))
def test_half_a_stream_is_never_a_whole_one(of_arrow: int, of_lines: int) -> None:
    decoder: Any = ArrowDecoder()
    list(decoder.feed(ARROW[:of_arrow]))
    with pytest.raises(StreamBroken):
        decoder.end()
    lines = EventsDecoder()
    found = list(lines.feed(LINES[:of_lines]))
    if LINES[:of_lines].endswith(b"\n") or not of_lines:
        assert len(found) == LINES[:of_lines].count(b"\n")  # HTTP itself says that more should have come
    else:
        with pytest.raises(StreamBroken):
            lines.end()
