"""One recompute, or one bare read of what it reads, in a process of its own: so that its memory is its own, too.

`python -m benchmarks.recompute_once recompute|read CONNINFO HOUR` prints one line of JSON. Loading the program is not
part of the seconds, connecting is.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from adbc_driver_postgresql import dbapi

from analytics_pipeline.rollups.checks import check_rows
from analytics_pipeline.rollups.levels import LEVEL_SCHEMA
from analytics_pipeline.storage.raw_events import events_of
from analytics_pipeline.storage.recompute import recompute_hour


def recompute(conninfo: str, hour: datetime) -> int:
    """The product's own; events."""
    return recompute_hour(conninfo, hour, run_id="benchmark").events


def read(conninfo: str, hour: datetime) -> int:
    """The same rows and columns into Arrow, each batch dropped as soon as it is there; events."""
    with dbapi.connect(conninfo, autocommit=True) as opened, opened.cursor() as cursor:
        cursor.execute(events_of(hour, hour + timedelta(hours=1)))
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())


def main(what: Callable[[str, datetime], int], conninfo: str, hour: datetime) -> None:
    """Run it and print what it cost."""
    check_rows(LEVEL_SCHEMA.empty_table())  # loads what it needs when it is first called
    cpu, began = time.process_time(), time.time()
    events = what(conninfo, hour)
    ended = time.time()
    found = {
        "events": events,
        "began": began,
        "ended": ended,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(
        {"recompute": recompute, "read": read}[sys.argv[1]], sys.argv[2], datetime.fromisoformat(sys.argv[3])
    )
