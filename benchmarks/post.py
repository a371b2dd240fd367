"""How fast events are posted: `make bench-post`.

Starts a Postgres of its own (settings of `make up`, fsync on), one API process with one worker, and the landing
process; posts single events over many connections, then NDJSON, from a second process, and waits until all of it has
landed. A run whose books do not balance has no figure. In the same run the ceilings: the same client against a bare
ASGI application that answers 201 at once, and COPY of the same events into the same table. Prints a table and writes
every figure to a JSON file.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.postgres import Postgres
from analytics_pipeline.settings import Retention, environment
from analytics_pipeline.storage.migrations import migrate
from analytics_pipeline.storage.partitions import ensure_partitions
from benchmarks import output
from benchmarks.costs import Costs, machine
from benchmarks.http_load import event_parts
from tests.waiting import wait_for

LINES = 1_000
_BOOKS = """
SELECT (SELECT coalesce(sum(accepted), 0)::bigint FROM http_accepted),
    (SELECT coalesce(sum(read), 0)::bigint FROM ingest_batches WHERE source = 'http'),
    (SELECT coalesce(sum(events), 0)::bigint FROM http_inbox),
    (SELECT coalesce(sum(stored), 0)::bigint FROM ingest_batches WHERE source = 'http'),
    (SELECT count(*) FROM events)
"""
_COPY = "COPY http_inbox (payload) FROM STDIN (FORMAT binary)"


class Bench:
    """The servers, and the runs over them."""

    def __init__(self, exits: ExitStack, folder: Path, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._folder = folder
        self._exits = exits
        server = Postgres(folder / "postgres", port=free_port(), database="bench")
        service = server.service()
        service.prepare(print)
        child = Child(service, folder)
        exits.callback(child.stop)
        child.start()
        child.wait_until_ready()
        service.once_ready()
        self.conninfo = server.conninfo()
        with psycopg.connect(self.conninfo) as opened:
            migrate(opened)
            opened.commit()
            ensure_partitions(opened, now=datetime.now(UTC), keep=Retention().raw_events, ahead_days=2)
        self.port = free_port()
        self.roots = {"postgres": child.pid or 0}
        self.roots["api"] = self._start("-m", "api").pid
        if arguments.landing:
            self.roots["ingest"] = self._start("-m", "analytics_pipeline.ingest").pid
        self._wait_for_port(self.port, "/ready")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        log = self._exits.enter_context((self._folder / f"{command[-1]}.log").open("wb"))
        variables = {name: value for name, value in environment().items() if not name.startswith("B25_")}
        variables |= {
            "B25_DATABASE__URL": self.conninfo,
            "B25_REDIS__ENABLED": "false",
            "B25_KAFKA__ENABLED": "false",
            "B25_HEALTH__ENABLED": "false",
            "B25_METRICS__PORT": str(free_port()),
            "B25_SERVER__PORT": str(self.port),
            "B25_CONFIG": os.devnull,
            "PROMETHEUS_MULTIPROC_DIR": str(self._folder),
        }
        started = subprocess.Popen([sys.executable, *command], env=variables, stdout=log, stderr=log)
        self._exits.callback(_stop, started)
        return started

    def _wait_for_port(self, port: int, path: str) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}{path}").status_code in {200, 201}
            except httpx.HTTPError:
                return False

        wait_for(is_ready, 60, f"port {port}")

    def post(self, kind: str, connections: int, events: int) -> dict[str, Any]:
        """Load for some seconds, wait until all has landed, and check the books."""
        before = self._books()
        with Costs(self.roots) as costs:
            began = time.time()
            figures = self._load(self.port, kind, connections, events)
            ended = time.time()
        cpu, elsewhere = costs.cpu_seconds(began, ended), costs.cores_elsewhere(began, ended)
        sent = figures["statuses"].get("201", 0) * events
        # More than landing takes fills the inbox: then POST says so, and nothing of the request is stored.
        refused = figures["statuses"].get("503", 0) if kind == "ndjson" else 0
        if figures["statuses"].get("201", 0) + refused != sum(figures["statuses"].values()):
            raise SystemExit(f"error: not every answer was 201: {figures['statuses']}")
        waiting = self._books()["waiting"]
        if self._arguments.landing:
            wait_for(lambda: self._books()["waiting"] == 0, 120, "everything landed")
        drained = time.time() - ended
        after = self._books()
        books = {name: after[name] - before[name] for name in after}
        if books["accepted"] != sent or books["accepted"] != books["read"] + books["waiting"]:
            raise SystemExit(f"error: the books do not balance: {sent} answered, {books}")
        if self._arguments.landing and not books["stored"] == books["events"] == sent:
            raise SystemExit(f"error: {sent} events were posted, {books} landed")
        return {
            "events_per_second": round(sent / figures["seconds"]),
            "requests_per_second": round(figures["requests"] / figures["seconds"]),
            "p50_ms": round(figures["p50_ms"], 2),
            "p99_ms": round(figures["p99_ms"], 2),
            "landed_after_s": round(drained, 2),
            "waiting_at_the_end": waiting,
            "refused_requests": refused,
            "cpu_us_per_request": {
                name: round(value / figures["requests"] * 1e6) for name, value in cpu.items()
            },
            "cores": {name: round(value / figures["seconds"], 2) for name, value in cpu.items()}
            | {
                "client": round(figures["cpu_seconds"] / figures["seconds"], 2),
                "elsewhere": round(elsewhere, 2),
            },
        }

    def bare(self, connections: int) -> dict[str, Any]:
        """The same client against an application that only reads the body and answers."""
        port = free_port()
        variables = environment()
        command = [
            str(Path(sys.executable).with_name("granian")),
            "--interface",
            "asgi",
            "--host",
            "127.0.0.1",
        ]
        command += [
            "--port",
            str(port),
            "--workers",
            "1",
            "--no-ws",
            "--log-level",
            "error",
            "benchmarks.post:bare_app",
        ]
        started = subprocess.Popen(command, env=variables)
        try:
            self._wait_for_port(port, "/")
            figures = self._load(port, "single", connections, 1)
        finally:
            _stop(started)
        return {
            "requests_per_second": round(figures["requests"] / figures["seconds"]),
            "p50_ms": round(figures["p50_ms"], 2),
            "p99_ms": round(figures["p99_ms"], 2),
        }

    def copy(self) -> dict[str, Any]:
        """COPY of single rows, a thousand a transaction, over one connection."""
        before, after = event_parts()
        batch = [before + b"%012x" % n + after for n in range(LINES)]
        rows, began = 0, time.perf_counter()
        with psycopg.connect(self.conninfo) as opened, opened.cursor() as cursor:
            while time.perf_counter() - began < self._arguments.seconds / 2:
                cursor.execute("SAVEPOINT nothing")
                with cursor.copy(_COPY) as copy:
                    copy.set_types(["bytea"])
                    for payload in batch:
                        copy.write_row((payload,))
                rows += LINES
                opened.commit()
            elapsed = time.perf_counter() - began
            cursor.execute("TRUNCATE http_inbox")
            opened.commit()
        return {"events_per_second": round(rows / elapsed)}

    def _load(self, port: int, kind: str, connections: int, events: int) -> dict[str, Any]:
        arguments = [str(port), kind, str(connections), str(self._arguments.seconds), str(events)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.http_load", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"error: the load generator failed: {done.stderr.strip().splitlines()[-1:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _books(self) -> dict[str, int]:
        with psycopg.connect(self.conninfo) as opened:
            row = opened.execute(_BOOKS).fetchone()
        assert row is not None
        return dict(zip(("accepted", "read", "waiting", "stored", "events"), map(int, row), strict=True))


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    """The peer: reads the body, answers as long as ours."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = b'{"success":true,"event_id":"00000000-0000-0000-0000-000000000000"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="b25-post-", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def main() -> int:
    arguments = _arguments()
    found: dict[str, Any] = {"machine": machine(), "client": "benchmarks/http_load.py", "single": {}}
    with _folder() as folder, ExitStack() as exits:
        bench = Bench(exits, folder, arguments)

        def note(figures: dict[str, Any], words: str) -> dict[str, Any]:
            print(f"{words}: {figures}", flush=True)
            return figures

        print(f"load average before: {found['machine']['load_at_start']:.2f}; client: {found['client']}")
        for connections in arguments.connections:
            made = bench.post("single", connections, 1)
            found["single"][connections] = note(made, f"single, {connections} connections")
            output.save(arguments.json, found)
        made = bench.post("ndjson", arguments.ndjson_connections, LINES)
        words = f"NDJSON of {LINES} events, {arguments.ndjson_connections} connections"
        found["ndjson"] = note(made, words)
        if arguments.ceilings:
            words = f"peer: bare ASGI application, {arguments.connections[0]} connections"
            found["bare"] = note(bench.bare(arguments.connections[0]), words)
            found["copy"] = note(
                bench.copy(), f"ceiling: COPY into the inbox, a row per event, {LINES} a transaction"
            )
    output.conclude(arguments.json, found, _table(found))
    return 0


