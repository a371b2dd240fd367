"""Live merges: what a minute of data costs at several rates, and one late event by its age.

Belongs here: landing deltas the way landings do, and merging them. Does not belong here: days and their size (`days`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import psutil
import psycopg
import pyarrow as pa

from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import LEVELS
from analytics_pipeline.storage import buckets, ledger, rollups
from analytics_pipeline.storage.connection import connection
from benchmarks import stored
from benchmarks.servers import Servers

RATES = (100, 1_000, 10_000)
QUICK_RATES = (100, 1_000)
AGES = {"1 hour": timedelta(hours=1), "60 days": timedelta(days=60)}
_BATCHES = 300
"""Landings a minute: one every 200 ms, the default `batch_timeout`."""
_NEXT_BATCH = "SELECT nextval('ingest_batch_id_seq')"
_WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


class Meter:
    """CPU and wall seconds of the body: of this process, and of the connection's server process."""

    def __init__(self, opened: psycopg.Connection[Any]) -> None:
        self._backend = psutil.Process(opened.info.backend_pid)
        self.seconds = self.process = self.postgres = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Adds what the body costs."""
        backend, process, wall = _cpu(self._backend), time.process_time(), time.perf_counter()
        yield
        self.seconds += time.perf_counter() - wall
        self.process += time.process_time() - process
        self.postgres += _cpu(self._backend) - backend

    def figures(self, times: int = 1) -> dict[str, float]:
        """Seconds each time: CPU of this process, of Postgres, both, and by the wall clock."""
        return {
            "process_cpu_seconds": round(self.process / times, 4),
            "postgres_cpu_seconds": round(self.postgres / times, 4),
            "cpu_seconds": round((self.process + self.postgres) / times, 4),
            "seconds": round(self.seconds / times, 4),
        }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def land(opened: psycopg.Connection[Any], events: pa.Table, *, with_rows: bool = False) -> None:
    """One landing's part in rollups: the deltas of some events, pending; on request the events, too. Commits."""
    deltas = compute_deltas(events, BUILT_IN)
    with opened.transaction(), opened.cursor() as cursor:
        row = cursor.execute(_NEXT_BATCH).fetchone()
        assert row is not None
        if with_rows:
            stored.copy_events(opened, events)
        ledger.write_deltas(cursor, row[0], deltas)


def wal_bytes(opened: psycopg.Connection[Any]) -> int:
    """Bytes of WAL ever written."""
    row = opened.execute(_WAL).fetchone()
    assert row is not None
    return int(row[0])


def merge(opened: psycopg.Connection[Any], hour: datetime) -> int:
    """Everything that is pending of an hour; how many deltas."""
    deltas, has_more = 0, True
    while has_more:
        done = rollups.merge_hour(opened, hour, run_id="benchmark")
        assert done is not None
        deltas, has_more = deltas + done.deltas, done.has_more
    return deltas


def by_rate(
    servers: Servers, hour: datetime, *, seed: int, minutes: int, rates: Sequence[int]
) -> dict[str, Any]:
    """A minute's merge at each rate; the first minute of an hour is not measured."""
    found: dict[str, Any] = {}
    for rate in rates:
        with servers.database() as database, connection(database, name="bench", autocommit=True) as opened:
            meter, deltas, wal = Meter(opened), 0, 0
            for number in range(minutes + 1):
                start = hour + timedelta(minutes=number)
                _land_minute(opened, stored.simulated(start, 60 * rate, rate, seed=seed + number))
                if number == 0:
                    merge(opened, hour)
                    continue
                before = wal_bytes(opened)
                with meter.running():
                    deltas += merge(opened, hour)
                wal += wal_bytes(opened) - before
        found[str(rate)] = meter.figures(minutes) | {
            "deltas": round(deltas / minutes),
            "wal_mb": round(wal / minutes / 2**20, 2),
        }
        print(f"  a minute at {rate:,} events/s: {found[str(rate)]['cpu_seconds']:.3f} s of CPU", flush=True)
    costs = [one["cpu_seconds"] for one in found.values()]
    return {"minutes": minutes, "rates": found, "most_to_least": round(max(costs) / min(costs), 2)}


def _land_minute(opened: psycopg.Connection[Any], events: pa.Table) -> None:
    for number in range(_BATCHES):
        first = number * events.num_rows // _BATCHES
        land(opened, events.slice(first, (number + 1) * events.num_rows // _BATCHES - first))


def late_events(servers: Servers, *, seed: int, repeat: int) -> dict[str, Any]:
    """One late event into an hour that is settled and final, merged at once, by the age of the hour."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    found: dict[str, Any] = {}
    with servers.database() as database, connection(database, name="bench", autocommit=True) as opened:
        hours = {name: now - age - timedelta(hours=1) for name, age in AGES.items()}
        for hour in hours.values():
            land(opened, stored.simulated(hour, 360_000, 100, seed=seed))
            merge(opened, hour)
        later = now + timedelta(days=2)
        buckets.finalize_buckets(
            opened, now=later, graces=dict.fromkeys(LEVELS, timedelta(0)), run_id="benchmark"
        )
        for name, hour in hours.items():
            meter, seconds = Meter(opened), []
            for number in range(repeat + 1):
                start = hour + timedelta(seconds=97 * number % 3000)
                event = stored.simulated(start, 200, 100, seed=seed + 1 + number).slice(199)
                with Meter(opened).running() if number == 0 else meter.running():
                    began = time.perf_counter()
                    land(opened, event, with_rows=True)
                    merge(opened, hour)
                seconds.append(time.perf_counter() - began)
            found[name] = meter.figures(repeat) | {"median_seconds": round(median(seconds), 4)}
            print(
                f"  a late event, {name} old: {found[name]['cpu_seconds'] * 1000:.0f} ms of CPU", flush=True
            )
    return found
