"""A stack of its own under a steady simulated load, and the books afterwards: `make soak`.

Starts everything with free ports in a temporary folder, lets the simulator run at a rate for some minutes, samples
what the processes cost, stops the simulator, waits until all has landed, and checks:

- the ledger is complete: contiguous per partition, read = stored + duplicate + dead, sums equal the tables;
- the sum of `events.count` equals the rows of `events` at every interval;
- the dashboard's numbers equal SQL on raw events over its windows.

Prints a table and, with --json, one JSON object. Exit code 1 if anything does not agree.
"""

import argparse
import json
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import psutil

from benchmarks.books import Refused
from benchmarks.costs import used_by
from benchmarks.whole_stack import whole_stack
from tests.e2e.local import Pipe, Stack

_BOOKS = """
SELECT
    (SELECT count(*) FROM ingest_batches WHERE read <> stored + duplicate + dead),
    (SELECT count(*) FROM (
        SELECT first_offset - lag(next_offset) OVER (PARTITION BY source, partition ORDER BY first_offset) AS gap
        FROM ingest_batches WHERE first_offset IS NOT NULL
    ) AS steps WHERE gap <> 0),
    (SELECT coalesce(sum(stored), 0)::bigint FROM ingest_batches) - (SELECT count(*) FROM events),
    (SELECT coalesce(sum(dead), 0)::bigint FROM ingest_batches) - (SELECT count(*) FROM dead_letter_events),
    (SELECT count(*) FROM ingest_offsets AS o WHERE o.next_offset <> (
        SELECT coalesce(max(b.next_offset), o.next_offset) FROM ingest_batches AS b
        WHERE b.source = o.source AND b.partition = o.partition
    ))
"""
_ROWS = """
SELECT sum(read)::bigint, sum(stored)::bigint, sum(duplicate)::bigint, sum(dead)::bigint,
    (SELECT count(*) FROM events WHERE is_late)
FROM ingest_batches
"""
_COUNTED = """
SELECT interval, sum(count)::bigint FROM metrics_live
WHERE metric_name = 'events.count' AND dimension_set = '' GROUP BY interval
"""
_DASHBOARD = """
WITH recent AS (SELECT * FROM events WHERE timestamp >= %(hour)s AND timestamp < %(end)s)
SELECT
    count(DISTINCT user_id) FILTER (WHERE timestamp >= %(active)s) AS active_users,
    count(*) FILTER (WHERE timestamp >= %(rate)s) / %(elapsed)s AS events_per_second,
    count(*) FILTER (WHERE event_type = 'order.placed') AS orders_placed,
    count(*) FILTER (WHERE event_type = 'order.filled') AS orders_filled,
    count(DISTINCT properties ->> 'strategy_id') FILTER (WHERE timestamp >= %(active)s) AS active_strategies,
    coalesce(sum((properties ->> 'price')::float8 * (properties ->> 'quantity')::float8)
        FILTER (WHERE event_type = 'order.filled'), 0) AS total_volume,
    coalesce(avg((properties ->> 'latency_ms')::float8)
        FILTER (WHERE event_type = 'order.filled'), 0) AS average_latency,
    coalesce(count(*) FILTER (WHERE event_type = 'order.rejected')::float8
        / nullif(count(*) FILTER (WHERE event_type = 'order.placed'), 0), 0) AS error_rate
FROM recent
"""
_DASHBOARD_FIELDS = (
    *("active_users", "events_per_second", "orders_placed", "orders_filled", "active_strategies"),
    *("total_volume", "average_latency", "error_rate"),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000, help="events per second")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    print("starting", flush=True)
    try:
        with whole_stack("--simulator", B25_SIMULATOR__RATE=str(arguments.rate)) as stack:
            return _measure(stack, arguments.minutes, arguments.rate, arguments.json)
    except Refused as refused:
        print(refused)
        return 1


