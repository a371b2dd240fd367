"""Faults: what real producers do wrong. Late events, the same message twice, and messages that are broken.

Late events come in bursts, as those of a producer that could not send for a while: so they change a few minutes much,
and not every minute a little. Every kind of broken message must become a dead letter; `BREAKAGES` names the kinds, a
test decodes each.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from analytics_pipeline.simulator.envelope import SECOND, Message

RECENT = 256
MIN_DELAY = 130 * SECOND
MAX_DELAY = 15 * 60 * SECOND
BURST = 100
"""So many messages in a row are late, each by the same."""


class Ratios(NamedTuple):
    """Shares of all messages, each 0 to 1."""

    late: float = 0.0
    duplicate: float = 0.0
    broken: float = 0.0


def _swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda value: value.replace(old, new, 1)


def _with_field(field: bytes) -> Callable[[bytes], bytes]:
    return lambda value: b"{" + field + b"," + value[1:]


def _retimed(text: bytes) -> Callable[[bytes], bytes]:
    def retime(value: bytes) -> bytes:
        head, mark, tail = value.partition(b'"timestamp":"')
        return head + mark + text + tail[tail.index(b'"') :]

    return retime


BREAKAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda value: value[: len(value) * 2 // 3],
    "not json": lambda _: b"\x00\x01\x02heartbeat",
    "empty": lambda _: b"",
    "list of events": lambda value: b"[" + value + b"]",
    "latin-1": _with_field(b'"user_id":"Jos\xe9"'),
    "no event_type": _swap(b'"event_type":', b'"event_kind":'),
    "event_type too long": _swap(b'"event_type":"', b'"event_type":"' + b"x" * 300),
    "event_type not text": _swap(b'"event_type":"', b'"event_type":42,"was":"'),
    "id not a uuid": _swap(b'"id":"', b'"id":"order-'),
    "timestamp not a time": _retimed(b"yesterday"),
    "timestamp without zone": _retimed(b"2026-01-01T12:00:00"),
    "far in the future": _retimed(b"2099-01-01T00:00:00Z"),
    "not a number": _swap(b'"properties":{', b'"properties":{"slippage":NaN,'),
}
"""Kinds of broken messages: from the bytes of a good one to the bytes of a bad one."""


class Faults:
    """Decides which message is a fault, and makes it. Keeps the last messages, to send one of them again.

    What is late is of a time after `start` (µs), whose prices are known.
    """

    def __init__(self, random: Random, ratios: Ratios, start: int) -> None:
        self._random = random
        self._start = start
        # Bursts begin so seldom that of all messages the ratio is late.
        self._late = ratios.late / (ratios.late + BURST * (1 - ratios.late))
        self._duplicate = self._late + ratios.duplicate
        self._broken = self._duplicate + ratios.broken
        self._delayed, self._delay = 0, 0
        self._recent: deque[Message] = deque(maxlen=RECENT)

    def draw(self, now: int) -> str | None:
        """`late`, `duplicate`, `broken`, or None for a good message."""
        if self._delayed:
            self._delayed -= 1
            return "late"
        chance = self._random.random()
        if chance >= self._broken or not self._recent:
            return None
        if chance < self._late:
            longest = min(MAX_DELAY, now - self._start)
            if longest < MIN_DELAY:
                return None
            self._delayed, self._delay = BURST - 1, int(self._random.uniform(MIN_DELAY, longest))
            return "late"
        return "duplicate" if chance < self._duplicate else "broken"

    def remember(self, message: Message) -> None:
        """This message was sent."""
        self._recent.append(message)

    def duplicate(self) -> Message:
        """One of the last messages, byte for byte."""
        return self._recent[int(self._random.random() * len(self._recent))]

    def delay(self) -> int:
        """How late the events of this burst are, in µs."""
        return self._delay

    def broken(self, now: int) -> Message:
        """A message that cannot become an event."""
        good = self.duplicate()
        bad = good.value
        while bad == good.value:
            bad = self._random.choice(list(BREAKAGES.values()))(good.value)
        return good._replace(value=bad, time=now)