def _table(found: dict[str, Any]) -> str:
    """What is printed at the end."""
    rows = [(f"single, {connections} connections", one) for connections, one in found["single"].items()]
    rows.append((f"NDJSON of {LINES} events", found["ndjson"]))
    rows += [("peer: bare ASGI application", found["bare"])] if "bare" in found else []
    lines = ["", f"{'':32}{'events/s':>10}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'landed after s':>16}"]
    for name, one in rows:
        events, landed_after = one.get("events_per_second"), one.get("landed_after_s", "")
        lines.append(
            f"{name:32}{'' if events is None else f'{events:,}':>10}{one['requests_per_second']:>12,}"
            f"{one['p50_ms']:>9}{one['p99_ms']:>9}{landed_after:>16}"
        )
    if refused := found["ndjson"]["refused_requests"]:
        lines.append(f"{refused:,} NDJSON requests were refused with 503, as the inbox was full")
    if "copy" in found:
        lines.append(f"{'ceiling: COPY into the inbox':32}{found['copy']['events_per_second']:>10,}")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--ndjson-connections", type=int, default=4)
    parser.add_argument(
        "--no-landing", dest="landing", action="store_false", help="without the landing process"
    )
    parser.add_argument("--no-ceilings", dest="ceilings", action="store_false")
    output.add_option(parser, "post")
    arguments = parser.parse_args()
    output.prepare(arguments.json)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
