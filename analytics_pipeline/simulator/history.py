"""History: the day before the first start, so that the first view is not empty.

Its last minutes are as busy as the simulator will be, so that the newest charts are full and go on evenly.

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

BUSY_END, BUSY_SHARE = 15 * 60.0, 0.6
"""The busy end lasts so many seconds at most, and has this share of all events at most."""


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
    ratios = Ratios(duplicate=simulator.duplicate_ratio, broken=simulator.broken_ratio)
    end = int(now.timestamp() * SECOND)
    begin, turn = end - length, end - int(busy_end(simulator) * SECOND)
    busy = round((end - turn) / SECOND * simulator.rate)
    for number, (start, until, events) in enumerate(((begin, turn, count - busy), (turn, end, busy))):
        if events:
            rate = events / ((until - start) / SECOND)
            stream = Stream(seed=seed + number, start=start, end=until, rate=rate, ratios=ratios)
            for slot in past_slots(start, until, events):
                yield stream.message(slot)


def busy_end(simulator: Simulator) -> float:
    """How long the end of the history is as busy as the simulator itself, in s; 0 where all of it is busier."""
    length = simulator.history.total_seconds()
    if simulator.history_events >= simulator.rate * length:
        return 0.0
    return min(BUSY_END, BUSY_SHARE * simulator.history_events / simulator.rate)
