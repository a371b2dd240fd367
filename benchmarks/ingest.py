"""How fast landing is, and how near to what Postgres can take: `make bench-ingest`.

Starts its own Kafka and Postgres (settings of `make up`, fsync on), fills a topic of 4 partitions from a seed, then by
turns runs the production consumer, as a process of its own with everything on, and the ceiling: COPY of the same rows
and deltas, encoded before, over as many connections in batches as large. A run whose books do not balance has no
figure. Prints a table and writes every figure to a JSON file. What is measured and how: docs/benchmarks.md.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from analytics_pipeline.errors import AnalyticsError
from benchmarks import books, ceiling, consumer, output, report, workload
from benchmarks.costs import Costs, machine
from benchmarks.servers import Servers
from benchmarks.workload import PARTITIONS, Workload

EVENTS, QUICK_EVENTS = 1_000_000, 200_000
BATCH_SIZES = (1_000, 5_000, 10_000, 20_000, 50_000)
CONNECTIONS = (1, 2, 4)
FAULTS = ("duplicate", "broken", "late")
FAULT_SHARE = 0.01
CHUNK = 500_000


class Bench:
    """The servers, and the runs over them."""

    def __init__(self, servers: Servers, arguments: argparse.Namespace) -> None:
        self._servers = servers
        self._arguments = arguments
        self._runs = 0

    def fill(self, name: str, **kind: Any) -> tuple[str, Workload]:
        """A topic with messages of a kind, sent before anything is measured."""
        work = workload.make(self._arguments.events, seed=self._arguments.seed, **kind)
        topic = f"{workload.TOPIC}.{name}"
        self._servers.create_topic(topic, PARTITIONS)
        began = time.monotonic()
        self._servers.send(topic, work)
        print(
            f"sent {len(work):,} messages of {work.mean_bytes:.0f} bytes to {topic}"
            f" in {time.monotonic() - began:.1f} s",
            flush=True,
        )
        return topic, work

    def consume(
        self, topic: str, expected: books.Expected, *, workers: int, batch_size: int
    ) -> dict[str, Any]:
        """One run of the consumer, its books checked."""
        self._runs += 1
        folder = self._servers.folder / f"consumer-{self._runs}"
        with (
            self._servers.database() as database,
            consumer.process(
                folder,
                database,
                self._servers.kafka.address,
                topic,
                workers=workers,
                batch_size=batch_size,
            ) as running,
            Costs({"ingest": running.pid, **self._roots}) as costs,
        ):
            done = consumer.wait_until_landed(database, running, expected.read, folder / "ingest.log")
            books.check_landed(database, expected)
        figures = self._figures(costs, expected.read, done.began, done.ended)
        figures |= {
            "batches": done.batches,
            "second_half_events_per_second": round(done.second_half) if done.second_half else None,
            "seconds_from_start_of_process": round(done.ended - done.started, 3),
            "peak_rss_mb": round(costs.peak_rss["ingest"] / 2**20),
        }
        print(f"  consumer {figures['events_per_second']:>9,} events/s", flush=True)
        return figures

    def copy(self, prepared: list[list[ceiling.Encoded]]) -> dict[str, Any]:
        """One run of the ceiling, its tables checked."""
        rows = sum(batch.rows for batches in prepared for batch in batches)
        with self._servers.database() as database:
            with Costs(self._roots) as costs:
                began, ended = ceiling.run(database, prepared)
            books.check_copied(database, rows)
        figures = self._figures(costs, rows, began, ended)
        print(f"  ceiling  {figures['events_per_second']:>9,} events/s", flush=True)
        return figures

    def by_turns(
        self, topic: str, work: Workload, expected: books.Expected, *, workers: int, batch_size: int
    ) -> dict[str, Any]:
        """Consumer and ceiling, one after the other, as often as asked for."""
        prepared = ceiling.prepare(work, connections=workers, batch_size=batch_size)
        consumed, copied = [], []
        for _ in range(self._arguments.repeat):
            consumed.append(self.consume(topic, expected, workers=workers, batch_size=batch_size))
            copied.append(self.copy(prepared))
        return report.compare(consumed, copied)

    def backlog(self, count: int) -> dict[str, Any]:
        """The consumer behind a backlog, sent in chunks so that it need not fit in memory here."""
        topic, sent, chunks = f"{workload.TOPIC}.backlog", 0, 0
        self._servers.create_topic(topic, PARTITIONS)
        while sent < count:
            size = min(CHUNK, count - sent)
            self._servers.send(topic, workload.make(size, seed=self._arguments.seed + chunks))
            sent, chunks = sent + size, chunks + 1
            print(f"sent {sent:,} of {count:,}", flush=True)
        expected = books.Expected(count, count, 0, 0)
        arguments = self._arguments
        return self.consume(topic, expected, workers=arguments.workers, batch_size=arguments.batch)

    @property
    def _roots(self) -> dict[str, int]:
        return {"postgres": self._servers.postgres_pid, "kafka": self._servers.kafka_pid}

    @staticmethod
    def _figures(costs: Costs, events: int, began: float, ended: float) -> dict[str, Any]:
        cpu = costs.cpu_seconds(began, ended)
        return {
            "events": events,
            "seconds": round(ended - began, 3),
            "events_per_second": round(events / (ended - began)),
            "cpu_seconds_per_million": {
                name: round(seconds / events * 1e6, 2) for name, seconds in cpu.items()
            },
            "cores_elsewhere": round(costs.cores_elsewhere(began, ended), 2),
        }


def main() -> int:
    arguments = _arguments()
    # As an exception, so that the servers are stopped and the folder goes away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, Any] = {
        "machine": machine(),
        "settings": {
            "events": arguments.events,
            "partitions": PARTITIONS,
            "workers": arguments.workers,
            "batch_size": arguments.batch,
            "repeat": arguments.repeat,
            "seed": arguments.seed,
            "quick": arguments.quick,
        },
    }
    try:
        with Servers() as servers:
            found["settings"] |= {"postgres": servers.durability()}
            _measure(Bench(servers, arguments), arguments, found, lambda: output.save(arguments.json, found))
        if arguments.freshness:
            from benchmarks import freshness  # the test stack is only needed here

            found["freshness"] = [freshness.measure(rate) for rate in freshness.RATES]
    except AnalyticsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    output.conclude(arguments.json, found, report.table(found))
    return 0


def _measure(
    bench: Bench, arguments: argparse.Namespace, found: dict[str, Any], save: Callable[[], None]
) -> None:
    plain = {"workers": arguments.workers, "batch_size": arguments.batch}
    print(f"seed {arguments.seed}", flush=True)
    topic, work = bench.fill("clean")
    found["settings"]["mean_bytes"] = round(work.mean_bytes, 1)
    expected = books.expect(work)
    found["main"] = bench.by_turns(topic, work, expected, **plain)
    save()
    if arguments.seed_lines:
        found["seed_lines"] = bench.by_turns(topic, work, expected, workers=1, batch_size=1_000)
        save()
    if arguments.batch_sizes:
        found["batch_sizes"] = {
            size: bench.by_turns(topic, work, expected, workers=arguments.workers, batch_size=size)
            for size in BATCH_SIZES
        }
        save()
    if arguments.connections:
        found["connections"] = {
            count: bench.by_turns(topic, work, expected, workers=count, batch_size=arguments.batch)
            for count in CONNECTIONS
        }
        save()
    if arguments.faults:
        kinds: dict[str, dict[str, Any]] = {kind: {kind: FAULT_SHARE} for kind in FAULTS}
        kinds["dashed order ids"] = {"is_dashed": True}
        found["faults"] = {}
        for name, kind in kinds.items():
            topic, faulty = bench.fill(name.replace(" ", "-"), **kind)
            result = books.expect(faulty)
            runs = [bench.consume(topic, result, **plain) for _ in range(arguments.repeat)]
            found["faults"][name] = report.against(runs, found["main"]["consumer"]) | {"became": vars(result)}
            save()
    if arguments.backlog:
        found["backlog"] = bench.backlog(arguments.backlog)
        save()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, help=f"default {EVENTS:,}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EVENTS:,} events, once: for trying")
    parser.add_argument("--repeat", type=int, help="how often each is run by turns; default 3")
    parser.add_argument("--workers", type=int, default=2, choices=(1, 2, 4), help="landing connections")
    parser.add_argument("--batch", type=int, default=20_000, help="rows per transaction")
    parser.add_argument("--seed", type=int, default=workload.SEED)
    output.add_option(parser, "ingest")
    parser.add_argument(
        "--no-seed-lines", dest="seed_lines", action="store_false", help="leave out 1 × 1,000"
    )
    parser.add_argument("--batch-sizes", action="store_true", help=f"also {BATCH_SIZES}")
    parser.add_argument("--connections", action="store_true", help=f"also {CONNECTIONS}")
    parser.add_argument("--faults", action="store_true", help="also with 1 %% duplicates, broken, late")
    parser.add_argument("--freshness", action="store_true", help="also produce → visible by SQL and API")
    parser.add_argument("--backlog", type=int, default=0, metavar="N", help="also memory behind N messages")
    arguments = parser.parse_args()
    arguments.events = arguments.events or (QUICK_EVENTS if arguments.quick else EVENTS)
    arguments.repeat = arguments.repeat or (1 if arguments.quick else 3)
    output.prepare(arguments.json)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
