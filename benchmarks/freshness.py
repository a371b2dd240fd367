"""How long after producing an event is visible: by SQL in `events`, and by `GET /api/v1/metrics`.

A whole stack as `make up` starts it. The simulator, a process of its own, keeps the pace; between its events go
markers, of a type of their own for each partition. Offsets keep the order of a partition, so that a count of n says
that the first n markers are visible. The time runs from handing a marker to the producer until the answer that counts
it is there.
"""

import os
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import numpy as np
import psycopg
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.times import format_time
from analytics_pipeline.simulator.envelope import TOPICS
from benchmarks.books import READ, Refused, settle
from benchmarks.costs import Costs
from benchmarks.whole_stack import whole_stack
from tests.e2e.local import Pipe, Stack

RATES = (1_000, 10_000)
SECONDS = 30
MARKERS_PER_SECOND = 20
PARTITIONS = 4
TOPIC = "trading.events"
_TYPE = "bench.marker."
_PERCENTILES = {"p50": 50, "p99": 99}
_LONGEST = 30.0
_TOLERANCE = 0.05
_WARM_UP, _WARM_UP_LIMIT = 30.0, 60.0
"""Seconds of load before the first marker, at least and at most: a stack that has just started compiles Kafka's code,
loads Dagster's and makes its first runs, on the same cores."""
_BEHIND_AT_MOST = 1.0
"""Seconds of events that may wait when the markers begin: what piled up while all started must be gone."""

_COUNTS = """
SELECT event_type, count(*) FROM events WHERE event_type = ANY(%s) AND timestamp >= %s GROUP BY event_type
"""

Counts = Mapping[int, int]
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


def measure(rate: int) -> dict[str, Any]:
    """A stack at a rate, events/s.

    Raises:
        Refused: the stack did not start, the rate was not kept, markers stayed away or the books do not balance.
    """
    none = {f"B25_SIMULATOR__{kind}_RATIO": "0" for kind in ("LATE", "DUPLICATE", "BROKEN")}
    print(f"starting a stack for {rate:,} events/s", flush=True)
    with whole_stack("--no-simulator", **none) as stack:
        return _under_load(stack, rate)


