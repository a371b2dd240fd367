"""The simulator's events of some seconds, sent again and again as of now: a load that costs the machine little.

For what is measured beside it on the same cores: at 10,000 events/s the simulator takes most of a core to think of
them. Each event has an id and a time of its own, so that none is a duplicate, and each round orders and
sessions of its own: an order that went on for ever would have all its events read again with each filling of the marts.

`python -m benchmarks.replayed ADDRESS RATE` sends to the Kafka at `ADDRESS` until it is ended.
"""

import os
import sys
import time
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Producer

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.times import format_time
from analytics_pipeline.simulator.envelope import SECOND, Message
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.pace import Pace
from analytics_pipeline.simulator.stream import Stream

SEED = 20_251
_SECONDS = 30
_ID_BEGINS = len('{"id":"')
_ID_ENDS = _ID_BEGINS + 36
_TIME = b'"timestamp":"'
_ANEW = (b'"order_id":"', b'"session_id":"')
"""What begins anew with each round; both stand behind the time."""


class Template(NamedTuple):
    """A message without its id and its time: what stands before, between and after them."""

    topic: str
    key: bytes
    head: bytes
    middle: bytes
    tail: bytes


def templates(rate: float, seconds: int = _SECONDS) -> list[Template]:
    """What the simulator sends in so many seconds, without faults."""
    start = time.time_ns() // 1000
    stream = Stream(seed=SEED, start=start, rate=rate, ratios=Ratios())
    return [
        _taken_apart(stream.message(start + int(number * SECOND / rate)))
        for number in range(int(rate * seconds))
    ]


def _taken_apart(message: Message) -> Template:
    value = message.value
    begins = value.index(_TIME) + len(_TIME)
    ends = value.index(b'"', begins)
    return Template(message.topic, message.key, value[:_ID_BEGINS], value[_ID_ENDS:begins], value[ends:])


def put_together(template: Template, at: datetime, number: int) -> bytes:
    """The message of a new event at a time, in a round of this number."""
    identifier = str(uuid7(at, os.urandom(10))).encode()
    tail = template.tail
    for name in _ANEW:
        tail = tail.replace(name, b"%b%d-" % (name, number), 1)
    return b"".join((template.head, identifier, template.middle, format_time(at).encode(), tail))


def main() -> None:
    address, rate = sys.argv[1], float(sys.argv[2])
    every = templates(rate)
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "compression.type": "lz4"})
    pace, sent = Pace(rate, time.monotonic()), 0
    while True:
        at = datetime.now(UTC)
        for _ in range(pace.due(time.monotonic()).number):
            number, place = divmod(sent, len(every))
            sent += 1
            template = every[place]
            producer.produce(template.topic, put_together(template, at, number), template.key)
        producer.poll(0)
        time.sleep(pace.nap(time.monotonic()))


if __name__ == "__main__":
    main()
