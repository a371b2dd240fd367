"""Recompute of an hour by turns with plain SQL and with the bare read of the same rows.

Belongs here: running each and what it cost. Does not belong here: the statements (`plain_sql`), the process of one
recompute or read (`recompute_once`).
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Any

import psycopg

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.rollups.catalog import BUILT_IN
from benchmarks import plain_sql, stored
from benchmarks.books import Refused
from benchmarks.costs import Costs
from benchmarks.servers import Servers

RUNS = ("recompute", "plain_sql", "tuned_sql", "read")
"""What runs by turns."""
SIZES, QUICK_SIZES = (600_000, 1_800_000, 4_200_000), (600_000, 1_200_000)
_SIZE = "SELECT pg_table_size(relid) FROM pg_partition_tree('events') WHERE isleaf ORDER BY 1 DESC LIMIT 1"


def measure(servers: Servers, hour: datetime, *, events: int, seed: int, repeat: int) -> dict[str, Any]:
    """Fill an hour, then recompute, plain SQL and read, one after the other, as often as asked for.

    Raises:
        Refused: plain SQL found other numbers.
    """
    with servers.database() as database:
        began = time.monotonic()
        stored.fill(database, hour, events, seed=seed)
        print(f"stored {events:,} events in {time.monotonic() - began:.0f} s", flush=True)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
        for _ in range(repeat):
            found["read"].append(_once(servers, "read", database, hour, events))
            found["recompute"].append(_once(servers, "recompute", database, hour, events))
            for name in ("plain_sql", "tuned_sql"):
                found[name].append(_plain(servers, name, database, hour, events))
        with psycopg.connect(database) as opened:
            size = opened.execute(_SIZE).fetchone()
    return _summary(found) | {"events": events, "events_table_mb": round(size[0] / 2**20) if size else 0}


def _once(servers: Servers, what: str, database: str, hour: datetime, events: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.recompute_once", what, database, hour.isoformat()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with Costs({"child": child.pid, "postgres": servers.postgres_pid}) as costs:
        printed, _ = child.communicate()
    if child.returncode:
        raise EnvironmentFault(f"{what} ended with {child.returncode}")
    done = json.loads(printed)
    if done["events"] != events:
        raise Refused(f"the figure is refused: {what} found {done['events']} of {events} events")
    return _figures(what, events, costs, done["began"], done["ended"]) | {
        "cpu_seconds": round(done["cpu_seconds"], 3),
        "peak_rss_mb": done["peak_rss_mb"],
    }


def _plain(servers: Servers, what: str, database: str, hour: datetime, events: int) -> dict[str, Any]:
    with psycopg.connect(database) as opened, Costs({"postgres": servers.postgres_pid}) as costs:
        began = time.time()
        plain_sql.run(opened, BUILT_IN.metrics, hour, is_tuned=what == "tuned_sql")
        ended = time.time()
        plain_sql.check(opened)
    return _figures(what, events, costs, began, ended)


def _figures(what: str, events: int, costs: Costs, began: float, ended: float) -> dict[str, Any]:
    print(f"  {what:10}{events / (ended - began):>12,.0f} events/s", flush=True)
    return {
        "seconds": round(ended - began, 3),
        "events_per_second": round(events / (ended - began)),
        "postgres_cpu_seconds": round(costs.cpu_seconds(began, ended)["postgres"], 2),
        "cores_elsewhere": round(costs.cores_elsewhere(began, ended), 2),
    }


def memory(servers: Servers, hour: datetime, *, seed: int, sizes: Sequence[int]) -> dict[str, Any]:
    """Recompute an hour as it fills: the most memory that the process ever had, by the events of the hour.

    Args:
        sizes: ascending, whole minutes but for the last.
    """
    found, before = {}, 0
    with servers.database() as database:
        for events in sizes:
            stored.fill(database, hour, events, seed=seed, already=before)
            found[str(events)] = _once(servers, "recompute", database, hour, events)
            before = events
    return found


def _summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians; ratios by the clock, and of all CPU that was spent, which a busy machine changes less."""
    middle = {
        name: {key: round(median(run[key] for run in runs), 3) for key in runs[0]}
        for name, runs in found.items()
    }
    seconds = {name: one["seconds"] for name, one in middle.items()}
    cpu = {name: one["postgres_cpu_seconds"] + one.get("cpu_seconds", 0) for name, one in middle.items()}
    return {name: one | {"runs": found[name]} for name, one in middle.items()} | {
        "times_plain_sql": round(seconds["plain_sql"] / seconds["recompute"], 2),
        "times_tuned_sql": round(seconds["tuned_sql"] / seconds["recompute"], 2),
        "of_bare_read": round(seconds["read"] / seconds["recompute"], 3),
        "cpu_of_plain_sql": round(cpu["recompute"] / cpu["plain_sql"], 2),
        "cpu_of_tuned_sql": round(cpu["recompute"] / cpu["tuned_sql"], 2),
    }
