"""Streams for the tests: messages of a seeded simulation, decoded."""

import json
from typing import Any

from analytics_pipeline.simulator.envelope import SECOND, Message
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.stream import Stream

START = 1_790_000_000 * SECOND
NONE = Ratios()


def slots(rate: float, count: int) -> list[int]:
    return [START + int(number * SECOND / rate) for number in range(count)]


def messages(seed: int, rate: float, count: int, ratios: Ratios = NONE) -> list[Message]:
    stream = Stream(seed=seed, start=START, rate=rate, ratios=ratios)
    return [stream.message(slot) for slot in slots(rate, count)]


def events(seed: int, rate: float, count: int) -> list[dict[str, Any]]:
    """Without faults."""
    return [json.loads(message.value) for message in messages(seed, rate, count)]
