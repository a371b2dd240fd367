"""`system_metrics`: what each process says of itself, five figures a minute.

Belongs here: how figures follow from two readings of a process, and the thread that writes them.
Does not belong here: what counts as work in which process (`ingest.work_done`, `api.work_done`, `defs.processes`).

Nothing here disturbs the process: the thread waits for nobody, nobody waits for it, and a minute that cannot be written
(Postgres is away, say) is skipped and counted.
"""

import json
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psutil
import psycopg
import structlog

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.storage.connection import connection
from analytics_pipeline.telemetry import SYSTEM_METRICS_SKIPPED

_INSERT = """
INSERT INTO system_metrics (service_name, metric_type, time_bucket, value, dimensions)
SELECT %(service)s, figure.name, %(minute)s, figure.value, %(dimensions)s
FROM unnest(%(names)s::text [], %(values)s::double precision []) AS figure (name, value)
"""
_MINUTE = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


class Work(NamedTuple):
    """What a process has done since it began; what a unit is, the process says.

    Attributes:
        units: messages, requests or runs, failed ones included.
        failed: how many of them failed.
        timed: how many things were timed: batches, requests or runs.
        seconds: what those took, together.
    """

    units: float = 0
    failed: float = 0
    timed: float = 0
    seconds: float = 0


class Reading(NamedTuple):
    """A process at a moment; processor seconds since it began, memory in bytes."""

    at: datetime
    work: Work
    cpu_seconds: float
    memory: int


def figures(before: Reading, after: Reading) -> dict[str, float]:
    """The rows of the time between two readings, by `metric_type`.

    `latency`: mean, ms; `throughput`: units a second; `error_rate`: failed units in percent; `cpu`: percent of one
    core; `memory`: bytes, at the end. What has nothing to be the mean of is left out.
    """
    elapsed = (after.at - before.at).total_seconds()
    done = Work(*(new - old for old, new in zip(before.work, after.work, strict=True)))
    found = {
        "throughput": done.units / elapsed,
        "cpu": 100 * max(0.0, after.cpu_seconds - before.cpu_seconds) / elapsed,
        "memory": float(after.memory),
    }
    if done.timed > 0:
        found["latency"] = 1000 * done.seconds / done.timed
    if done.units > 0:
        found["error_rate"] = 100 * done.failed / done.units
    return found


class Reporter:
    """Writes the figures of this process, each minute that it has lived through.

    Args:
        conninfo: where the database is.
        service: the process's name in `service_name`.
        work: what it has done so far.
        clock: UTC.
    """

    def __init__(
        self,
        conninfo: str,
        service: str,
        work: Callable[[], Work],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._conninfo, self._service, self._work, self._clock = conninfo, service, work, clock
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._last = self._read()

    def start(self) -> None:
        """Begin, in a thread that ends with the process or with `stop`."""
        threading.Thread(target=self._run, name="system-metrics", daemon=True).start()

    def stop(self) -> None:
        """End; the minute at work is not written."""
        self._stop.set()

    def tick(self) -> bool:
        """Write the minute of the last reading if it is over; whether it was written."""
        minute = _minute(self._last.at)
        if self._clock() < minute + _MINUTE:
            return False
        before, self._last = self._last, self._read()
        try:
            self._write(minute, figures(before, self._last))
        except (EnvironmentFault, psycopg.Error) as error:
            SYSTEM_METRICS_SKIPPED.inc()
            _log.debug("system metrics of a minute are skipped", reason=str(error))
            return False
        return True

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._seconds_left()):
                self.tick()
        except Exception:  # noqa: BLE001 - the edge of the thread: the process goes on, without its figures
            SYSTEM_METRICS_SKIPPED.inc()
            _log.exception("system metrics have ended")

    def _seconds_left(self) -> float:
        """Until the minute of the last reading is over, and a little, so that clocks agree that it is."""
        return max(0.0, (_minute(self._last.at) + _MINUTE - self._clock()).total_seconds()) + 0.1

    def _read(self) -> Reading:
        cpu, memory = _usage(self._process)
        return Reading(self._clock(), self._work(), cpu, memory)

    def _write(self, minute: datetime, found: dict[str, float]) -> None:
        values = {
            "service": self._service,
            "minute": minute,
            "dimensions": json.dumps({"host": socket.gethostname(), "process": os.getpid()}),
            "names": list(found),
            "values": list(found.values()),
        }
        with connection(
            self._conninfo, name="system-metrics", autocommit=True, statement_timeout="4s"
        ) as opened:
            opened.execute(_INSERT, values)


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _usage(process: psutil.Process) -> tuple[float, int]:
    """Processor seconds and bytes of a process with its children: runs of Dagster are children of its code server."""
    with process.oneshot():
        cpu = sum(process.cpu_times()[:4])  # own and those of children that have ended
        memory = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            cpu += sum(child.cpu_times()[:4])
            memory += child.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return cpu, memory
