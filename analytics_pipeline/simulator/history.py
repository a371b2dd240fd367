"""History: the day before the first start, so that the first view is not empty.

Belongs here: when the events of the past happened. What happened comes from the stream, as in live running.
"""

from collections.abc import Iterator
from datetime import datetime
from math import cos, pi

import numpy as np

from analytics_pipeline.settings import Simulator
from analytics_pipeline.simulator.envelope import SECOND, Message
from analytics_pipeline.simulator.faults import Ratios
from analytics_pipeline.simulator.stream import Stream

BUSIEST_HOUR = 14.5
"""UTC: Europe and America are both awake."""


def activity(hour: float) -> float:
    """How busy an hour of the UTC day is, relative to the average of 1."""
    return 1 + 0.45 * cos((hour - BUSIEST_HOUR) * pi / 12) + 0.12 * cos((hour - 8.5) * pi / 6)


def past_slots(start: int, end: int, count: int) -> list[int]:
    """`count` times (µs) from `start` to before `end`, in order, denser where the day is busy."""
    edges = np.linspace(start, end, max(2, (end - start) // (60 * SECOND) + 1))
    middles = (edges[1:] + edges[:-1]) / 2
    weights = [activity(middle / SECOND / 3600 % 24) for middle in middles]
    share = np.concatenate(([0.0], np.cumsum(weights)))
    wanted = (np.arange(count) + 0.5) / count * share[-1]
    return [int(time) for time in np.interp(wanted, share, edges)]


def default_seed(now: datetime) -> int:
    """The seed of a history without one: the same `now` gives the same events, ids included."""
    return int(now.timestamp() * SECOND)


def past_events(simulator: Simulator, now: datetime, seed: int) -> Iterator[Message]:
    """The events of the time before `now`, in order. Some are sent twice or broken, none is late."""
    count = simulator.history_events
    length = int(simulator.history.total_seconds() * SECOND)
    if not count or not length:
        return
    end = int(now.timestamp() * SECOND)
    stream = Stream(
        seed=seed,
        start=end - length,
        rate=count / (length / SECOND),
        ratios=Ratios(duplicate=simulator.duplicate_ratio, broken=simulator.broken_ratio),
    )
    for slot in past_slots(end - length, end, count):
        yield stream.message(slot)
