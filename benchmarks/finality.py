"""When buckets become final, and when one late event is seen at every level: a whole stack under Dagster.

Starts everything with free ports in a temporary folder and a short grace, and lets events flow at a rate. Measures

- how long after its end and the grace a bucket that closes meanwhile is final, at 1m and 5m, and at 15m and 1h where
  one ends in time;
- how long after it was sent an event of yesterday, of which nothing was known before, stands in a final bucket of each
  of the five levels: their time is over, so that only landing and merging are left;
- how long after it was sent a second event of the same minute, late, is in the answer of `/api/v1/metrics` at each
  level, where its deltas are pending still, and how long until it is merged and the final buckets are restated.

Prints a table and, with --json, one JSON object. Exit code 1 if a bound is broken: 90 s, 90 s, 2 s and 90 s.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import psycopg
from confluent_kafka import Producer

from analytics_pipeline.events.ids import uuid7
from analytics_pipeline.events.times import format_time
from analytics_pipeline.rollups.schema import LEVELS
from benchmarks.books import Refused, settle
from benchmarks.whole_stack import whole_stack
from tests.e2e.local import Pipe, Stack

FINAL_WITHIN, VISIBLE_WITHIN, MERGED_WITHIN = 90.0, 2.0, 90.0
"""Seconds."""
GRACE = timedelta(seconds=5)
TOPIC = "trading.events"
_TYPE = "bench.late"
_FINALS = """
SELECT interval, time_bucket FROM metric_buckets
WHERE state IN ('final', 'restated') AND time_bucket >= %(since)s AND time_bucket < %(until)s
"""
_RESTATED = """
SELECT interval FROM metric_buckets AS bucket WHERE state = 'restated' AND time_bucket >= %(since)s
    AND time_bucket < %(until)s AND EXISTS (
        SELECT FROM metric_aggregations AS settled
        WHERE settled.interval = bucket.interval AND settled.time_bucket = bucket.time_bucket
            AND settled.metric_name = %(name)s AND settled.count = 2
    )
