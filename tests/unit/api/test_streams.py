"""How many streams there may be, and of one caller."""

import asyncio
from collections.abc import Sequence
from contextvars import Context

import pytest
from starlette.types import Message

from analytics_pipeline.settings import Realtime
from api.errors import Problem, TooManyRequests, Unavailable
from api.patient_response import PatientResponse
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
