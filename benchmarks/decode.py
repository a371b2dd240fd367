"""What one event costs before Postgres sees it, on one thread, without services.

    python -m benchmarks.decode [--events 200000] [--batch 20000] [--repeat 5] [--json FILE]

The stages of landing that are the program's own, over the same messages: `decode_batches`, `compute_deltas`, and
`Copier.encode` of events and of deltas. Per stage the best of the repetitions, in µs per event; beside it the CPU
time of the best and the slowest repetition: where they lie apart, something else was running and the figure is worth
little. Twice: with order ids that the parser's fast path takes, and with ids that it leaves to the exact reader.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from analytics_pipeline.events.decode import decode_batches
from analytics_pipeline.events.limits import Limits
from analytics_pipeline.events.properties import quick
from analytics_pipeline.events.schema import EVENTS_SCHEMA
from analytics_pipeline.events.times import micros
from analytics_pipeline.rollups.catalog import BUILT_IN
from analytics_pipeline.rollups.deltas import compute_deltas
from analytics_pipeline.rollups.schema import DELTAS_SCHEMA
from analytics_pipeline.storage.copying import Copier
from benchmarks import workload

_NOW = datetime(2026, 1, 15, 12, 0, 30, tzinfo=UTC)
"""Fixed, so that a seed gives the same messages, and as many delta rows, in every run."""
_EVENTS = Copier("events", EVENTS_SCHEMA, jsonb=frozenset({"properties"}))
_DELTAS = Copier("rollup_deltas", DELTAS_SCHEMA, jsonb=frozenset({"dimensions"}))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=20_000, help="events per batch")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=workload.SEED)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "batch": arguments.batch,
        "repeat": arguments.repeat,
        "plain": _measure(arguments, is_dashed=False),
        "dashed order ids": _measure(arguments, is_dashed=True),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _measure(arguments: argparse.Namespace, *, is_dashed: bool) -> dict[str, Any]:
    """The figures of one workload.

    Raises:
        SystemExit: an event was not accepted.
    """
    work = workload.make(arguments.events, seed=arguments.seed, end=micros(_NOW), is_dashed=is_dashed)
    # As with two workers: each owns half of the partitions.
    halves = (range(workload.PARTITIONS // 2), range(workload.PARTITIONS // 2, workload.PARTITIONS))
    batches = [batch for half in halves for batch in work.batches(arguments.batch, half)]
    limits = Limits()
    decoded = [decode_batches(batch, now=_NOW, limits=limits) for batch in batches]
    stored = sum(one.events.num_rows for one in decoded)
    if stored != len(work):
        sys.exit(f"only {stored} of {len(work)} events were accepted: no figure")
    deltas = [compute_deltas(one.events, BUILT_IN) for one in decoded]
    stages: dict[str, Callable[[], object]] = {
        "decode_batches": lambda: [decode_batches(batch, now=_NOW, limits=limits) for batch in batches],
        "compute_deltas": lambda: [compute_deltas(one.events, BUILT_IN) for one in decoded],
        "encode events": lambda: [_EVENTS.encode(one.events) for one in decoded],
        "encode deltas": lambda: [_DELTAS.encode(rows) for rows in deltas],
    }
    careful = _read_with_care(work, limits)
    found: dict[str, Any] = {
        "events": len(work),
        "seed": work.seed,
        "mean_bytes": round(work.mean_bytes, 1),
        "delta_rows_per_batch": round(sum(rows.num_rows for rows in deltas) / len(deltas), 1),
        "read_with_care": round(careful, 4),
        "us_per_event": {},
        "cpu_us_per_event": {},
        "slowest_us_per_event": {},
    }
    print(
        f"\nseed {work.seed}{', order ids with `e-`' if is_dashed else ''}: {len(work)} events of"
        f" {work.mean_bytes:.0f} bytes in batches of {arguments.batch}; {careful:.1%} cannot take the fast path"
    )
    for name, stage in stages.items():
        runs = sorted(_timed(stage) for _ in range(arguments.repeat))
        best, cpu, slowest = (value / len(work) * 1e6 for value in (*runs[0], runs[-1][0]))
        found["us_per_event"][name] = round(best, 3)
        found["cpu_us_per_event"][name] = round(cpu, 3)
        found["slowest_us_per_event"][name] = round(slowest, 3)
        print(
            f"{name:16} {best:7.3f} µs per event {1e6 / best:12,.0f} events/s;"
            f" CPU {cpu:7.3f}, slowest {slowest:7.3f}"
        )
    for figures in ("us_per_event", "cpu_us_per_event"):
        found[figures]["together"] = round(sum(found[figures].values()), 3)
    total = found["us_per_event"]["together"]
    print(
        f"{'together':16} {total:7.3f} µs per event {1e6 / total:12,.0f} events/s;"
        f" CPU {found['cpu_us_per_event']['together']:7.3f}; {found['delta_rows_per_batch']:g} delta rows a batch"
    )
    return found


def _read_with_care(work: workload.Workload, limits: Limits) -> float:
    """The share of messages whose properties `quick` leaves to `exact`."""
    most = limits.of_properties(False)
    values = [value for values in work.values for value in values]
    return sum(quick(bytes(_parse(value).properties), *most) is None for value in values) / len(values)


class _Event(msgspec.Struct):
    properties: msgspec.Raw


_parse = msgspec.json.Decoder(_Event).decode


def _timed(stage: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    stage()
    return time.perf_counter() - began, time.process_time() - cpu


if __name__ == "__main__":
    sys.exit(main())