def _under_load(stack: Stack, rate: int) -> dict[str, Any]:
    pipe = Pipe(stack)
    admin, since = AdminClient({"bootstrap.servers": pipe.kafka}), datetime.now(UTC)
    load = subprocess.Popen(
        [
            *(sys.executable, "-m", "analytics_pipeline", "simulate", "--rate", str(rate)),
            *("--duration", f"{SECONDS + round(_WARM_UP_LIMIT) + 10}s"),
        ],
        env={**stack.variables, "B25_KAFKA__BROKERS": pipe.kafka},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_steady(pipe, admin, rate)
        roots = {name: one["pid"] for name, one in stack.status()["processes"].items() if one.get("pid")}
        watches = {"sql": _Watch(_by_sql(pipe.conninfo, since)), "api": _Watch(_by_api(pipe, since))}
        with Costs({**roots, "load": load.pid}) as costs:
            before, began, clock = _produced(admin), time.monotonic(), time.time()
            sent = _send_markers(pipe.kafka)
            seconds, ended = time.monotonic() - began, time.time()
            reached = (_produced(admin) - before) / seconds
        elsewhere, used = costs.cores_elsewhere(clock, ended), costs.cpu_seconds(clock, ended)
        is_complete = [watch.wait(sent) for watch in watches.values()]
    finally:
        load.terminate()
        load.wait()
    if not all(is_complete):
        raise Refused(f"markers were not visible {_LONGEST:.0f} s after they were sent at {rate:,} events/s")
    wanted = rate + MARKERS_PER_SECOND
    cores = {name: round(spent / seconds, 2) for name, spent in used.items()}
    if abs(reached - wanted) > wanted * _TOLERANCE:
        raise Refused(
            f"{reached:,.0f} events/s were produced, not the {wanted:,} asked for; cores used: {cores}"
        )
    settle(pipe, within=_LONGEST)
    found: dict[str, Any] = {"rate": rate, "produced_per_second": round(reached), "seconds": SECONDS}
    found |= {"cores": cores, "cores_elsewhere": round(elsewhere, 2)}
    for name, watch in watches.items():
        delays = watch.delays(sent) * 1000
        found[f"{name}_ms"] = {
            key: round(float(np.percentile(delays, at))) for key, at in _PERCENTILES.items()
        }
        found[f"{name}_ms"] |= {"markers": len(delays), "poll_ms_p50": round(watch.resolution * 1000, 1)}
    return found


def _wait_until_steady(pipe: Pipe, admin: AdminClient, rate: int) -> None:
    """Until events have flown for a while and next to none of them wait.

    Raises:
        Refused: landing does not keep up.
    """
    began = time.monotonic()
    while True:
        produced, landed = _produced(admin), int(pipe.sql(READ)[0][0])
        waited = time.monotonic() - began
        is_steady = landed > 3 * rate and produced - landed < rate * _BEHIND_AT_MOST
        if waited > _WARM_UP and is_steady:
            return
        if waited > _WARM_UP_LIMIT:
            raise Refused(
                f"landing does not keep up with {rate:,} events/s: {produced - landed:,} events wait"
            )
        time.sleep(0.2)


def _produced(admin: AdminClient) -> int:
    """Messages in all topics, by their ends."""
    ends = {TopicPartition(topic, number): _LATEST for topic in TOPICS for number in range(PARTITIONS)}
    return sum(int(one.result(timeout=10).offset) for one in admin.list_offsets(ends).values())


def _send_markers(kafka: str) -> dict[int, list[float]]:
    """Send at a steady pace; when each was handed over, by partition."""
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
    sent: dict[int, list[float]] = {number: [] for number in range(PARTITIONS)}
    began = time.monotonic()
    for number in range(SECONDS * MARKERS_PER_SECOND):
        time.sleep(max(0.0, began + number / MARKERS_PER_SECOND - time.monotonic()))
        partition, now = number % PARTITIONS, datetime.now(UTC)
        marker = {
            "id": str(uuid7(now, os.urandom(10))),
            "event_type": f"{_TYPE}{partition}",
            "timestamp": format_time(now),
            "properties": {"number": number},
        }
        sent[partition].append(time.monotonic())
        producer.produce(TOPIC, msgspec.json.encode(marker), partition=partition)
        producer.poll(0)
    if producer.flush(_LONGEST):
        raise Refused("Kafka did not take all markers")
    return sent


class _Watch:
    """Asks for the counts over and over, in a thread, and notes when each was seen."""

    def __init__(self, ask: Callable[[], Counts]) -> None:
        self._ask = ask
        self._seen: dict[int, list[tuple[int, float]]] = {number: [(0, 0.0)] for number in range(PARTITIONS)}
        self._times: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, sent: Mapping[int, list[float]]) -> bool:
        """Until all are visible; False when they don't become so."""
        limit = time.monotonic() + _LONGEST
        while not (is_complete := all(self._seen[n][-1][0] >= len(sent[n]) for n in sent)):
            if time.monotonic() > limit or not self._thread.is_alive():
                break
            time.sleep(0.05)
        self._is_over.set()
        self._thread.join()
        return is_complete

    def delays(self, sent: Mapping[int, list[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Seconds from sending until the first answer that counts each marker."""
        found = []
        for number, times in sent.items():
            counts = [count for count, _ in self._seen[number]]
            for position, at in enumerate(times, 1):
                found.append(self._seen[number][bisect_left(counts, position)][1] - at)
        return np.array(found)

    @property
    def resolution(self) -> float:
        """Seconds between two answers, median."""
        return float(np.median(np.diff(self._times))) if len(self._times) > 1 else 0.0

    def _run(self) -> None:
        while not self._is_over.is_set():
            counts = self._ask()
            now = time.monotonic()
            self._times.append(now)
            for number, count in counts.items():
                if count > self._seen[number][-1][0]:
                    self._seen[number].append((count, now))
            self._is_over.wait(0.005)


def _by_sql(conninfo: str, since: datetime) -> Callable[[], Counts]:
    opened = psycopg.connect(conninfo, autocommit=True)
    types = [f"{_TYPE}{number}" for number in range(PARTITIONS)]

    def ask() -> Counts:
        rows = opened.execute(_COUNTS.encode(), (types, since)).fetchall()
        return {int(str(name).rpartition(".")[2]): int(count) for name, count in rows}

    return ask


def _by_api(pipe: Pipe, since: datetime) -> Callable[[], Counts]:
    client = httpx.Client(base_url=pipe.api.base_url, timeout=10.0)
    span = {
        "interval": "1m",
        "start_time": since.replace(second=0, microsecond=0).isoformat(),
        "end_time": (since + timedelta(minutes=10)).replace(second=0, microsecond=0).isoformat(),
    }

    def ask() -> Counts:
        counts = {}
        for number in range(PARTITIONS):
            asked = {"metric_name": f"events.count.{_TYPE}{number}", **span}
            answer = client.get("/api/v1/metrics", params=asked).raise_for_status().json()
            points = answer["result"]["data_points"]
            counts[number] = round(sum(point["value"] for point in points))
        return counts

    return ask
