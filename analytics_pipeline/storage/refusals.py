"""Events that were decoded well, and that landing turns into dead letters all the same.

Belongs here: making those dead letters. Does not belong here: deciding it (`storage.landing`).
"""

from datetime import datetime

import numpy as np
import pyarrow as pa

from analytics_pipeline.events.decode import Decoded
from analytics_pipeline.events.errors import Rejected
from analytics_pipeline.events.limits import too_old
from analytics_pipeline.events.messages import DeadLetter, dead_letter
from analytics_pipeline.events.times import micros


def split_at_floor(decoded: Decoded, floor: datetime) -> tuple[pa.Table, list[DeadLetter]]:
    """Events from the retention floor on, and all dead letters: those of decode and the events below the floor."""
    events, dead = decoded.events, list(decoded.dead)
    times = events["timestamp"].cast(pa.int64()).to_numpy()
    below = int(np.searchsorted(times, micros(floor)))  # sorted by time
    dead += [dead_event(decoded, events.slice(row, 1), too_old(floor)) for row in range(below)]
    return events.slice(below), dead


def dead_event(decoded: Decoded, row: pa.Table, rejected: Rejected) -> DeadLetter:
    """The dead letter of an accepted event (a table of one row)."""
    source, number = row["source"][0].as_py(), row["source_partition"][0].as_py()
    rejected.event_type = row["event_type"][0].as_py()
    message = decoded.message(source, number, row["source_offset"][0].as_py())
    return dead_letter(source, number, message, rejected)
