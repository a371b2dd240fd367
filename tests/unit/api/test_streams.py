"""How many streams there may be, and of one caller; what is told of trouble, and while there is nothing to tell."""

import asyncio
import itertools
from collections.abc import Sequence
from contextvars import Context
from datetime import timedelta

import pytest
from starlette.types import Message

from analytics_pipeline.settings import Realtime
from api.errors import NotFound, Problem, TooManyRequests, Unavailable
from api.patient_response import PatientResponse
from api.stream import streams as streams_module
from api.stream.channels import Change
from api.stream.streams import Streams
from api.turns import calling


class Nothing:
    async def changes(self) -> Sequence[Change]:
        return []


def open_as(streams: Streams, whose: str | None) -> PatientResponse:
    def opened() -> PatientResponse:
        calling(whose)
        return streams.open(Nothing(), lambda: False)

    return Context().run(opened)


def refusal(streams: Streams, whose: str | None) -> type[Problem]:
    with pytest.raises(Problem) as raised:
        open_as(streams, whose)
    return raised.type


def listen(stream: PatientResponse) -> list[bytes]:
    """What is told until the stream ends."""
    found: list[bytes] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        found.append(message.get("body", b""))

    asyncio.run(stream({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send))
    return found


def test_one_caller_has_half_of_all_streams() -> None:
    streams = Streams(Realtime(max_connections=5), patience=1, is_stopping=lambda: False)
    first = open_as(streams, "one")
    open_as(streams, "one")
    assert refusal(streams, "one") is TooManyRequests
    open_as(streams, "other")
    for _ in range(2):
        open_as(streams, None)
    assert refusal(streams, "third") is Unavailable
    assert b"the key does not hold any more" in b"".join(listen(first))
    open_as(streams, "one")
    assert refusal(streams, "third") is Unavailable


class Told:
    """A channel that tells these in turn, or raises them."""

    def __init__(self, *turns: Sequence[Change] | Problem, seconds: float = 0.0) -> None:
        self._turns = list(turns)
        self.seconds = seconds

    @property
    def is_over(self) -> bool:
        return not self._turns

    async def changes(self) -> Sequence[Change]:
        turn = self._turns.pop(0)
        if isinstance(turn, Problem):
            raise turn
        return turn


def heard(channel: Told) -> str:
    """All that a client hears of it."""
    often = Realtime(update_interval=timedelta(milliseconds=100))
    streams = Streams(often, patience=1, is_stopping=lambda: channel.is_over)
    return b"".join(listen(streams.open(channel, lambda: True))).decode()


def test_trouble_is_told_and_the_stream_goes_on() -> None:
    away = Unavailable("Postgres is not reachable.", kind="database-unavailable")
    text = heard(Told([Change("dashboard", b"1", "a")], away, [Change("dashboard", b"2", "b")]))
    assert [line for line in text.splitlines() if line.startswith(("event", "id"))] == [
        "event: dashboard", "id: a", "event: problem", "event: dashboard", "id: b", "event: bye",
    ]  # fmt: skip
    assert "database-unavailable" in text


def test_a_client_hears_that_the_stream_is_there_while_there_is_nothing_to_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "_PING", 0.15)
    assert ": ping" in heard(Told([], [], [], []))
    monkeypatch.setattr(streams_module, "_PING", 60)
    assert ": ping" not in heard(Told([], [], [], []))


def test_all_streams_of_large_answers_have_a_fifth_of_the_time_together() -> None:
    streams = Streams(Realtime(), patience=1, is_stopping=lambda: False)
    large, small = Told(seconds=0.1), Told(seconds=0.001)
    assert streams._owed(large) == pytest.approx(0.5, abs=0.1)
    assert streams._owed(large) == pytest.approx(1.0, abs=0.1)
    assert streams._owed(small) == 0
    for _ in range(100):
        assert streams._owed(large) <= 30


def test_a_stream_that_has_to_wait_still_says_that_it_is_there_and_ends_with_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "_PING", 0.15)
    often = Realtime(update_interval=timedelta(milliseconds=100))
    channel = Told([Change("dashboard", b"1", "a")], [Change("dashboard", b"2", "b")], seconds=60.0)
    streams, asked = Streams(often, patience=1, is_stopping=lambda: False), itertools.count()
    text = b"".join(listen(streams.open(channel, lambda: next(asked) < 5))).decode()
    assert ": ping" in text
    assert "the key does not hold any more" in text
    assert "id: b" not in text, "it looks again after half a minute"


def test_streams_can_be_switched_off() -> None:
    off = Streams(Realtime(enabled=False), patience=1, is_stopping=lambda: False)
    assert refusal(off, None) is NotFound