def _measure(stack: Stack, minutes: float, rate: float, as_json: bool) -> int:
    pipe = Pipe(stack)
    started, before = time.monotonic(), _used(stack)
    landed = pipe.sql(_ROWS)[0][0]
    freshness: list[float] = []
    while time.monotonic() - started < minutes * 60:
        time.sleep(5)
        rows = pipe.sql(
            "SELECT extract(epoch FROM clock_timestamp() - max(timestamp))::float8 FROM events"
            " WHERE timestamp > now() - interval '1 minute' AND timestamp <= now()"
        )
        freshness.append(rows[0][0] if rows[0][0] is not None else 60.0)
        print(f"{time.monotonic() - started:6.0f} s  newest event {freshness[-1]:.2f} s old", flush=True)
    seconds = time.monotonic() - started
    used = _used(stack)
    read = pipe.sql(_ROWS)[0][0] - landed
    stack.run("stop", "simulator")
    problems = _settle(pipe)
    problems += _books(pipe)
    problems += _dashboard(pipe)
    totals = dict(zip(("read", "stored", "duplicate", "dead", "late"), pipe.sql(_ROWS)[0], strict=True))
    freshness.sort()
    report: dict[str, Any] = {
        "rate_asked": rate,
        "events_per_second": round(read / seconds, 1),
        "minutes": round(seconds / 60, 2),
        "totals": totals,
        "newest_event_age_p50_s": round(freshness[len(freshness) // 2], 3),
        "newest_event_age_max_s": round(freshness[-1], 3),
        "cpu_cores": {
            name: round((cpu - before.get(name, (0.0, 0))[0]) / seconds, 3) for name, (cpu, _) in used.items()
        },
        "memory_mb": {name: memory // 2**20 for name, (_, memory) in used.items()},
        "problems": problems,
    }
    _show(report, as_json)
    return 1 if problems else 0


def _settle(pipe: Pipe) -> list[str]:
    """Wait until nothing moves any more."""
    deadline, last = time.monotonic() + 60, -1
    while time.monotonic() < deadline:
        rows = int(pipe.sql("SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches")[0][0])
        if rows == last:
            return []
        last = rows
        time.sleep(3)
    return ["events are still landing a minute after the simulator stopped"]


def _books(pipe: Pipe) -> list[str]:
    names = (
        "ledger rows that do not balance",
        "gaps between batches of a partition",
        "stored by the ledger but not in events",
        "dead by the ledger but not in dead_letter_events",
        "partitions whose offset is not the end of their ledger",
    )
    found = [f"{name}: {value}" for name, value in zip(names, pipe.sql(_BOOKS)[0], strict=True) if value]
    rows = pipe.sql("SELECT count(*) FROM events")[0][0]
    counted = dict(pipe.sql(_COUNTED))
    found += [
        f"events.count at {level} is {counted.get(level)}, events has {rows} rows"
        for level in ("1m", "5m", "15m", "1h", "1d")
        if counted.get(level) != rows
    ]
    return found


def _dashboard(pipe: Pipe) -> list[str]:
    answer = pipe.api.get("/api/v1/dashboard/metrics").json()
    now = datetime.fromisoformat(answer["last_updated"])
    minute = now.replace(second=0, microsecond=0)
    windows = {
        "end": minute + timedelta(minutes=1),
        "rate": minute - timedelta(minutes=1),
        "active": minute - timedelta(minutes=5),
        "hour": minute - timedelta(minutes=60),
    }
    statement = _DASHBOARD
    for name, value in windows.items():
        statement = statement.replace(f"%({name})s", f"'{value.isoformat()}'")
    statement = statement.replace("%(elapsed)s", str((now - windows["rate"]).total_seconds()))
    raw = dict(zip(_DASHBOARD_FIELDS, pipe.sql(statement)[0], strict=True))
    return [
        f"dashboard {field} is {answer[field]}, raw events say {raw[field]}"
        for field in _DASHBOARD_FIELDS
        if abs(answer[field] - float(raw[field])) > 1e-6 * max(1.0, abs(float(raw[field])))
    ]


def _used(stack: Stack) -> dict[str, tuple[float, int]]:
    """CPU seconds and bytes of each process and its children."""
    found = {}
    for name, process in stack.status()["processes"].items():
        if process.get("pid"):
            try:
                found[name] = used_by(psutil.Process(process["pid"]))
            except psutil.NoSuchProcess:
                continue
    return found


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    totals = report["totals"]
    print(
        f"\n{report['events_per_second']} events/s landed for {report['minutes']} min (asked {report['rate_asked']:g})"
    )
    print("read {read} = stored {stored} + duplicate {duplicate} + dead {dead}; late {late}".format(**totals))
    print(
        f"newest event: p50 {report['newest_event_age_p50_s']} s, max {report['newest_event_age_max_s']} s old"
    )
    for name, cores in report["cpu_cores"].items():
        print(f"  {name:20} {cores:6.3f} cores {report['memory_mb'].get(name, 0):6} MB")
    print("\n".join(report["problems"]) or "books balance, intervals agree, dashboard equals raw events")


if __name__ == "__main__":
    sys.exit(main())
