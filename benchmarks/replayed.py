"""The simulator's events of some seconds, sent again and again as of now: a load that costs the machine little.

For what is measured beside it on the same cores: at 10,000 events/s the simulator takes most of a core to think of
them. Each event has an id and a time of its own, so that none is a duplicate; what they tell of repeats.

`python -m benchmarks.replayed ADDRESS RATE` sends to the Kafka at `ADDRESS` until it is ended.
"""

import os
import sys
import time
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Producer

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
_DIGITS = 18


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


def put_together(template: Template, at: bytes, millis: bytes, chance: bytes) -> bytes:
    """The message of an event at a time; `millis` is that time as UUIDv7 has it, `chance` 18 hexadecimal digits."""
    identifier = b"%b-%b-7%b-8%b-%b" % (millis[:8], millis[8:], chance[:3], chance[3:6], chance[6:18])
    return b"".join((template.head, identifier, template.middle, at, template.tail))


def main() -> None:
    address, rate = sys.argv[1], float(sys.argv[2])
    every = templates(rate)
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "compression.type": "lz4"})
    pace, place = Pace(rate, time.monotonic()), 0
    while True:
        due = pace.due(time.monotonic()).number
        at = format_time(datetime.now(UTC)).encode()
        millis = b"%012x" % (time.time_ns() // 1_000_000)
        chance = os.urandom(_DIGITS // 2 * due).hex().encode()
        for number in range(due):
            template = every[place]
            place = (place + 1) % len(every)
            own = chance[_DIGITS * number : _DIGITS * (number + 1)]
            producer.produce(template.topic, put_together(template, at, millis, own), template.key)
        producer.poll(0)
        time.sleep(pace.nap(time.monotonic()))


if __name__ == "__main__":
    main()
