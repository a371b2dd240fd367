"""The events that the benchmarks send: the simulator's own stream, made once from a seed.

Belongs here: which messages, in which partition, with which Kafka time. Does not belong here: sending or timing.

All built-in types in the simulator's shares, over a few minutes that end now. The simulator's mean is 251 bytes;
producers that say which session of theirs an event belongs to bring it to about 286, and so do these.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from zlib import crc32

from analytics_pipeline.events.messages import PlainMessage, RawBatch
from analytics_pipeline.simulator.envelope import SECOND
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.stream import Stream

TOPIC = "bench.events"
PARTITIONS = 4
MINUTES = 4
SEED = 20_251
REPEAT_REACH = 200_000
"""How far back, in messages, a duplicate may lie: mostly beyond its own batch, so that it must be found in Postgres."""

_ID = slice(len('{"id":"'), len('{"id":"') + 36)
_PROPERTIES = b'"properties":'


@dataclass(frozen=True)
class Workload:
    """Messages by partition; `millis` beside them is when Kafka got each."""

    values: Sequence[Sequence[bytes]]
    millis: Sequence[Sequence[int]]
    seed: int

    def __len__(self) -> int:
        return sum(map(len, self.values))

    @property
    def mean_bytes(self) -> float:
        """Of a message's value."""
        return sum(len(value) for values in self.values for value in values) / len(self)

    def batches(self, size: int, partitions: Sequence[int] = range(PARTITIONS)) -> list[list[RawBatch]]:
        """The messages of some partitions cut as the landing loop cuts them: `size` rows, evenly from each."""
        each = max(1, size // len(partitions))
        longest = max(len(self.values[number]) for number in partitions)
        return [
            [
                RawBatch(TOPIC, number, self._messages(number, first, first + each))
                for number in partitions
                if first < len(self.values[number])
            ]
            for first in range(0, longest, each)
        ]

    def _messages(self, number: int, first: int, last: int) -> list[PlainMessage]:
        pairs = zip(self.values[number][first:last], self.millis[number][first:last], strict=True)
        return [PlainMessage(value, first + at, millis) for at, (value, millis) in enumerate(pairs)]


def make(
    count: int,
    *,
    seed: int = SEED,
    late: float = 0.0,
    duplicate: float = 0.0,
    broken: float = 0.0,
    end: int | None = None,
    is_dashed: bool = False,
) -> Workload:
    """`count` messages whose times end at `end` (µs since 1970), else now, or up to 256 s before it.

    Shares of faults are 0 to 1. The simulator's order ids begin with the second of the start in hexadecimal, and a
    text that could hold `5e-6` is read with more care, as if it held a tiny number. So that the clock does not
    decide what is measured, that second ends in 50, or with `is_dashed` in 5e: then every order looks that way.
    """
    length = MINUTES * 60 * SECOND
    start = (time.time_ns() // 1000 if end is None else end) - length
    wanted = 0x5E if is_dashed else 0x50
    start -= (start // SECOND - wanted) % 256 * SECOND
    stream = Stream(
        seed=seed, start=start, rate=count / (length / SECOND), ratios=Ratios(late=late, broken=broken)
    )
    random = Random(seed)
    values: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    millis: list[list[int]] = [[] for _ in range(PARTITIONS)]
    sent: list[bytes] = []
    for number in range(count):
        slot = start + number * length // count
        if sent and random.random() < duplicate:
            value = sent[-1 - int(random.random() * min(len(sent), REPEAT_REACH))]
        else:
            message = stream.message(slot)
            value = _with_session(message.value, message.topic, message.key)
        if duplicate:
            sent.append(value)
        # By id, evenly; so a message that is sent again goes where it went before, as with a key.
        partition = crc32(value[_ID]) % PARTITIONS
        values[partition].append(value)
        millis[partition].append(slot // 1000)
    return Workload(values, millis, seed)


def _with_session(value: bytes, topic: str, key: bytes) -> bytes:
    if b'"session_id"' in value:
        return value
    session = b'"session_id":"sess-%08x%08x",' % (crc32(topic.encode()), crc32(key))
    return value.replace(_PROPERTIES, session + _PROPERTIES, 1)
