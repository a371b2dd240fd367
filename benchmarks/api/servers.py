"""The API as production runs it, and the bare application under the same server.

Belongs here: processes, ports, settings. Does not belong here: Postgres (`benchmarks.servers`), load (`wrk`).
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from analytics_pipeline.local_stack.child import Child
from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.local_stack.redis import Redis
from analytics_pipeline.settings import environment
from analytics_pipeline.storage.api_keys import create_key, new_key
from benchmarks.api import bare
from tests.waiting import wait_for

# So many that none is refused, counted all the same.
_MANY = {
    "B25_SECURITY__RATE_LIMIT__REQUESTS_PER_MINUTE": "60000000",
    "B25_SECURITY__RATE_LIMIT__BURST": "1000000",
}
_KEYED = {"B25_SECURITY__API_KEY_ENABLED": "true"}
VARIANTS: dict[str, dict[str, str]] = {
    "anonymous": {},
    "key": _KEYED | {"B25_SECURITY__RATE_LIMIT__ENABLED": "false"},
    "key, limit in the process": _KEYED | _MANY | {"B25_REDIS__ENABLED": "false"},
    "key and limit": _KEYED | _MANY,
    "no cache": {"B25_ANALYTICS__QUERY__CACHE_ENABLED": "false"},
}
"""How the API is run: its settings beside the defaults."""

_COUNTER = re.compile(r"^(analytics_\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Running:
    """A server under load."""

    url: str
    pid: int
    headers: Mapping[str, str]
    metrics_url: str | None = None

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One answer."""
        return httpx.get(self.url + path, headers={**self.headers, **headers}, timeout=60)

    def queries(self) -> dict[str, int]:
        """How often each kind of query ran so far, by the server's own count over all its processes."""
        assert self.metrics_url is not None
        text = httpx.get(self.metrics_url, timeout=30).text
        return {
            labels: int(float(value))
            for name, labels, value in _COUNTER.findall(text)
            if name == "analytics_query_duration_seconds_count"
        }


@contextmanager
def redis(folder: Path) -> Iterator[tuple[Redis, int]]:
    """A Redis as `make up` starts it, and its process."""
    server = Redis(folder / "redis", port=free_port())
    service = server.service()
    service.prepare(print)
    child = Child(service, folder)
    child.start()
    try:
        child.wait_until_ready()
        yield server, child.pid or 0
    finally:
        child.stop()


def make_key(conninfo: str) -> str:
    """A key that reads and writes."""
    key = new_key("bench", ["read", "write"], now=datetime.now(UTC))
    with psycopg.connect(conninfo) as opened:
        create_key(opened, key)
    return key.text


@contextmanager
def api(
    variant: str, folder: Path, conninfo: str, cache: Redis, key: str, *, workers: int
) -> Iterator[Running]:
    """The API with so many workers."""
    ports = {name: str(free_port()) for name in ("SERVER", "METRICS", "HEALTH")}
    variables = {f"B25_{name}__PORT": port for name, port in ports.items()} | {
        "B25_DATABASE__URL": conninfo,
        "B25_REDIS__HOST": cache.host,
        "B25_REDIS__PORT": str(cache.port),
        "B25_REDIS__PASSWORD": cache.password,
        "B25_SERVER__WORKERS": str(workers),
        "B25_CONFIG": os.devnull,
        **VARIANTS[variant],
    }
    headers = {"X-API-Key": key} if variant.startswith("key") else {}
    command = [sys.executable, "-m", "api"]
    with _started(command, variables, folder / "api.log") as process:
        running = Running(
            f"http://127.0.0.1:{ports['SERVER']}",
            process.pid,
            headers,
            f"http://127.0.0.1:{ports['METRICS']}/metrics",
        )
        _wait_until_there(running, "/api/v1/events/stats")
        yield running


@contextmanager
def bare_application(folder: Path, *, workers: int, length: int) -> Iterator[Running]:
    """The peer, its body as long as one of ours."""
    port = str(free_port())
    command = [
        str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--http", "1", "--no-ws", "--host",
        "127.0.0.1", "--port", port, "--workers", str(workers), "--log-level", "warning", "benchmarks.api.bare:app",
    ]  # fmt: skip
    with _started(command, {bare.LENGTH: str(length)}, folder / "bare.log") as process:
        running = Running(f"http://127.0.0.1:{port}", process.pid, {})
        _wait_until_there(running, "/")
        yield running


@contextmanager
def _started(
    command: list[str], variables: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[Any]"]:
    inherited = {name: value for name, value in environment().items() if not name.startswith("B25_")}
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=inherited | dict(variables), stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_there(running: Running, path: str) -> None:
    def answers() -> bool:
        try:
            return running.get(path).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, 60, f"{path} answers")