"""
_POLL = 0.1
_PATIENCE = 300.0
_DAY = timedelta(days=1)

Seconds = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=4, help="of load, at least; it ends after a 5m bucket did"
    )
    parser.add_argument("--rate", type=float, default=100, help="events per second")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.minutes, arguments.rate)
    except Refused as refused:
        print(refused)
        return 1
    print(json.dumps(found) if arguments.json else _shown(found))
    return 1 if found["broken"] else 0


def measure(minutes: float, rate: float) -> dict[str, Any]:
    """A stack of its own, under load for some minutes.

    Raises:
        Refused: it did not start, or what was sent did not come to be final or merged at all.
    """
    variables = {
        "B25_ANALYTICS__AGGREGATION__GRACE": f"{GRACE.total_seconds():.0f}s",
        "B25_SIMULATOR__HISTORY": "0s",
    }
    print("starting", file=sys.stderr, flush=True)
    with whole_stack("--no-simulator", **variables) as stack:
        return _under_load(stack, minutes, rate)


def _under_load(stack: Stack, minutes: float, rate: float) -> dict[str, Any]:
    pipe, began = Pipe(stack), datetime.now(UTC)
    until = _end(began + timedelta(minutes=minutes), "5m") + timedelta(seconds=1)
    load = subprocess.Popen(
        [
            *(sys.executable, "-m", "analytics_pipeline", "simulate", "--rate", str(rate)),
            *("--duration", f"{round((until - began).total_seconds() + FINAL_WITHIN)}s"),
        ],
        env={**stack.variables, "B25_KAFKA__BROKERS": pipe.kafka},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with psycopg.connect(pipe.conninfo, autocommit=True) as opened:
            producer = Producer({"bootstrap.servers": pipe.kafka, "enable.idempotence": True})
            closing = _Closing(opened, began, until)
            old = began.replace(hour=10, minute=30, second=0, microsecond=0) - _DAY
            first_final = _first_of_its_buckets(producer, opened, old, closing)
            visible, merged = _late(pipe, producer, opened, old, closing)
            while not closing.is_over(datetime.now(UTC)):
                closing.look()
                time.sleep(_POLL)
    finally:
        load.terminate()
        load.wait()
    settle(pipe, within=_PATIENCE)
    found: dict[str, Any] = {
        "rate": rate,
        "grace_s": GRACE.total_seconds(),
        "closing_final_s": closing.found,
        "old_final_s": first_final,
        "late_visible_s": visible,
        "late_merged_s": merged,
    }
    found["broken"] = [
        f"{name} at {level}: {seconds} s"
        for name, bound in (
            ("closing_final_s", FINAL_WITHIN),
            ("old_final_s", FINAL_WITHIN),
            ("late_visible_s", VISIBLE_WITHIN),
            ("late_merged_s", MERGED_WITHIN),
        )
        for level, seconds in found[name].items()
        if seconds > bound
    ]
    return found


class _Closing:
    """Watches the buckets that end while events flow; of each level, the longest that one took to be final."""

    def __init__(self, opened: "psycopg.Connection[Any]", began: datetime, until: datetime) -> None:
        self._opened = opened
        self._span = {"since": began - _DAY, "until": until}
        self._seen: set[tuple[str, datetime]] = set()
        self._wanted = {
            (level, at)
            for level, width in LEVELS.items()
            for at in _starts(began, until, level)
            if at + timedelta(seconds=width) <= until
        }
        self._until = until
        self.found: Seconds = {}

    def look(self) -> None:
        """Note which are final by now."""
        if not self._wanted - self._seen:
            return
        rows = self._opened.execute(_FINALS.encode(), self._span).fetchall()
        now = datetime.now(UTC)
        for level, at in (set(rows) & self._wanted) - self._seen:
            self._seen.add((level, at))
            took = (now - at - timedelta(seconds=LEVELS[level]) - GRACE).total_seconds()
            self.found[level] = round(max(took, self.found.get(level, took)), 1)

    def is_over(self, now: datetime) -> bool:
        """Whether all are.

        Raises:
            Refused: one is not, long after it should be.
        """
        left = self._wanted - self._seen
        if left and now > self._until + timedelta(seconds=_PATIENCE):
            level, at = min(left, key=lambda each: each[1])
            raise Refused(
                f"the bucket of {level} at {at:%H:%M}Z is not final {_PATIENCE:.0f} s after its end"
            )
        return not left


def _first_of_its_buckets(
    producer: Producer, opened: "psycopg.Connection[Any]", old: datetime, closing: _Closing
) -> Seconds:
    """Send an event of a day of which there is none; seconds until each of its buckets is final."""
    began = _send(producer, old)

    def finals() -> set[str]:
        closing.look()
        return {row[0] for row in opened.execute(_FINALS.encode(), _day(old)).fetchall()}

    return _until_all(began, finals, "final")


def _late(
    pipe: Pipe, producer: Producer, opened: "psycopg.Connection[Any]", old: datetime, closing: _Closing
) -> tuple[Seconds, Seconds]:
    """Send one more of the same minute; seconds until answers have it, and until it is merged, at each level."""
    with httpx.Client(base_url=pipe.api.base_url, timeout=10.0) as client:
        _until_all(time.monotonic(), lambda: _answered(client, old, 1), "visible")
        began = _send(producer, old)
        visible = _until_all(began, lambda: _answered(client, old, 2), "visible", pause=0.01)

    def merged() -> set[str]:
        closing.look()
        named = {**_day(old), "name": f"events.count.{_TYPE}"}
        return {row[0] for row in opened.execute(_RESTATED.encode(), named).fetchall()}

    return visible, _until_all(began, merged, "merged")


def _answered(client: httpx.Client, old: datetime, wanted: int) -> set[str]:
    """The levels at which `/api/v1/metrics` counts so many events of the day."""
    span = {
        name: at.isoformat() for name, at in zip(("start_time", "end_time"), _day(old).values(), strict=True)
    }
    found = set()
    for level in LEVELS:
        asked = {"metric_name": f"events.count.{_TYPE}", "interval": level, **span}
        answer = client.get("/api/v1/metrics", params=asked).raise_for_status().json()
        if round(sum(point["value"] for point in answer["result"]["data_points"])) == wanted:
            found.add(level)
    return found


def _until_all(began: float, reached: Callable[[], set[str]], what: str, *, pause: float = _POLL) -> Seconds:
    """Seconds since `began` until each level was first seen among those that have reached it.

    Raises:
        Refused: one has not, after a long time.
    """
    found: Seconds = {}
    while len(found) < len(LEVELS):
        levels, took = reached(), time.monotonic() - began
        found |= {level: round(took, 2) for level in levels if level not in found}
        if took > _PATIENCE:
            raise Refused(f"not {what} at {', '.join(set(LEVELS) - set(found))} after {_PATIENCE:.0f} s")
        time.sleep(pause)
    return {level: found[level] for level in LEVELS}


def _send(producer: Producer, at: datetime) -> float:
    """One event of a time; when it was handed over."""
    sent = {
        "id": str(uuid7(at, os.urandom(10))),
        "event_type": _TYPE,
        "timestamp": format_time(at),
        "properties": {},
    }
    began = time.monotonic()
    producer.produce(TOPIC, msgspec.json.encode(sent))
    if producer.flush(30.0):
        raise Refused("Kafka did not take an event")
    return began


def _day(at: datetime) -> Mapping[str, datetime]:
    first = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return {"since": first, "until": first + _DAY}


def _end(at: datetime, level: str) -> datetime:
    """The end of the bucket of a level that holds a time."""
    width = timedelta(seconds=LEVELS[level])
    return at - (at - datetime(2000, 1, 1, tzinfo=UTC)) % width + width


def _starts(began: datetime, until: datetime, level: str) -> list[datetime]:
    """Starts of the buckets that begin in a whole minute of the load, or began before, and end in it."""
    width, found = timedelta(seconds=LEVELS[level]), []
    end = _end(_end(began, "1m"), level)
    while end <= until:
        found.append(end - width)
        end += width
    return found


def _shown(found: Mapping[str, Any]) -> str:
    lines = [f"{found['rate']:g} events/s, grace {found['grace_s']:g} s; seconds per level", ""]
    lines.append(f"{'':52}" + "".join(f"{level:>8}" for level in LEVELS))
    for name, what in (
        ("closing_final_s", "final after its end and the grace, the longest"),
        ("old_final_s", "an event of an old bucket sent → bucket final"),
        ("late_visible_s", "a late event sent → in the answers of the API"),
        ("late_merged_s", "a late event sent → merged, bucket restated"),
    ):
        lines.append(f"{what:52}" + "".join(f"{found[name].get(level, '–'):>8}" for level in LEVELS))
    lines += ["", *(f"broken: {each}" for each in found["broken"])]
    return "\n".join(lines if found["broken"] else [*lines, "all within 90, 90, 2 and 90 s"])


if __name__ == "__main__":
    sys.exit(main())
