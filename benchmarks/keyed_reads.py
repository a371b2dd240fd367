"""How fast cached reads are, without keys, with keys, and with the limit in Redis: `python -m benchmarks.keyed_reads`.

Starts a Postgres and a Redis of its own and one API process with one worker; asks the same cached metric with `wrk`
(of the distribution) from two threads. A run with an answer other than 200 has no figure.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.api_keys import create_key, new_key
from benchmarks.servers import Servers
from tests.waiting import wait_for

_MANY = {
    "B25_SECURITY__RATE_LIMIT__REQUESTS_PER_MINUTE": "60000000",
    "B25_SECURITY__RATE_LIMIT__BURST": "1000000",
}
_VARIANTS = {
    "anonymous": {},
    "key, no limit": {"B25_SECURITY__API_KEY_ENABLED": "true", "B25_SECURITY__RATE_LIMIT__ENABLED": "false"},
    "key, limit in the process": {
        "B25_SECURITY__API_KEY_ENABLED": "true",
        "B25_REDIS__ENABLED": "false",
        **_MANY,
    },
    "key, limit in Redis": {"B25_SECURITY__API_KEY_ENABLED": "true", **_MANY},
}


@contextmanager
def _api(variables: dict[str, str], headers: dict[str, str]) -> Iterator[str]:
    ports = {name: str(free_port()) for name in ("SERVER", "METRICS", "HEALTH")}
    running = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env={name: value for name, value in environment().items() if not name.startswith("B25_")}
        | {f"B25_{name}__PORT": port for name, port in ports.items()}
        | variables,
    )
    url = f"http://127.0.0.1:{ports['SERVER']}"
    try:
        wait_for(lambda: _status(f"{url}/ready", headers) == 200, timeout=60, message="/ready")
        wait_for(lambda: _status(f"{url}/api/v1/events/stats", headers) == 200, timeout=10, message="the key")
        yield url
    finally:
        running.terminate()
        running.wait(30)


def _status(url: str, headers: dict[str, str]) -> int:
    try:
        return httpx.get(url, headers=headers, timeout=5).status_code
    except httpx.TransportError:
        return 0


def _wrk(url: str, headers: dict[str, str], connections: int, seconds: int) -> str:
    options = [option for name, value in headers.items() for option in ("-H", f"{name}: {value}")]
    command = [
        "wrk",
        "--latency",
        f"-t{min(2, connections)}",
        f"-c{connections}",
        f"-d{seconds}s",
        *options,
        url,
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        return "no figure: answers other than 200"
    found = {name: re.search(pattern, text) for name, pattern in (
        ("p50", r"50%\s+(\S+)"), ("p99", r"99%\s+(\S+)"), ("requests/s", r"Requests/sec:\s+(\S+)"),
    )}  # fmt: skip
    return "   ".join(f"{name} {match[1]}" for name, match in found.items() if match)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="of each run")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32, 256])
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not on PATH: apt-get install wrk", file=sys.stderr)
        return 3
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=30)
    start = end - timedelta(hours=24)
    times = f"start_time={start:%Y-%m-%dT%H:%M:%SZ}&end_time={end:%Y-%m-%dT%H:%M:%SZ}"
    path = f"/api/v1/metrics?metric_name=events.count&interval=1h&{times}"
    with Servers(with_kafka=False) as servers, servers.database() as database:
        redis = Redis(servers.folder / "redis", port=free_port())
        service = redis.service()
        service.prepare(print)
        child = Child(service, servers.folder)
        child.start()
        try:
            child.wait_until_ready()
            key = new_key("bench", ["read"], now=datetime.now(UTC))
            with psycopg.connect(database) as opened:
                create_key(opened, key)
            variables = {
                "B25_DATABASE__URL": database, "B25_REDIS__HOST": redis.host, "B25_REDIS__PORT": str(redis.port),
                "B25_REDIS__PASSWORD": redis.password or "",
            }  # fmt: skip
            for name, changes in _VARIANTS.items():
                headers = {"X-API-Key": key.text} if "key" in name else {}
                with _api(variables | changes, headers) as url:
                    httpx.get(url + path, headers=headers)
                    for connections in arguments.connections:
                        figures = _wrk(url + path, headers, connections, arguments.seconds)
                        print(f"{name:28} c={connections:<4} {figures}", flush=True)
        finally:
            child.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
