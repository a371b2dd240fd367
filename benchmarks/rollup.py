"""What rollups cost: `make bench-rollup`.

Starts a Postgres of its own (settings of `make up`, fsync on) and measures: recompute of an hour from raw events,
against plain SQL and against the bare read of the same rows, in the same run; its memory by events; live merges by
event rate; one late event by its age; a 1d bucket by the events behind it; WAL and sizes after 24 simulated hours.
Prints a table and writes every figure to a JSON file. What is measured and how: docs/benchmarks.md.
"""

import argparse
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics_pipeline.errors import AnalyticsError
from benchmarks import days, merging, output, recomputing, rollup_report
from benchmarks.costs import machine
from benchmarks.servers import Servers

EVENTS, QUICK_EVENTS = 3_000_000, 300_000
PARTS = ("recompute", "memory", "merge", "late", "day", "size")
SEED = 20_251


def main() -> int:
    arguments = _arguments()
    # As an exception, so that the servers are stopped and the folder goes away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, Any] = {
        "machine": machine(),
        "settings": {
            name: getattr(arguments, name) for name in ("events", "repeat", "hours", "rate", "seed", "quick")
        },
    }
    print(f"seed {arguments.seed}", flush=True)
    try:
        with Servers(with_kafka=False) as servers:
            found["settings"] |= {"postgres": servers.durability()}
            for part in arguments.only:
                print(part, flush=True)
                found[part] = _measure(part, servers, arguments)
                output.save(arguments.json, found)
    except AnalyticsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    output.conclude(arguments.json, found, rollup_report.table(found))
    return 0


def _measure(part: str, servers: Servers, arguments: argparse.Namespace) -> dict[str, Any]:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    hour, seed, is_quick = day + timedelta(hours=10), arguments.seed, arguments.quick
    match part:
        case "recompute":
            return recomputing.measure(
                servers, hour, events=arguments.events, seed=seed, repeat=arguments.repeat
            )
        case "memory":
            sizes = recomputing.QUICK_SIZES if is_quick else recomputing.SIZES
            return recomputing.memory(servers, hour, seed=seed, sizes=sizes)
        case "merge":
            rates = merging.QUICK_RATES if is_quick else merging.RATES
            return merging.by_rate(servers, hour, seed=seed, minutes=1 if is_quick else 5, rates=rates)
        case "late":
            return merging.late_events(servers, seed=seed, repeat=5 if is_quick else 30)
        case "day":
            return days.buckets_of_a_day(servers, day, seed=seed, repeat=3 if is_quick else 10)
        case _:
            return days.after_a_day(servers, day, hours=arguments.hours, rate=arguments.rate, seed=seed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, help=f"of the hour that is recomputed, default {EVENTS:,}")
    parser.add_argument("--repeat", type=int, help="recompute, SQL and read by turns; default 3")
    parser.add_argument("--hours", type=int, help="simulated hours of the part `size`; default 24")
    parser.add_argument("--rate", type=float, default=10.0, help="events/s of the part `size`; default 10")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="leave out the other parts")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EVENTS:,} events, once: for trying")
    parser.add_argument("--seed", type=int, default=SEED)
    output.add_option(parser, "rollup")
    arguments = parser.parse_args()
    arguments.events = arguments.events or (QUICK_EVENTS if arguments.quick else EVENTS)
    arguments.repeat = arguments.repeat or (1 if arguments.quick else 3)
    arguments.hours = arguments.hours or (1 if arguments.quick else 24)
    output.prepare(arguments.json)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
