"""How fast the API answers, with 90 days behind it: `make bench-api`.

Starts a Postgres and a Redis of its own (settings of `make up`, fsync on), fills them, and asks the API, run as in
production, with `wrk`: cached answers, answers nobody has asked for yet, lists of events at any depth, POST; without
keys on loopback, and with keys and limit; with one worker and two. In the same run a bare ASGI application under the
same server. A figure is there only if the answers were right. Prints a table and writes every figure to a JSON file.
What is measured and how: docs/benchmarks.md.
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from analytics_pipeline.errors import AnalyticsError
from benchmarks import output
from benchmarks.api import data, questions, report, servers, wrk
from benchmarks.api.measuring import Meter
from benchmarks.api.questions import Case
from benchmarks.api.servers import Running
from benchmarks.costs import machine
from benchmarks.servers import Servers

SEED = 20_251
CONNECTIONS = (1, 32, 256)
_PROGRAM_FOLDER = Path(__file__).parents[2] / ".venv" / "wrk"
_BARE = "bare ASGI application"
_KEYED = frozenset({"metrics", "dashboard", "304", "metrics, 24 h at 1m", "POST"})
"""What is asked with keys, too."""


class Bench:
    """The servers, and the runs over them."""

    def __init__(
        self, arguments: argparse.Namespace, stored: data.Stored, meter: Meter, folder: Path
    ) -> None:
        self._arguments = arguments
        self._stored = stored
        self._meter = meter
        self._folder = folder
        self._minute = data.OpenMinute(arguments.open_rate, seed=arguments.seed)
        self.runs: list[dict[str, Any]] = []

    def run(self, cache: Any, key: str) -> None:
        """Everything that was asked for."""
        for workers in self._arguments.workers:
            with servers.bare_application(self._folder, workers=workers, length=1_500) as running:
                peer = Case(_BARE, ("/",), bool)
                self._measure(_BARE, running, workers, [peer])
            for variant in self._arguments.variants:
                self._minute.land(self._stored.conninfo)
                with servers.api(
                    variant, self._folder, self._stored.conninfo, cache, key, workers=workers
                ) as running:
                    self._measure(variant, running, workers, self._cases(variant))

    def _cases(self, variant: str) -> Iterable[Case]:
        if variant == "no cache":
            yield questions.dashboard(self._stored)
            return
        cases = [
            *questions.cached(self._stored),
            *questions.uncached(self._stored),
            *questions.events(self._stored),
        ]
        for case in [*cases, questions.post()]:
            if variant == "anonymous" or case.name in _KEYED:
                yield case

    def _measure(self, variant: str, running: Running, workers: int, cases: Iterable[Case]) -> None:
        run: dict[str, Any] = {"variant": variant, "workers": workers, "cases": {}, "goals": {}}
        self.runs.append(run)
        for case in cases:
            if not any(part in case.name for part in self._arguments.only):
                continue
            if goal := case.goals.get(variant):
                run["goals"][case.name] = asdict(goal)
            # Whoever asks the same at the same time shares one query: that would not be the query's time.
            connections = (1,) if variant == "no cache" else self._arguments.connections
            for number in connections:
                figures = self._meter.measure(case, running, number)
                run["cases"].setdefault(case.name, {})[str(number)] = figures
                print(f"  {variant}, {workers}: {case.name}, c = {number}: {_short(figures)}", flush=True)
                if case.post:
                    with psycopg.connect(self._stored.conninfo, autocommit=True) as opened:
                        opened.execute("TRUNCATE http_inbox, http_accepted")


def _short(figures: dict[str, Any]) -> str:
    if "no_figure" in figures:
        return f"no figure: {figures['no_figure']}"
    return f"{figures['requests_per_second']:,}/s, p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms"


def main() -> int:
    arguments = _arguments()
    # As an exception, so that the servers are stopped and the folder goes away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, Any] = {"machine": machine()}
    try:
        program = wrk.find(_PROGRAM_FOLDER)
        with (
            Servers(with_kafka=False) as own,
            own.database() as conninfo,
            servers.redis(own.folder) as (cache, redis_pid),
        ):
            print(f"making {arguments.days} days, seed {arguments.seed}", flush=True)
            stored = data.fill(
                conninfo,
                days=arguments.days,
                raw_days=arguments.raw_days,
                rate=arguments.rate,
                seed=arguments.seed,
            )
            own.checkpoint()
            found["settings"] = _settings(arguments) | {"client": "wrk", "postgres": own.durability()}
            found["data"] = stored.sizes()
            print(f"  {found['data']}", flush=True)
            others = {"postgres": own.postgres_pid, "redis": redis_pid}
            meter = Meter(program, own.folder, others, seconds=arguments.seconds)
            bench = Bench(arguments, stored, meter, own.folder)
            bench.run(cache, servers.make_key(conninfo))
            found["runs"] = [run for run in bench.runs if run["cases"]]
    except AnalyticsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    found["goals"] = report.judged(found["runs"])
    output.conclude(arguments.json, found, report.table(found))
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    names: Sequence[str] = (
        "days",
        "raw_days",
        "rate",
        "open_rate",
        "seconds",
        "connections",
        "seed",
        "quick",
    )
    return {name: getattr(arguments, name) for name in names}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.api",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--days", type=int, help="of rollups; default 90")
    parser.add_argument("--raw-days", type=int, help="of events; default 7")
    parser.add_argument("--rate", type=float, help="events/s of the days, default 5")
    parser.add_argument(
        "--open-rate", type=int, help="events/s of the minute that nobody has merged; default 10,000"
    )
    parser.add_argument("--seconds", type=float, help="of each run, default 5")
    parser.add_argument(
        "--connections", type=int, nargs="+", help=f"default {' '.join(map(str, CONNECTIONS))}"
    )
    parser.add_argument("--workers", type=int, nargs="+", help="of the API; default 1 2")
    parser.add_argument(
        "--variants", nargs="+", choices=servers.VARIANTS, default=["anonymous", "no cache", "key and limit"]
    )
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose name holds one of these")
    parser.add_argument("--quick", action="store_true", help="few days, short runs: for trying")
    parser.add_argument("--seed", type=int, default=SEED)
    output.add_option(parser, "api")
    arguments = parser.parse_args()
    usual: dict[str, Any] = {"days": 90, "raw_days": 7, "rate": 5.0, "open_rate": 10_000, "seconds": 5.0}
    usual |= {"connections": CONNECTIONS, "workers": [1, 2]}
    quick: dict[str, Any] = {"days": 2, "raw_days": 2, "rate": 2.0, "open_rate": 1_000, "seconds": 1.0}
    quick |= {"connections": (1, 32), "workers": [1]}
    for name, value in (quick if arguments.quick else usual).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    output.prepare(arguments.json)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
