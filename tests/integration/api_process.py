"""The API as a process of its own, with ports of its own."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from analytics_pipeline.local_stack.ports import free_port
from analytics_pipeline.settings import environment

_ROOT = Path(__file__).parents[2]


class Process:
    """`python -m api` with ports of its own."""

    def __init__(self, database: str, *, log: IO[str] | None = None, **changes: str) -> None:
        self.ports = {name: free_port() for name in ("SERVER", "METRICS", "HEALTH")}
        variables = {f"B25_{name}__PORT": str(port) for name, port in self.ports.items()}
        self.running = subprocess.Popen(
            [sys.executable, "-m", "api"],
            cwd=_ROOT,
            env=environment()
            | {"B25_DATABASE__URL": database, "B25_REDIS__ENABLED": "false", "PYTHONPATH": str(_ROOT)}
            | variables
            | changes,
            stderr=subprocess.PIPE if log is None else log,
            text=True,
        )

    def ask(self, port: str, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


@contextmanager
def started(database: str, *, log: IO[str] | None = None, **changes: str) -> Iterator[Process]:
    """Without a `log` nobody reads what it writes until it ends: so much that a pipe is full would stop it."""
    process = Process(database, log=log, **changes)
    try:
        yield process
    finally:
        if process.running.poll() is None:
            process.running.send_signal(signal.SIGTERM)
            try:
                process.running.wait(20)
            except subprocess.TimeoutExpired:
                process.running.kill()
        if process.running.stderr is not None and not process.running.stderr.closed:
            process.running.communicate()
